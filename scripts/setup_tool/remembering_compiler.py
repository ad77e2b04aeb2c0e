"""A C++ compiler for tests, which remembers: COMPILER FOLDER ARGUMENT...

Inductor's tests compile the same kernels again and again, each in a cache folder of its
own, and most of their time is the compiler's. It is asked only for what the folder does
not have yet, made with the same arguments of files with the same contents, wherever
these lie. Headers are taken for those of the torch that the folder belongs to. And
kernels of a few elements need no more than the first level of optimization.

This starts once a kernel, so it imports little.
"""

import hashlib
import os
import sys

READ = (".cpp", ".o")
"""What the compiler reads, besides headers."""


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def write(path: str, content: bytes) -> None:
    """Others find the whole file or none."""
    unfinished = f"{path}.{os.getpid()}"
    with open(unfinished, "wb") as file:
        file.write(content)
    os.chmod(unfinished, 0o755)
    os.replace(unfinished, path)


def name_of(compiler: str, arguments: list[str], target: str) -> str | None:
    """Names what is made; None if more may be read or written than is looked at."""
    program = os.stat(compiler)
    release = f"{compiler} {program.st_size} {program.st_mtime_ns}"
    digest = hashlib.sha256(release.encode())
    inputs = 0
    for argument in arguments:
        if argument.startswith(("-M", "@")):
            return None
        if argument == target:
            argument = "target"
        elif argument.endswith(READ):
            content = read(argument)
            if b".incbin" in content:
                return None
            inputs += 1
            argument = hashlib.sha256(content).hexdigest()
        digest.update(b"\0" + argument.encode())
    return digest.hexdigest() if inputs and "-E" not in arguments else None


def main(compiler: str, folder: str, arguments: list[str]) -> int:
    """Makes what the compiler would make, and returns its exit status."""
    arguments = ["-O1" if each == "-O3" else each for each in arguments]
    name = None
    if "-o" in arguments[:-1]:
        target = arguments[arguments.index("-o") + 1]
        name = name_of(compiler, arguments, target)
    stored = os.path.join(folder, name or "")
    if name and os.path.exists(stored):
        os.utime(stored)
        write(target, read(stored))
        return 0
    status = os.spawnvp(os.P_WAIT, compiler, [compiler, *arguments])
    if name and status == 0:
        write(stored, read(target))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
