"""Who asks, as far as taking turns goes: the owner of a key, as this gateway or only the replica knows it, else an
address."""

from __future__ import annotations

import hashlib
import secrets

from aiohttp import web

_SECRET = secrets.token_bytes(16)


def client_of(request: web.Request, key_name: str = "") -> str:
    """A name that says nothing of the key. `key_name`: of the API key that let it in; rotated or not, one owner."""
    if key_name:
        return f"key {key_name}"
    key = request.headers.get("Authorization") or request.headers.get("x-api-key")
    if not key:
        return request.remote or ""
    return hashlib.blake2b(key.encode(errors="surrogateescape"), key=_SECRET, digest_size=16).hexdigest()
