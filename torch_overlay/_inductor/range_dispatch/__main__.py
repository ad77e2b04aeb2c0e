"""Says where the commands are that were here."""

from __future__ import annotations

import sys


def main() -> int:
    """Tell how to call them; returns the exit status of wrong usage."""
    sys.stderr.write(
        "python -m torch._inductor.range_dispatch is now python -m range_tuning, a "
        "package beside torch: see docs/tuning.md of the patch set\n"
    )
    return 2


if __name__ == "__main__":
    sys.exit(main())
