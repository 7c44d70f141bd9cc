"""Parts of chat requests that every dialect makes: messages of several texts, calls and what they gave."""

from __future__ import annotations

from collections.abc import Sequence

from llmservice_gateway.dialects.pieces import Json
from llmservice_runtime.wire.errors import ApiError, bad_request, cut, unsupported


def content(texts: Sequence[str]) -> str | list[Json]:
    """One text as it is, several as parts: engines join them as those of chat."""
    if len(texts) == 1:
        return texts[0]
    return [{"type": "text", "text": text} for text in texts]


def call(call_id: str, name: str, arguments: str) -> Json:
    """A call of a function by the assistant. `arguments` is JSON text."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def assistant(texts: Sequence[str], thoughts: Sequence[str], calls: Sequence[Json]) -> Json:
    """A turn of the model: its thinking reaches the chat template, which takes it or leaves it."""
    said: Json = {"role": "assistant", "content": content(texts) if texts else None}
    if not texts and not calls:
        said["content"] = ""
    if thoughts:
        said["reasoning_content"] = "\n".join(thoughts)
    if calls:
        said["tool_calls"] = list(calls)
    return said


def result(call_id: str, texts: Sequence[str]) -> Json:
    """What a call gave."""
    return {"role": "tool", "tool_call_id": call_id, "content": content(texts) if texts else ""}


def schema_format(name: str, schema: Json, strict: bool | None = None) -> Json:
    """`response_format` of a JSON schema."""
    held: Json = {"name": name, "schema": schema}
    if strict is not None:
        held["strict"] = strict
    return {"type": "json_schema", "json_schema": held}


def no_image(path: str) -> ApiError:
    """400: pictures reach no engine yet."""
    return unsupported(path, "no engine here reads pictures or files; send text.")


def unknown_kind(path: str, kind: str, taken: str) -> ApiError:
    """400 for a part of a kind that is not taken."""
    return unsupported(f"{path}.type", f"{cut(kind)!r} has nothing that it could become here; {taken}.")


def unanswered(path: str, ids: Sequence[str], what: str, where: str) -> ApiError:
    """400: calls without results."""
    return bad_request(f"`{path}`: {', '.join(map(_shown, ids))} of `{what}` has no result {where}.", path)


def unasked(path: str, call_id: str, what: str) -> ApiError:
    """400: a result without a call."""
    return bad_request(f"`{path}` is {_shown(call_id)}, and no `{what}` before it has this id.", path)


def _shown(call_id: str) -> str:
    return repr(cut(call_id))
