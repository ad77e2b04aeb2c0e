"""How much of the machine there is for a build."""

import os
from pathlib import Path

GIBIBYTE = 2**30
CONTROL_GROUP = Path("/sys/fs/cgroup")
MEMORY_INFORMATION = Path("/proc/meminfo")


def cores() -> int:
    """The cores that this process may use, by affinity and by its control group."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = (CONTROL_GROUP / "cpu.max").read_text().split()
        count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no such file, or "max": no limit
    return count


def memory_gibibytes() -> float:
    """The memory that a build may use: what is available, or the group's limit."""
    available = 0
    for line in MEMORY_INFORMATION.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    try:
        available = min(available, int((CONTROL_GROUP / "memory.max").read_text()))
    except (OSError, ValueError):
        pass
    return available / GIBIBYTE


def size_of(folder: Path) -> int:
    """The bytes that a folder's files take on the disk."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            total += os.lstat(Path(parent, name)).st_blocks * 512
    return total
