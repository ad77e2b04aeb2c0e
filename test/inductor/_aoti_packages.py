# Owner(s): ["module: inductor"]
"""AOTInductor packages of the dispatched models, and other processes that run them."""

import functools
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from _dispatched_models import DispatchedModel, FIRST_SIZE, MODEL_BY_NAME, NAMESPACE

import torch
from torch._inductor.codecache import AotCodeCompiler
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.range_dispatch.record.records import (
    DispatchRecord,
    record_dispatches,
)
from torch.utils import cpp_extension


_directory = tempfile.TemporaryDirectory()

_PYTHON_PROGRAM = """
import importlib, sys
import torch
package, given, returned, *modules = sys.argv[1:]
for module in modules:
    importlib.import_module(module)
compiled = torch._inductor.aoti_load_package(package)
calls = torch.load(given)
torch.save([(compiled(*call), call) for call in calls], returned)
print("\\n".join(sys.modules))
"""


@dataclass(frozen=True)
class Package:
    """A compiled model: how it was made, and what its archive holds.

    ``ops`` has the schemas of the models' own ops that the code calls by name.
    """

    path: Path
    records: Sequence[DispatchRecord]
    graphs_compiled: int
    libraries: Sequence[str]
    wrapper: str
    ops: Sequence[str]


@dataclass(frozen=True)
class Run:
    """What each call in another process returned, and made of its arguments.

    ``modules`` are those that Python had imported; ``compiled`` is what the process put
    into its cache of compiled code.
    """

    results: Sequence[tuple[Any, Sequence[torch.Tensor]]]
    modules: Sequence[str]
    compiled: Sequence[Path]


def export(model: DispatchedModel, device: str = "cpu") -> torch.export.ExportedProgram:
    """The model for every number of rows from 2."""
    rows = torch.export.Dim("rows", min=2)
    inputs = model.inputs(FIRST_SIZE, device)
    varying = [{0: rows} if i < model.varying else None for i in range(len(inputs))]
    return torch.export.export(
        model.module(), tuple(inputs), dynamic_shapes=(tuple(varying),)
    )


@functools.cache
def package(name: str) -> Package:
    """The package of the model of that name, compiled once in this process."""
    model = MODEL_BY_NAME[name]
    path = Path(_directory.name) / f"{name}.pt2"
    with (
        model.registered(),
        record_dispatches() as records,
        mock.patch.object(
            AotCodeCompiler, "compile", wraps=AotCodeCompiler.compile
        ) as compiler,
    ):
        torch._inductor.aoti_compile_and_package(
            export(model), package_path=os.fspath(path)
        )
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        (wrapper,) = (name for name in names if name.endswith(".wrapper.cpp"))
        return Package(
            path,
            records,
            compiler.call_count,
            [name for name in names if name.endswith(".so")],
            archive.read(wrapper).decode(),
            _own_ops(archive),
        )


def _own_ops(archive: zipfile.ZipFile) -> list[str]:
    # The code calls these by their place in the list, so their names are beside it.
    targets = [
        node["node"]["target"].split("::")
        for name in archive.namelist()
        if name.endswith(".wrapper.json")
        for node in json.loads(archive.read(name))["nodes"]
    ]
    own = sorted({name for namespace, name in targets if namespace == NAMESPACE})
    namespace = getattr(torch.ops, NAMESPACE)
    return [str(getattr(namespace, name).default._schema) for name in own]


@functools.cache
def _cpp_program() -> Path:
    """A program without Python that runs packages, linked to libtorch."""
    source = Path(__file__).with_name("_run_aoti_package.cpp")
    program = Path(_directory.name) / source.stem
    libraries = cpp_extension.library_paths()
    subprocess.run(
        [
            get_cpp_compiler(),
            "-std=c++20",
            "-w",
            f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}",
            f'-DNAMESPACE="{NAMESPACE}"',
            *(f"-I{path}" for path in cpp_extension.include_paths()),
            os.fspath(source),
            "-o",
            os.fspath(program),
            *(f"-L{path}" for path in libraries),
            *(f"-Wl,-rpath,{path}" for path in libraries),
            *("-ltorch", "-ltorch_cpu", "-lc10"),
        ],
        check=True,
    )
    return program


def run_in_fresh_python(
    compiled: Package, calls: Sequence[Sequence[torch.Tensor]]
) -> Run:
    """Runs a package where nothing of the project is imported but ops that it needs."""
    command = [sys.executable, "-c", _PYTHON_PROGRAM]
    modules = ["_dispatched_models"] if compiled.ops else []
    return _run(compiled, command, calls, modules)


def run_in_cpp_program(
    compiled: Package, calls: Sequence[Sequence[torch.Tensor]]
) -> Run:
    return _run(compiled, [os.fspath(_cpp_program())], calls, compiled.ops)


def _run(
    compiled: Package,
    command: Sequence[str],
    calls: Sequence[Sequence[torch.Tensor]],
    more: Sequence[str],
) -> Run:
    with tempfile.TemporaryDirectory() as directory:
        given, returned, cache = (
            Path(directory) / name for name in ("given", "returned", "cache")
        )
        torch.save([list(call) for call in calls], given)
        process = subprocess.run(
            [*command, *map(os.fspath, (compiled.path, given, returned)), *more],
            cwd=Path(__file__).parent,
            env=os.environ
            | {
                "TORCHINDUCTOR_CACHE_DIR": os.fspath(cache),
                # Else a program is compiled to see what the processor can do.
                "TORCHINDUCTOR_VEC_ISA_OK": "1",
            },
            capture_output=True,
            text=True,
        )
        if process.returncode != 0:
            raise RuntimeError(process.stderr)
        return Run(
            torch.load(returned, weights_only=False),
            process.stdout.split(),
            _compiled_in(cache),
        )


def _compiled_in(cache: Path) -> list[Path]:
    """The files of a cache, but for programs that ask the processor what it can do.

    Those of some extensions are compiled whatever TORCHINDUCTOR_VEC_ISA_OK says.
    """
    asking = {
        path.stem for path in cache.rglob("*.cpp") if "_chk_kernel" in path.read_text()
    }
    files = [path for path in cache.rglob("*") if path.is_file()]
    return [path for path in files if path.name.partition(".")[0] not in asking]
