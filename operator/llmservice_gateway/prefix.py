"""What of a prompt decides where it goes: a key that all turns of a conversation have.

Engines reuse what they computed of a prompt's beginning, so the same beginning belongs to the same replica. No state is
kept: the key is a hash over what does not change from turn to turn (tools, system prompt, the start of the first
message). Every gateway computes the same one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import xxhash

START_BYTES = 1024
"""Of the first message after the system prompt: enough to tell conversations apart, and so little that questions about
the same document, which begin with it, stay together. Of a prompt without messages twice as much."""
SYSTEM_ROLES = ("system", "developer")


def prefix_key(fields: Mapping[str, Any]) -> int:
    """64 bits, from the fields of a request's body as JSON gave them, whatever they hold; RecursionError for very deep
    ones."""
    hasher = xxhash.xxh3_64()
    for part in _parts(fields):
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.intdigest()


def of_adapter(key: int, adapter: str) -> int:
    """The key of the same beginning with an adapter, which makes other numbers of it; `key` itself without one."""
    return xxhash.xxh3_64_intdigest(adapter.encode(), key) if adapter else key


def _parts(fields: Mapping[str, Any]) -> Iterable[bytes]:
    messages = fields.get("messages")
    if not isinstance(messages, list):
        yield _bytes(fields.get("prompt", fields.get("input")))[: 2 * START_BYTES]
        return
    yield _bytes(fields.get("tools"))
    for message in messages:
        if not isinstance(message, dict):
            return
        if message.get("role") not in SYSTEM_ROLES:
            yield _bytes(message.get("content"))[:START_BYTES]
            return
        yield _bytes(message.get("content"))


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    return b"" if value is None else json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
