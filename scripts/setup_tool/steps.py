"""How a step of the set-up tells what it did, and how it fails."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class SetupError(Exception):
    """What keeps the set-up from going on, in words for the person who called it."""


class UsageError(SetupError):
    """An argument that makes no sense here: nothing was looked at or done yet."""


@dataclass
class Step:
    """One line of the report; the step fills `outcome` in while it works."""

    name: str
    outcome: str = ""


def say(line: str) -> None:
    """Prints at once, so that lines of child processes cannot overtake this one."""
    print(line, flush=True)


def report(name: str, text: str) -> None:
    """Prints one line about the step of that name."""
    say(f"{name + ':':<14}{text}")


@contextmanager
def step(name: str) -> Iterator[Step]:
    """Times what runs inside and prints the step's line when it ended well."""
    current = Step(name)
    started = time.monotonic()
    yield current
    report(current.name, f"{current.outcome} ({elapsed(started)})")


def elapsed(started: float) -> str:
    """The seconds since `started`, a reading of time.monotonic."""
    return f"{time.monotonic() - started:.1f} s"
