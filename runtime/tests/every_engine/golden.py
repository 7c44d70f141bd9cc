"""What a stream looks like, in a file: what changes from time to time is masked, the same text in other pieces is one.

`LLMSERVICE_WRITE_GOLDEN=1 pytest ...` writes the files from what the first engine says; read the difference.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("golden")
WRITE = os.environ.get("LLMSERVICE_WRITE_GOLDEN") == "1"
ENDING = ("finish_reason", "stop_reason")
DETAILS = ("prompt_tokens_details", "completion_tokens_details")
"""What of the tokens was cached or thought, as far as an engine tells."""
MASKED = {"id": "ID", "created": 0, "logprob": 0, "token_logprobs": 0}
"""Ids and times; log-probabilities, which differ with the quantization."""


def check(name: str, text: str) -> None:
    """The text is what the file says."""
    file = FOLDER / name
    if WRITE:
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), f"{name} differs"


def stream(found: Sequence[str]) -> str:
    """A line for each event: masked, sorted keys, null left out, and pieces of one text joined."""
    lines: list[Any] = []
    for value in (part for event in found for part in _parts(event)):
        if lines and (joined := _joined(lines[-1], value)):
            lines[-1] = joined
        else:
            lines.append(value)
    return "".join(f"{value if isinstance(value, str) else json.dumps(value, sort_keys=True)}\n" for value in lines)


def _parts(event: str) -> Iterator[Any]:
    """The event; the last text of an answer apart from its end, with which it may come together."""
    if event == "[DONE]":
        yield event
        return
    value = plain(json.loads(event))
    for choice in value.get("choices", ()):
        said = choice.get("text") or {key: text for key, text in choice.get("delta", {}).items() if text != ""}
        if "finish_reason" in choice and (said or choice.get("delta")):
            if said:
                yield value | {"choices": [{key: item for key, item in choice.items() if key not in ENDING}]}
            choice.pop("logprobs", None)
            choice["text" if "text" in choice else "delta"] = "" if "text" in choice else {}
    yield value


def body(value: Any) -> str:
    """A whole answer, in the same way."""
    return json.dumps(plain(value), sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def plain(value: Any, name: str = "") -> Any:
    """Without what differs from time to time, and without null."""
    if name in MASKED and value is not None:
        return MASKED[name]
    if isinstance(value, float):
        return 0
    if isinstance(value, dict):
        return {key: plain(item, key) for key, item in value.items() if item is not None and key not in DETAILS}
    return [plain(item) for item in value] if isinstance(value, list) else value


def _joined(before: Any, after: Any) -> Any:
    """One event for two that differ in nothing but their piece of the same text; None for others."""
    if isinstance(before, str) or isinstance(after, str):
        return None
    first, second = list(_texts(before)), list(_texts(after))
    if [path for path, _ in first] != [path for path, _ in second] or not first or _without(before) != _without(after):
        return None
    made = json.loads(json.dumps(before))
    for path, text in second:
        place = made
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] += text
    return made


TEXTS = ("content", "text", "reasoning", "reasoning_content", "arguments")


def _texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in TEXTS and isinstance(item, str):
                yield (*path, key), item
            else:
                yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _texts(item, (*path, number))


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "" if key in TEXTS and isinstance(item, str) else _without(item) for key, item in value.items()}
    return [_without(item) for item in value] if isinstance(value, list) else value
