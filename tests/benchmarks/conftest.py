"""The scripts of benchmarks/ find each other by the folder they are in; so do their tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
