"""What scripts/gpu_check does.

``commands`` runs the ``steps`` one after the other, each until its part of the time is
up. A step is a list of checks, which ``workers``, processes of their own, make
(``in_worker``): a check that hangs, or ends its process, is one failed check. Only
those processes import torch. ``page`` makes Markdown of the results.
"""

import sys
from pathlib import Path

# Where failures and reporting are.
sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
