"""API keys of a gateway as they stand in a Secret: one entry for each, by its name. Pure.

An entry has no key, only the SHA-256 of one that is long and random: who reads the Secret can use none of them.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from llmservice_runtime.contract.validation import said

PREFIX = "llmservice-"
"""Of every key, so that scanners of code and logs can know one."""
FIRST = "default"
"""The key that a new installation has."""
FIRST_FIELD = "key"
"""Of the Secret that has it as it is used."""
EVERY = "*/*"
MOST_HASHES = 5
MOST_PATTERNS = 100
MOST_PER_MINUTE = 1_000_000_000

KeyName = Annotated[str, Field(pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$", max_length=63)]


def _pattern(text: str) -> str:
    if re.fullmatch(r"[-.a-z0-9*]+/[-.a-z0-9*]+", text) is None:
        raise ValueError(f"{text[:80]!r} names no services: write NAMESPACE/NAME, with * for any text, as 'apps/*'")
    return text


Pattern = Annotated[str, Field(max_length=128), AfterValidator(_pattern)]
PerMinute = Annotated[int, Field(ge=1, le=MOST_PER_MINUTE)]


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class KeyHash(_Model):
    """One key that may be used under this name, in hexadecimal."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    not_after: AwareDatetime | None = None
    """None = it does not end."""


class KeyRecord(_Model):
    """One entry. A limit that is not said is none."""

    hashes: Annotated[tuple[KeyHash, ...], Field(min_length=1, max_length=MOST_HASHES)]
    """The newest first; others while a rotation's overlap lasts."""
    services: Annotated[tuple[Pattern, ...], Field(min_length=1, max_length=MOST_PATTERNS)]
    """`namespace/name` with `*` for any text."""
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    """Of prompts and answers."""
    launch: bool = False
    """Whether it may launch and remove services among those that it may use, where the gateway launches any."""
    created: AwareDatetime

    def may_use(self, service: str) -> bool:
        """Whether the service of this full name is this key's to use."""
        return any(fnmatchcase(service, pattern) for pattern in self.services)


def rotated(record: KeyRecord, key: str, now: datetime, overlap: timedelta) -> KeyRecord:
    """`record` with another key; what worked until now works for `overlap` more, unless its end comes before."""
    end = now.replace(microsecond=0) + overlap
    before = [
        KeyHash(sha256=one.sha256, not_after=min(end, one.not_after or end))
        for one in record.hashes
        if one.not_after is None or one.not_after > now
    ]
    old = before[: MOST_HASHES - 1] if overlap else []
    return record.model_copy(update={"hashes": (KeyHash(sha256=hash_of(key)), *old)})


_NAME: TypeAdapter[str] = TypeAdapter(KeyName)


def keys_secret(gateway: str) -> str:
    """The Secret with the entries; `gateway` = the name of its Service."""
    return f"{gateway}-keys"


def first_key_secret(gateway: str) -> str:
    """The Secret with the first key itself."""
    return f"{gateway}-first-key"


def new_key() -> str:
    """A key that nobody guesses: 256 bits at random."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(key: str) -> str:
    """What an entry has of it. No salt and no slow function: what has 256 random bits can't be searched for."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def record_of(
    key: str,
    services: Iterable[str] = (EVERY,),
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    *,
    launch: bool = False,
    now: datetime | None = None,
) -> KeyRecord:
    """The entry of a new key. ValueError says which part of it is wrong."""
    fields = {
        "hashes": ({"sha256": hash_of(key)},),
        "services": tuple(services),
        "requestsPerMinute": requests_per_minute,
        "tokensPerMinute": tokens_per_minute,
        "launch": launch,
        "created": (now or datetime.now(UTC)).replace(microsecond=0),
    }
    try:
        return KeyRecord.model_validate(fields)
    except ValidationError as error:
        raise ValueError(_wrong(error)) from error


def checked_name(name: str) -> str:
    """`name`, when a key may have it. ValueError."""
    try:
        return _NAME.validate_python(name)
    except ValidationError as error:
        allowed = "lower-case letters, digits, '-' and '.', at most 63, with one of the first two at both ends"
        raise ValueError(f"{name[:80]!r} is no key's name: it may have {allowed}") from error


def encoded(record: KeyRecord) -> str:
    """As a Secret's `data` has it."""
    text = record.model_dump_json(by_alias=True, exclude_none=True, exclude=None if record.launch else {"launch"})
    return base64.b64encode(text.encode()).decode()


def decoded(name: str, data: str) -> KeyRecord:
    """One entry of a Secret's `data`. ValueError says what is wrong with it, and never what it has."""
    checked_name(name)
    try:
        text = base64.b64decode(data, validate=True)
    except ValueError:
        raise ValueError("it is no base64") from None
    try:
        return KeyRecord.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(_wrong(error)) from None


def read(data: Mapping[str, str]) -> tuple[dict[str, KeyRecord], dict[str, str]]:
    """(records by name, what is wrong by name) of a Secret's `data`: a broken entry costs no other."""
    found, wrong = dict[str, KeyRecord](), dict[str, str]()
    owners = dict[str, str]()
    for name, text in sorted(data.items()):
        try:
            record = decoded(name, text)
        except ValueError as error:
            wrong[name] = str(error)
            continue
        if other := next((owners[one.sha256] for one in record.hashes if one.sha256 in owners), ""):
            wrong[name] = f"it has a key of {other}"
            continue
        owners |= dict.fromkeys((one.sha256 for one in record.hashes), name)
        found[name] = record
    return found, wrong


def _wrong(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {said(first)}" if where else said(first)
