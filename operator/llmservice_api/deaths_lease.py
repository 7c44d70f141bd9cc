"""What a gateway tells the others of requests with which replicas died: an annotation of its Lease. Pure.

Of a request it has a hash and nothing else; of a death the replica's name, so that two gateways that had the same one
there count one death.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json, to_json

MOST_REQUESTS = 500
"""Those of the latest deaths, as far as they have room."""
MOST_DEATHS = 2
"""Of one request: with so many it is given to nobody."""
MOST_BYTES = 40 << 10
"""Of the annotation; all annotations of an object may have 256 KiB, and what is asked for has most of them."""
DIGEST_BYTES = 16
LONGEST_NAME = 253

Deaths = Mapping[bytes, Sequence[str]]
"""Hash of a request -> replicas that died with it, by name; one that died twice stands there twice."""


def encode(deaths: Deaths, most_bytes: int = MOST_BYTES) -> str:
    """The annotation; `deaths` has the latest last, and those are told where not all have room."""
    parts, size = list[bytes](), 2
    for digest, replicas in list(deaths.items())[: -MOST_REQUESTS - 1 : -1]:
        part = to_json(digest.hex()) + b":" + to_json(list(replicas[-MOST_DEATHS:]))
        size += len(part) + 1
        if size > most_bytes:
            break
        parts.append(part)
    return (b"{" + b",".join(reversed(parts)) + b"}").decode()


def decode(text: str) -> Deaths:
    """What `encode` wrote. ValueError, which says what is wrong: then nothing of it is to be believed."""
    if len(text) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES >> 10} KiB")
    found = from_json(text)
    if not isinstance(found, dict) or len(found) > MOST_REQUESTS:
        raise ValueError(f"it is no JSON object of at most {MOST_REQUESTS} requests")
    return {_digest(name): _replicas(told) for name, told in found.items()}


def _digest(text: str) -> bytes:
    digest = bytes.fromhex(text) if text.isascii() and text.isalnum() else b""
    if len(digest) != DIGEST_BYTES:
        raise ValueError(f"{text[:80]!r} is no hash of a request")
    return digest


def _replicas(told: Any) -> tuple[str, ...]:
    if not isinstance(told, list) or not 0 < len(told) <= MOST_DEATHS:
        raise ValueError(f"a request has 1 to {MOST_DEATHS} deaths")
    for name in told:
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            raise ValueError("a replica has no name")
    return tuple(told)
