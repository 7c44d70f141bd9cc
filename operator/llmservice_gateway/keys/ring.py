"""The keys that are known at one moment, found in constant time. Pure."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from llmservice_api.gateway_keys import KeyHash, KeyRecord, hash_of

_SECRET = secrets.token_bytes(32)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose key was shown."""

    name: str
    record: KeyRecord


class Ring:
    """An immutable set of keys.

    They are looked up by a hash that is keyed with a secret of this process: how long that takes tells nobody which
    part of a wrong key is right. In memory, too, there are only hashes.
    """

    def __init__(self, records: Mapping[str, KeyRecord]) -> None:
        self.records = records
        self._owners: dict[bytes, tuple[Owner, KeyHash]] = {}
        for name, record in records.items():
            for one in record.hashes:
                self._owners[_blind(one.sha256)] = Owner(name, record), one

    def owner(self, shown: str, now: datetime) -> Owner | None:
        """Whose key this is; None when it is nobody's, or at its end."""
        digest = hash_of(shown)
        owner, known = self._owners.get(_blind(digest), (None, None))
        if owner is None or known is None or not hmac.compare_digest(known.sha256, digest):
            return None
        return owner if known.not_after is None or now < known.not_after else None


def _blind(digest: str) -> bytes:
    return hashlib.blake2b(digest.encode(), key=_SECRET, digest_size=16).digest()
