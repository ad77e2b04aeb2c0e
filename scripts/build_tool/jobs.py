"""How many compilers run at a time."""

from collections.abc import Mapping
from dataclasses import dataclass

from setup_tool.steps import SetupError

GIBIBYTES_A_JOB = {"cpu": 2, "cuda": 4}
"""What one compiler may take: the big generated files need about as much."""


@dataclass(frozen=True)
class Jobs:
    """The number, and why it is that one."""

    count: int
    why: str


def choose_jobs(
    device: str,
    cores: int,
    memory: float,
    asked: int | None,
    variables: Mapping[str, str],
) -> Jobs:
    """--jobs, else MAX_JOBS, else as many as cores and memory allow, at least one."""
    given = variables.get("MAX_JOBS", "")
    if asked is not None:
        aside = f", MAX_JOBS={given} is set aside" if given else ""
        return Jobs(asked, f"--jobs{aside}")
    if given:
        if not given.isdecimal() or int(given) < 1:
            raise SetupError(f"MAX_JOBS={given}: a number from 1 on is needed")
        return Jobs(int(given), "MAX_JOBS of the environment")
    each = GIBIBYTES_A_JOB[device]
    count = max(1, min(cores, int(memory / each)))
    why = f"{cores} cores, {memory:.0f} GiB of memory, {each} GiB a job"
    return Jobs(count, why)
