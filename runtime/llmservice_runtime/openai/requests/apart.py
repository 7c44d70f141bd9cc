"""A large request, taken apart where it was parsed and put together where it is served: small fields, large bytes."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import Any, TypeVar

from llmservice_runtime.openai.pictures.given import Given
from llmservice_runtime.openai.requests.fields import Strict
from llmservice_runtime.wire.errors import ApiError, bad_request

M = TypeVar("M", bound=Strict)

RENDERED = frozenset({"messages", "documents", "chat_template_kwargs"})
"""Fields that only the chat template reads: they stay bytes."""
PACKED = ("prompt", "tokens", "input", "documents")
PLACEHOLDERS: Mapping[str, Any] = {"tokens": [], "documents": [""]}
"""What stands for a packed field until it is unpacked, where an empty text would not be valid."""
UNREAD = frozenset({"metadata", "prompt_cache_options"})
SMALL_BYTES = 1 << 20
"""Of JSON: all that is no message, prompt or document (tools and their schemas, most of all)."""
MOST_ID = (1 << 31) - 1


def taken_apart(request: Strict) -> tuple[dict[str, Any], bytes]:
    """`{request}` without what is large, and that as bytes; with `{field, kind, sizes}` they are a packed field."""
    small = request.model_dump(exclude={*RENDERED, *PACKED, *UNREAD}, exclude_unset=True, by_alias=True)
    if messages := getattr(request, "messages", None):
        small |= {"prompt": ""} if getattr(request, "prompt", None) is not None else {}
        rest = request.model_dump_json(include=set(RENDERED), exclude_unset=True).encode()
        answer = _small(small | {"messages": [_shortened(messages[-1].model_dump(exclude_unset=True))]})
        pictures = [(given.path, len(given.data)) for given in request.pictures]
        answer |= {"pictures": pictures} if pictures else {}
        return answer, b"".join((*(given.data for given in request.pictures), rest))
    for field in PACKED:
        if (value := getattr(request, field, None)) is not None:
            kind, sizes, data = pack(value, field)
            placeholder = PLACEHOLDERS.get(field, "")
            return _small(small | {field: placeholder}) | {"field": field, "kind": kind, "sizes": sizes}, data
    return _small(small), b""


def put_together(model: type[M], found: Mapping[str, Any], data: bytes) -> M:
    """The request again. Of `messages` there is the last one alone, its texts shortened; `apart` has them all."""
    request = model.model_validate(found["request"])
    if "field" in found:
        return request.model_copy(update={found["field"]: unpack(found["kind"], found["sizes"], data)})
    pictures, at = [], 0
    for path, size in found.get("pictures", ()):
        pictures.append(Given(path, data[at : at + size]))
        at += size
    request.put_pictures(pictures)
    request.put_apart(data[at:])
    return request


def pack(value: str | list[Any], field: str = "prompt") -> tuple[str, list[int], bytes]:
    """(kind, sizes of its parts, bytes) of a text, texts, token ids or lists of those."""
    if isinstance(value, str) or (value and isinstance(value[0], str)):
        texts = [text.encode() for text in ([value] if isinstance(value, str) else value)]
        return "text" if isinstance(value, str) else "texts", [len(text) for text in texts], b"".join(texts)
    lists = value if value and isinstance(value[0], list) else [value]
    for ids in lists:
        if ids and max(ids) > MOST_ID:
            raise bad_request(f"`{field}` has token id {max(ids)}, which no model has.", field)
    packed = b"".join(array("i", ids).tobytes() for ids in lists)
    return "ids" if lists[0] is value else "lists", [len(ids) * 4 for ids in lists], packed


def unpack(kind: str, sizes: list[int], data: bytes) -> Any:
    """What was packed. Each part is made in one go: a moment for the largest."""
    parts = [data[start:end] for start, end in pairwise(accumulate(sizes, initial=0))]
    if kind in ("text", "texts"):
        texts = [part.decode() for part in parts]
        return texts[0] if kind == "text" else texts
    lists = [array("i", part).tolist() for part in parts]
    return lists[0] if kind == "ids" else lists


def _small(request: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(request, ensure_ascii=False).encode())
    if size > SMALL_BYTES:
        message = f"Beside messages, prompts and documents the body has {size} bytes; {SMALL_BYTES} are the most."
        raise ApiError(413, message, code="request_too_large")
    return {"request": request}


def _shortened(message: dict[str, Any]) -> dict[str, Any]:
    """Which texts a message has, not what they say."""
    return {
        name: value if name == "role" or not value else str(value)[:1]
        for name, value in message.items()
        if name != "tool_calls"
    }
