"""Bytecode of what an engine imports when it serves, for its proof: of all packages it is 300 MB and a minute."""

from __future__ import annotations

import compileall
from collections.abc import Iterable
from importlib.util import find_spec

SERVER = (
    "aiohttp", "aiohappyeyeballs", "aiosignal", "attr", "frozenlist", "multidict", "prometheus_client", "propcache",
    "yarl",
)  # fmt: skip
"""What our own HTTP layer is made of."""


def compile_packages(names: Iterable[str]) -> None:
    """Of those that are there; what was compiled already stays. A file for another Python is left out in silence.

    To be called before anything is imported that has threads: processes are forked.
    """
    for name in names:
        found = find_spec(name)
        for folder in found.submodule_search_locations or () if found else ():
            compileall.compile_dir(folder, quiet=2, workers=0)
