"""Asks the new environment which torch it imports."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from build_tool.place import Place
from build_tool.session import Session
from setup_tool.environment import child_variables
from setup_tool.steps import say, SetupError, step

_QUESTION = """
import json, sys, torch
if "all" in sys.argv:
    import torch._inductor.kernel.custom_op as custom_op
    print(custom_op.__file__)
print(json.dumps([torch.__file__, torch.__version__]))
"""


def verify(session: Session) -> None:
    """Raises SetupError unless torch comes from the checkout.

    After a change our own file is imported, too, and Inductor with it: that takes
    several times as long.
    """
    checkout, place = session.checkout, session.place
    with step("check") as current:
        *others, line = ask(place, ["all"] if session.changed else [])
        torch, version = json.loads(line)
        wanted = checkout.root / "torch"
        for file in (torch, *others):
            if not Path(os.path.realpath(file)).is_relative_to(wanted):
                raise SetupError(
                    f"{place.python} imports {file} and not {wanted}: call again with "
                    "--again"
                )
        current.outcome = f"torch {version} is {torch}"


def ask(place: Place, arguments: Sequence[str]) -> list[str]:
    """What a fresh Python of the environment says about its torch."""
    result = subprocess.run(
        [str(place.python), "-c", _QUESTION, *arguments],
        cwd=place.folder,  # not the checkout: there, any Python would find its torch
        env=child_variables(),
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        words = "\n".join(result.stderr.strip().splitlines()[-20:])
        raise SetupError(f"torch cannot be imported in {place.environment}:\n{words}")
    return result.stdout.splitlines()


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
