"""The virtual environment of a build: made, filled by pip, or made anew."""

import os
from collections.abc import Callable, Sequence

from build_tool.session import Session
from build_tool.variables import in_environment
from setup_tool.environment import child_variables

STAGE = "environment"


def prepare(
    session: Session,
    requirements: Sequence[str],
    inputs: object = None,
    finish: Callable[[], str] | None = None,
    options: Sequence[str] = (),
) -> None:
    """Makes the environment with these requirements in it.

    One stage, from an empty folder to the last package: an environment that an
    attempt left half-made is never added to. `finish` is the last part of the stage,
    `options` are more of `python -m venv`.
    """
    place, python = session.place, session.python
    if not os.access(place.python, os.X_OK):
        session.forget(STAGE)

    def work() -> str:
        command = [python.path, "-m", "venv", "--clear", *options]
        command.append(str(place.environment))
        session.log.run(STAGE, command, place.folder, child_variables())
        if requirements:
            pip = [str(place.python), "-m", "pip", "install", *requirements]
            variables = in_environment(place.environment)
            session.log.run(STAGE, pip, session.checkout.root, variables)
        done = f"made {place.environment} of {python.name}"
        return f"{done}, {finish()}" if finish is not None else done

    # The same Python has many names, python3 and python3.11.
    of = [os.path.realpath(python.path), python.version]
    everything = [place.environment, of, requirements, inputs]
    session.stage(STAGE, everything, work)
