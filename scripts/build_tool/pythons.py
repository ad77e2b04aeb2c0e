"""The Python that the environment is made of."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from setup_tool.environment import child_variables
from setup_tool.steps import SetupError

_QUESTION = """
import importlib.util, json, sys, sysconfig
print(json.dumps({
    "version": sys.version_info[:3],
    "headers": sysconfig.get_path("include"),
    "suffix": sysconfig.get_config_var("EXT_SUFFIX"),
    "has_venv": importlib.util.find_spec("ensurepip") is not None,
}))
"""


@dataclass(frozen=True)
class Python:
    """An interpreter and what it says about itself."""

    path: str
    version: tuple[int, int, int]
    headers: Path
    suffix: str
    has_venv: bool

    @property
    def name(self) -> str:
        """Such as Python 3.11.7."""
        return "Python " + ".".join(map(str, self.version))


def ask_python(argument: str) -> Python:
    """The interpreter `argument`, a path or a name on PATH."""
    path = shutil.which(argument)
    if path is None:
        raise SetupError(f"--python {argument}: there is no such program")
    try:
        output = subprocess.check_output(
            [path, "-c", _QUESTION], stderr=subprocess.STDOUT, env=child_variables()
        )
        answer = json.loads(output)
        major, minor, micro = answer["version"]
        return Python(
            path,
            (major, minor, micro),
            Path(answer["headers"]),
            answer["suffix"],
            answer["has_venv"],
        )
    except (OSError, subprocess.CalledProcessError, ValueError, KeyError) as error:
        raise SetupError(f"--python {path} is no working Python 3: {error}") from None
