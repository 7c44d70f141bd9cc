"""The items of a Responses request as messages of chat."""

from __future__ import annotations

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

TEXTS = {"input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Kinds of content that are a text, and the field that has it."""


class _Turns:
    """Messages so far. What the model said, thought and called in a row is one of them."""

    def __init__(self) -> None:
        self.found = list[Json]()
        self._texts, self._thoughts, self._calls = list[str](), list[str](), list[Json]()
        self._open: dict[str, str] = {}
        """Calls without a result: id -> where the item stands."""
        self._answered = set[str]()

    def model(self, texts: list[str], thought: str = "", called: Json | None = None) -> None:
        """More of the model's turn, which ends with the first result of its calls."""
        self._texts += texts
        self._thoughts += [thought] if thought else []
        self._calls += [called] if called else []

    def called(self, path: str, call_id: str) -> None:
        """A call, whose result has to come."""
        if call_id in self._open or call_id in self._answered:
            raise bad_request(f"`{path}` is there twice.", path)
        self._open[call_id] = path

    def result(self, path: str, call_id: str, said: list[Said]) -> None:
        """What a call gave."""
        if call_id not in self._open:
            raise unasked(path, call_id, "function_call")
        del self._open[call_id]
        self._answered.add(call_id)
        self.close()
        self.found.append(result(call_id, said))

    def other(self, role: str, said: list[Said]) -> None:
        """A message that is not the model's."""
        self.close()
        self._complete()
        self.found.append({"role": role, "content": content(said)})

    def close(self) -> None:
        """The model's turn is over."""
        if self._texts or self._thoughts or self._calls:
            self.found.append(assistant(self._texts, self._thoughts, self._calls))
            self._texts, self._thoughts, self._calls = [], [], []

    def end(self) -> list[Json]:
        """All of them."""
        self.close()
        self._complete()
        return self.found

    def _complete(self) -> None:
        if self._open:
            path = next(iter(self._open.values()))
            raise unanswered(path, list(self._open), "function_call", "in an item after it")


def turns(given: list[Any]) -> list[Json]:
    """`input` as a list. Every call has its result after it, before anybody else speaks."""
    found = _Turns()
    for item in objects(given, "input"):
        kind = item.one(str, "type") or "message"
        match kind:
            case "message":
                _message(item, found)
            case "function_call":
                _call(item, found)
            case "function_call_output":
                call_id = item.must(str, "call_id")
                item.no_op("id", "status", "name")
                found.result(item.at("call_id"), call_id, _parts(item, "output"))
                _of_model(item)
            case "reasoning":
                found.model([], _thought(item))
            case "item_reference":
                raise unsupported(item.path, "nothing is stored here; send the item itself.")
            case "compaction" | "compaction_trigger":
                raise unsupported(item.path, "nothing is compacted here; send the items that the model is to see.")
            case _:
                raise unknown_kind(item.path, kind, "send messages, function calls and their outputs")
    return found.end()


def _message(item: Fields, found: _Turns) -> None:
    role = item.must(str, "role")
    if role not in ("user", "assistant", "system", "developer"):
        raise wrong(item.at("role"), "user, assistant, system or developer", role)
    said = _parts(item, "content", pictures=role == "user")
    item.no_op("id", "status", "phase")
    item.end()
    if role == "assistant":
        found.model([text for text in said if isinstance(text, str)])
    else:
        found.other(role, said)


def _call(item: Fields, found: _Turns) -> None:
    call_id, name = item.must(str, "call_id"), item.must(str, "name")
    arguments = item.must(str, "arguments")
    item.no_op("id", "status")
    item.refuse("async", "a call's result is waited for.", but=False)
    path = item.at("call_id")
    _of_model(item)
    found.model([], called=call(call_id, name, arguments))
    found.called(path, call_id)


def _of_model(item: Fields) -> None:
    """The rest of a call or a result."""
    if (caller := item.object("caller")) is not None:
        caller.refuse("type", "only the model calls tools.", but="direct")
        caller.end()
    item.end()


def _thought(item: Fields) -> str:
    """The thinking of an item: itself, else what was told of it."""
    thoughts = [_part(part, {"reasoning_text": "text"}) for part in item.objects("content") or ()]
    told = [_part(part, {"summary_text": "text"}) for part in item.objects("summary") or ()]
    sealed = item.one(str, "encrypted_content")
    if sealed and not (thoughts or told):
        raise unsupported(item.at("encrypted_content"), "only who made it can read it; leave the item out.")
    item.no_op("id", "status")
    item.end()
    return "\n".join(thoughts or told)


def _parts(item: Fields, name: str, pictures: bool = True) -> list[Said]:
    """Texts, and pictures where they may be."""
    given = item.any(name)
    if isinstance(given, str):
        return [given]
    path = item.at(name)
    if not isinstance(given, list):
        raise wrong(path, "a string or a list of parts", given)
    if not given:
        raise bad_request(f"`{path}` must have a text or a part at least.", path)
    return [
        _picture(part) if pictures and part.kind() == "input_image" else _part(part, TEXTS)
        for part in objects(given, path)
    ]


def _picture(part: Fields) -> Json:
    part.any("type")
    part.refuse("file_id", "files are not kept here; send the picture as a data URL in `image_url`.")
    url, detail = part.must(str, "image_url"), part.one(str, "detail")
    part.no_op("prompt_cache_breakpoint")
    part.end()
    return picture(url, part.at("image_url"), detail)


def _part(part: Fields, kinds: dict[str, str]) -> str:
    kind = part.must(str, "type")
    if kind == "input_image":
        raise no_picture(part.path)
    if kind in ("input_file", "input_audio"):
        raise no_file(part.path)
    if kind not in kinds:
        raise unknown_kind(part.path, kind, f"send {' or '.join(kinds)}")
    text = part.must(str, kinds[kind])
    part.no_op("annotations", "logprobs", "prompt_cache_breakpoint")
    part.end()
    return text
