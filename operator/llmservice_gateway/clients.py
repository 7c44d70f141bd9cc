"""Who asks, as far as taking turns goes: the owner of a key, as this gateway or only the replica knows it, else an
address."""

from __future__ import annotations

import hashlib
import secrets

from aiohttp import web

from llmservice_gateway.fair import Client
from llmservice_runtime.wire.plain import Plain

Asking = web.Request | Plain
"""What clients ask: aiohttp's requests, and those that it never saw."""

_SECRET = secrets.token_bytes(16)


def client_of(request: Asking, key_name: str, user: str, adapter: str) -> Client:
    """Whose turn a request takes. `key_name`: of the API key that let it in; `user`: whom it is for, as it says. Who
    waits for an adapter holds up nobody who does not."""
    who = user or request.remote or ""
    return _owner(request, key_name), f"{who}\0{adapter}" if adapter else who


def _owner(request: Asking, key_name: str) -> str:
    """A name that says nothing of the key; rotated or not, one owner."""
    if key_name:
        return f"key {key_name}"
    key = request.headers.get("Authorization") or request.headers.get("x-api-key")
    if not key:
        return request.remote or ""
    return hashlib.blake2b(key.encode(errors="surrogateescape"), key=_SECRET, digest_size=16).hexdigest()
