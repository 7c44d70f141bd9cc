"""The turns of an Anthropic request as messages of chat."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llmservice_gateway.dialects.pieces import Json
from llmservice_gateway.dialects.reading import Fields, objects, wrong
from llmservice_gateway.dialects.turns import (
    Said,
    assistant,
    call,
    content,
    no_file,
    no_picture,
    picture,
    result,
    unanswered,
    unasked,
    unknown_kind,
)
from llmservice_runtime.wire.errors import bad_request, unsupported

FAILED = "Error: "
"""Stands before what a tool gave with `is_error`: chat has no other way to say so."""


@dataclass(slots=True)
class _Turn:
    """Messages of one role in a row are one turn."""

    role: str
    path: str
    blocks: list[Fields] = field(default_factory=list)


def system(fields: Fields) -> list[Json]:
    """The system prompt: a string, or blocks of text."""
    given = fields.any("system")
    if given is None or given == []:
        return []
    texts = [_text(block) for block in _blocks(given, fields.at("system"))]
    return [{"role": "system", "content": content(texts)}]


def turns(given: list[Any]) -> list[Json]:
    """`messages`. Every call has its result in the turn after it, and every result its call in the turn before."""
    if not given:
        raise bad_request("`messages` must have a message at least.", "messages")
    found = list[Json]()
    open_calls = list[str]()
    path = "messages"
    for turn in _joined(given):
        path = turn.path
        if turn.role == "system":
            found.append({"role": "system", "content": content([_text(block) for block in turn.blocks])})
        elif turn.role == "user":
            found += _user(turn, open_calls)
            open_calls = []
        else:
            said, open_calls = _assistant(turn)
            found += said
    if open_calls:
        raise unanswered(path, open_calls, "tool_use", "in a turn after it")
    if not found:
        raise bad_request("`messages` must have a message that says something.", "messages")
    return found


def _joined(given: Sequence[Any]) -> list[_Turn]:
    found = list[_Turn]()
    last = len(given) - 1
    for number, message in enumerate(objects(list(given), "messages")):
        role = message.must(str, "role")
        if role not in ("user", "assistant", "system"):
            raise wrong(message.at("role"), "user or assistant", role)
        written = message.any("content")
        if written is None or (written == [] and not (role == "assistant" and number == last)):
            raise bad_request(f"`{message.at('content')}` must have a text or a block at least.", message.at("content"))
        message.end()
        if not found or found[-1].role != role:
            found.append(_Turn(role, message.path))
        found[-1].blocks += _blocks(written, message.at("content"))
    return found


def _blocks(given: Any, path: str) -> list[Fields]:
    if isinstance(given, str):
        return [Fields({"type": "text", "text": given}, path)]
    if not isinstance(given, list):
        raise wrong(path, "a string or a list of blocks", given)
    return objects(given, path)


def _text(block: Fields) -> str:
    """The text of a block that can only be one."""
    kind = block.must(str, "type")
    if kind == "image":
        raise no_picture(block.path)
    if kind == "document":
        raise no_file(block.path)
    if kind != "text":
        raise unknown_kind(block.path, kind, "send `text`")
    text = block.must(str, "text")
    block.no_op("cache_control")
    block.refuse("citations", "nothing is cited here.", but=[])
    block.end()
    return text


def _said(block: Fields) -> Said:
    """The text of a block, or its picture."""
    if block.kind() != "image":
        return _text(block)
    block.any("type")
    source = block.object("source")
    if source is None:
        raise bad_request(f"`{block.at('source')}` is missing.", block.at("source"), "missing_required_parameter")
    block.no_op("cache_control")
    block.end()
    match source.must(str, "type"):
        case "base64":
            kind, data = source.must(str, "media_type"), source.must(str, "data")
            url = f"data:{kind};base64,{data}"
        case "url":
            url = source.must(str, "url")
        case _:
            raise unsupported(source.path, "files are not kept here; send the picture itself, in base64.")
    source.end()
    return picture(url, source.path)


def _user(turn: _Turn, open_calls: Sequence[str]) -> list[Json]:
    """Results come first, wherever they stand in the turn: chat has them right behind the calls."""
    results, texts, left = list[Json](), list[Said](), list(open_calls)
    for block in turn.blocks:
        if block.kind() != "tool_result":
            texts.append(_said(block))
            continue
        call_id = block.must(str, "tool_use_id")
        if call_id not in left:
            raise unasked(block.at("tool_use_id"), call_id, "tool_use")
        left.remove(call_id)
        results.append(_result(block, call_id))
    if left:
        raise unanswered(turn.path, left, "tool_use", "in this turn, which comes after it")
    return results + ([{"role": "user", "content": content(texts)}] if texts else [])


def _result(block: Fields, call_id: str) -> Json:
    block.any("type")
    given = block.any("content")
    said = [] if given is None else [_said(one) for one in _blocks(given, block.at("content"))]
    if block.one(bool, "is_error"):
        first = said[0] if said else ""
        said = [FAILED + first, *said[1:]] if isinstance(first, str) else [FAILED, *said]
    block.no_op("cache_control")
    block.end()
    return result(call_id, said)


def _assistant(turn: _Turn) -> tuple[list[Json], list[str]]:
    """The turn, and the ids of its calls. One without anything to say (the end of an empty prefill) is none."""
    texts, thoughts, calls, ids = list[str](), list[str](), list[Json](), list[str]()
    for block in turn.blocks:
        match block.kind():
            case "thinking":
                block.any("type")
                thoughts.append(block.must(str, "thinking"))
                block.no_op("signature")
                block.end()
            case "redacted_thinking":
                raise unsupported(block.path, "only who made it can read it; leave the block out.")
            case "tool_use":
                call_id = block.must(str, "id")
                if call_id in ids:
                    raise bad_request(f"`{block.at('id')}` is there twice in one turn.", block.at("id"))
                ids.append(call_id)
                calls.append(_call(block, call_id))
            case _:
                texts.append(_text(block))
    if not (texts or thoughts or calls):
        return [], []
    return [assistant(texts, thoughts, calls)], ids


def _call(block: Fields, call_id: str) -> Json:
    block.any("type")
    name, given = block.must(str, "name"), block.must(dict, "input")
    block.no_op("cache_control")
    if (caller := block.object("caller")) is not None:
        caller.refuse("type", "only the model calls tools.", but="direct")
        caller.end()
    block.end()
    return call(call_id, name, json.dumps(given, ensure_ascii=False))
