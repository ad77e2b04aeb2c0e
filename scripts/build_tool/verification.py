"""Asks the new environment which torch it imports."""

import json
import os
import subprocess
from pathlib import Path

from build_tool.place import Place
from build_tool.checkout import Checkout
from setup_tool.environment import child_variables
from setup_tool.steps import say, SetupError, step

_QUESTION = """
import json, torch, torch._inductor.kernel.custom_op
print(json.dumps({
    "torch": torch.__file__,
    "custom_op": torch._inductor.kernel.custom_op.__file__,
    "version": torch.__version__,
}))
"""


def verify(checkout: Checkout, place: Place) -> None:
    """Raises SetupError unless torch and our file in it come from the checkout."""
    with step("check") as current:
        answer = ask(place)
        for name, path in (
            ("torch", "torch/__init__.py"),
            ("custom_op", "torch/_inductor/kernel/custom_op.py"),
        ):
            wanted = checkout.root / path
            if os.path.realpath(answer[name]) != str(wanted):
                raise SetupError(
                    f"{place.python} imports {answer[name]} and not {wanted}: call "
                    "again with --again"
                )
        current.outcome = f"torch {answer['version']} is {answer['torch']}"


def ask(place: Place) -> dict[str, str]:
    """What a fresh Python of the environment says about its torch."""
    result = subprocess.run(
        [str(place.python), "-c", _QUESTION],
        cwd=place.folder,  # not the checkout: there, any Python would find its torch
        env=child_variables(),
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        words = "\n".join(result.stderr.strip().splitlines()[-20:])
        raise SetupError(f"torch cannot be imported in {place.environment}:\n{words}")
    answer: dict[str, str] = json.loads(result.stdout.splitlines()[-1])
    return answer


def say_what_next(place: Place, what: str) -> None:
    """The last words: what there is now, and how to see it."""
    say(f"\n{what}")
    say(f"  use it:  source {_relative(place.environment)}/bin/activate")
    say('  see it:  python -c "import torch; print(torch.__file__)"')
    say(f"  the log: {_relative(place.log)}")


def _relative(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
