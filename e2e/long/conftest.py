"""Tests that take minutes and roll dice: `make e2e-long`. They play controllers as the operator's benchmark does."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "operator"))
