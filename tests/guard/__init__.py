"""What eram may cost: measured on a quiet server of its own, beside the limits of limits.py."""

import sys
from pathlib import Path

# The yardstick and a job that does nothing are the benchmark's, which is a folder that is run.
sys.path.append(str(Path(__file__).parents[2] / "bench"))
