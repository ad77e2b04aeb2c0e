"""One attempt: what it works on, and which of its stages are finished already."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from build_tool.checkout import Checkout
from build_tool.log import Log
from build_tool.place import load_state, Place, State
from build_tool.pythons import Python
from overlay_tool import commands as overlay
from overlay_tool.errors import OverlayError
from setup_tool.lock import locked
from setup_tool.steps import report, SetupError, step

STAGES = ("environment", "build")
"""In the order in which one stands on the other."""


@dataclass
class Session:
    """Holds the lock, the log and the state of one attempt."""

    checkout: Checkout
    place: Place
    patch_set: Path
    python: Python
    log: Log
    state: State
    changed: bool = False

    def stage(self, name: str, inputs: object, work: Callable[[], str]) -> None:
        """Does a stage, unless it was finished with the same inputs.

        While it runs it does not count as finished, whatever happens to us.
        """
        digest = hashlib.sha256(json.dumps(inputs, default=str).encode()).hexdigest()
        if self.state.stages.get(name) == digest:
            report(name, "done before, nothing to do")
            return
        self.forget(name)
        self.changed = True
        with step(name) as current:
            current.outcome = work()
        self.state.stages[name] = digest
        self.state.save(self.place)

    def forget(self, name: str) -> None:
        """Has a stage done anew, and those that stand on it."""
        for each in STAGES[STAGES.index(name) :]:
            self.state.stages.pop(each, None)
        self.state.save(self.place)

    def apply_overlay(self) -> None:
        """Lays the overlay over the checkout. Always: only its tool knows whether
        its files, or the checkout's, have changed."""

        def on_wait(who: str) -> None:
            report("overlay", f"waiting for {who}")

        with step("overlay") as current:
            try:
                result = overlay.apply(self.checkout.root, self.patch_set, on_wait)
            except OverlayError as error:
                raise SetupError(f"the overlay could not be applied: {error}") from None
            self.changed |= result.details["outcome"] != "nothing to do"
            current.outcome = result.summary


@contextmanager
def opened(
    checkout: Checkout, place: Place, patch_set: Path, python: Python, route: str
) -> Iterator[Session]:
    """Begins an attempt; waits for another one that is at work in the checkout."""
    place.make()
    with locked(place.lock) as lock:
        state = load_state(place)
        if state.route not in ("", route):
            raise SetupError(f"meanwhile {place.folder} became one of {state.route}")
        if state.environment != str(place.environment):
            state.stages.clear()
            if Path(state.environment or "/none").exists():
                report("environment", f"{state.environment} is not used any more")
        state.route, state.environment = route, str(place.environment)
        state.save(place)
        log = Log(place.log, lock)
        log.header(f"attempt: {route}, {checkout.root}, base {checkout.base.tag}")
        yield Session(checkout, place, patch_set, python, log, state)
