"""What each key used on which day, as it stands in a ConfigMap: an entry for each day. Pure.

Every gateway adds what it counted. The newest days are kept, as many as there is room for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from pydantic_core import from_json, to_json

MOST_DAYS = 35
MOST_BYTES = 512 << 10
"""Of all days; an object may have 1 MiB."""
MOST_NUMBER = 1 << 53


@dataclass(frozen=True, slots=True)
class Used:
    """By one key, on one day (UTC). Tokens are those that engines counted."""

    requests: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0

    def __add__(self, other: Used) -> Used:
        return Used(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.answer_tokens + other.answer_tokens,
        )


Days = Mapping[date, Mapping[str, Used]]
"""By day, then by the key's name."""


def usage_map(gateway: str) -> str:
    """The ConfigMap; `gateway` = the name of its Service."""
    return f"{gateway}-usage"


def decode(data: Mapping[str, str]) -> Days:
    """What `added` wrote; what is no entry of it, or is broken, is left out."""
    found = {}
    for name, text in data.items():
        try:
            found[date.fromisoformat(name)] = _day(text)
        except ValueError:
            continue
    return found


def added(data: Mapping[str, str], more: Days) -> dict[str, str | None]:
    """How to change `data` so that it has `more` as well; None = that entry goes."""
    before = decode(data)
    texts = {day.isoformat(): data[day.isoformat()] for day in before}
    for day, keys in more.items():
        mine = dict(before.get(day, {}))
        for key, used in keys.items():
            mine[key] = mine.get(key, Used()) + used
        texts[day.isoformat()] = _text(mine)
    kept, size = set[str](), 0
    for name in sorted(texts, reverse=True)[:MOST_DAYS]:
        size += len(name) + len(texts[name])
        if size > MOST_BYTES and kept:
            break
        kept.add(name)
    changed: dict[str, str | None] = {name: texts[name] for name in kept if data.get(name) != texts[name]}
    return changed | {name: None for name in data if name not in kept}


def _text(keys: Mapping[str, Used]) -> str:
    """The keys that used most, where not all have room."""
    parts, size = dict[str, list[int]](), 0
    for key, used in sorted(keys.items(), key=lambda item: (-item[1].requests, item[0])):
        size += len(key) + 60
        if size > MOST_BYTES // 2:
            break
        parts[key] = [used.requests, used.prompt_tokens, used.answer_tokens]
    return to_json(parts).decode()


def _day(text: str) -> dict[str, Used]:
    found = from_json(text)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return {str(key): Used(*_numbers(values)) for key, values in found.items()}


def _numbers(values: object) -> tuple[int, int, int]:
    match values:
        case [int() as requests, int() as prompt, int() as answer] if all(
            0 <= value <= MOST_NUMBER for value in (requests, prompt, answer)
        ):
            return requests, prompt, answer
    raise ValueError("it has no three numbers")
