# Owner(s): ["module: inductor"]
"""What the tests of Inductor have to help these ones, too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "inductor"))

from _planted_times import add, compiled_values, CONFIGS, planted, planted_times


__all__ = ["CONFIGS", "add", "compiled_values", "planted", "planted_times"]
