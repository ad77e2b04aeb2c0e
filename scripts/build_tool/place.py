"""The folder in the checkout that holds all that scripts/build makes.

It ignores itself: git sees nothing of it, whatever the checkout's own .gitignore says.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from overlay_tool.filesystem import replace_file
from setup_tool.environment import python_of
from setup_tool.steps import SetupError

FOLDER_NAME = ".range-dispatch"
HOME_NAME = "torch-wheel"


@dataclass(frozen=True)
class Place:
    """The paths in that folder, and the environment, which may be elsewhere."""

    folder: Path
    environment: Path

    @property
    def log(self) -> Path:
        """All output of all attempts."""
        return self.folder / "build.log"

    @property
    def lock(self) -> Path:
        """Held by the running attempt and by what it started."""
        return self.folder / "lock"

    @property
    def state(self) -> Path:
        """Which stages are finished, and of what inputs."""
        return self.folder / "state.json"

    @property
    def home(self) -> Path:
        """The wheel's packages, which the links in the checkout point to."""
        return self.folder / HOME_NAME

    @property
    def python(self) -> Path:
        """The environment's Python."""
        return python_of(self.environment)

    def make(self) -> None:
        """Makes the folder, invisible to git from the first moment."""
        self.folder.mkdir(exist_ok=True)
        ignore = self.folder / ".gitignore"
        if not ignore.exists():
            replace_file(ignore, b"*\n")


def place_of(root: Path, environment: Path | None) -> Place:
    """The places for the checkout `root`."""
    folder = root / FOLDER_NAME
    chosen = folder / "venv" if environment is None else environment
    return Place(folder, Path(os.path.abspath(chosen)))


@dataclass
class State:
    """What state.json says: the route, its environment, the finished stages."""

    route: str = ""
    environment: str = ""
    stages: dict[str, str] = field(default_factory=dict)

    def save(self, place: Place) -> None:
        """Replaces the file: whoever reads it finds the old or the new one."""
        replace_file(place.state, (json.dumps(vars(self), indent=2) + "\n").encode())


def load_state(place: Place) -> State:
    """What is finished; nothing when there is no state."""
    try:
        document = json.loads(place.state.read_text())
        state = State(**document)
        stages = dict(state.stages)
    except FileNotFoundError:
        return State()
    except (OSError, ValueError, TypeError) as error:
        raise SetupError(
            f"{place.state} cannot be read ({error}): delete it, and all stages are "
            "done anew"
        ) from None
    return State(str(state.route), str(state.environment), stages)
