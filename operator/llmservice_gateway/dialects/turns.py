"""Parts of chat requests that every dialect makes: messages of several texts, calls and what they gave."""

from __future__ import annotations

from collections.abc import Sequence

from llmservice_gateway.dialects.pieces import Json
from llmservice_runtime.wire.errors import ApiError, bad_request, cut, unsupported

Said = str | Json
"""A text, or the part of a chat that is a picture."""


def content(said: Sequence[Said]) -> str | list[Json]:
    """One text as it is; several, and pictures, as parts: engines join them as those of chat."""
    if len(said) == 1 and isinstance(said[0], str):
        return said[0]
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in said]


def picture(url: str, path: str, detail: str | None = None) -> Json:
    """A picture, which the engine judges; ApiError 400 for one that would have to be fetched."""
    if not url[:5].lower() == "data:":
        raise unsupported(path, "pictures are fetched from no address here; send the picture itself, in base64.")
    return {"type": "image_url", "image_url": {"url": url} | ({"detail": detail} if detail else {})}


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


def result(call_id: str, said: Sequence[Said]) -> Json:
    """What a call gave."""
    return {"role": "tool", "tool_call_id": call_id, "content": content(said) if said else ""}


def schema_format(name: str, schema: Json, strict: bool | None = None) -> Json:
    """`response_format` of a JSON schema."""
    held: Json = {"name": name, "schema": schema}
    if strict is not None:
        held["strict"] = strict
    return {"type": "json_schema", "json_schema": held}


def no_file(path: str) -> ApiError:
    """400: files reach no engine."""
    return unsupported(path, "no engine here reads files or sound; send text, or a picture.")


def no_picture(path: str) -> ApiError:
    """400 for a picture where chat has none."""
    return unsupported(path, "pictures are taken from users and tools alone; send text.")


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
