"""How long threads of PyTorch wait for each other in a loop."""

from __future__ import annotations

from collections.abc import Mapping

SPINS = "10000"
"""Some 0.5 ms. Between two operations Python takes 0.1 ms and more, after which a thread that sleeps would have to be
woken a hundred times a token. OpenMP's own milliseconds take the processor from the one that is waited for, wherever
others want it too."""


def waits(environ: Mapping[str, str]) -> dict[str, str]:
    """What is set, unless somebody has said it."""
    said = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & environ.keys()
    return {} if said else {"GOMP_SPINCOUNT": SPINS}
