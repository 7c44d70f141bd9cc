"""The demo model is a folder of scripts beside the packages; its tests import it from there."""

from __future__ import annotations

import sys
from pathlib import Path

RUNTIME = str(Path(__file__).parents[2])
if RUNTIME not in sys.path:
    sys.path.append(RUNTIME)
