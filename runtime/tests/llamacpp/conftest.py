"""The models that these tests write come from a module beside them; it is imported from the runtime folder."""

from __future__ import annotations

import sys
from pathlib import Path

RUNTIME = str(Path(__file__).parents[2])
if RUNTIME not in sys.path:
    sys.path.append(RUNTIME)
