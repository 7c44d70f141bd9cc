"""Names of split files: `x-00001-of-00003.gguf` belongs with its two siblings."""

from __future__ import annotations

import re

_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<total>\d{5})(?P<suffix>\.[A-Za-z0-9]+)")
MAX_SHARDS = 1000


def siblings(name: str) -> list[str]:
    """All names of the split file that `name` is a part of, in order; `[name]` when it is not split."""
    match = _SHARD.fullmatch(name)
    if match is None or not 1 < int(match["total"]) <= MAX_SHARDS:
        return [name]
    total = int(match["total"])
    return [f"{match['stem']}-{number:05d}-of-{match['total']}{match['suffix']}" for number in range(1, total + 1)]
