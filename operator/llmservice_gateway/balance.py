"""Which replica a key belongs to: rendezvous hashing with bounded loads. Pure, and the same at every gateway.

Each replica has a place in an order that depends on the key alone; the first one that is not loaded beyond the bound
gets the request. A replica that comes or goes moves only the keys that it gets or had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xxhash

BOUND = 1.25
"""No replica gets a request while it has so many times the mean load, the request included, or more."""


def ranked(key: int, names: Sequence[str]) -> list[str]:
    """All names, the one that the key belongs to first."""
    seed = key & 0xFFFF_FFFF_FFFF_FFFF
    return sorted(names, key=lambda name: (xxhash.xxh3_64_intdigest(name.encode(), seed), name), reverse=True)


def choose(key: int, loads: Mapping[str, float], weight: float, allowed: Sequence[str]) -> str | None:
    """Who of `allowed` gets a request of this weight. `loads` has all replicas, in the unit of `weight`.

    Whoever is allowed may all be beyond the bound: then the least loaded gets it. None when nobody is allowed. What a
    replica has is compared, not what it would have: when there is little to do, one request is more than the mean, and
    its own replica would never be the one.
    """
    if not allowed:
        return None
    bound = BOUND * (sum(loads.values()) + weight) / len(loads)
    order = ranked(key, allowed)
    for name in order:
        if loads[name] < bound:
            return name
    return min(order, key=lambda name: loads[name])
