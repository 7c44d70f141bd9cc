"""The messages of Ollama's /api/chat as those of chat."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Sequence

from llmservice_gateway.dialects.pieces import Json
from llmservice_gateway.dialects.reading import Fields, wrong
from llmservice_gateway.dialects.turns import assistant, call, result
from llmservice_runtime.wire.errors import bad_request

KINDS = {"iVBORw": "png", "/9j/": "jpeg", "R0lGOD": "gif", "UklGR": "webp"}
"""What the base64 of a picture begins with."""


def turns(messages: Sequence[Fields]) -> list[Json]:
    """All of them. What a tool gave belongs to the first call before it that has its name and no result yet."""
    found = list[Json]()
    waiting = _Calls()
    for message in messages:
        role = message.must(str, "role")
        text, thinking = message.one(str, "content") or "", message.one(str, "thinking")
        images = message.texts("images") or []
        calls = message.objects("tool_calls") or []
        if calls and role != "assistant":
            raise bad_request(f"`{message.at('tool_calls')}` are the assistant's alone.", message.at("tool_calls"))
        if role == "assistant":
            made = [_call(one, f"call_{len(found)}_{number}") for number, one in enumerate(calls)]
            for one in made:
                waiting.add(one["id"], one["function"]["name"])
            found.append(assistant([text] if text else [], [thinking] if thinking else [], made))
        elif role == "tool":
            found.append(result(_answered(message, waiting), [text]))
        elif role in ("system", "user"):
            found.append({"role": role, "content": content(text, images, message.at("images"))})
        else:
            raise wrong(message.at("role"), "system, user, assistant or tool", role)
        message.no_op("tool_name", "name", "tool_call_id")
        message.end()
    return found


def content(text: str, images: Sequence[str], path: str) -> str | list[Json]:
    """A text, or with pictures (base64) the parts that it has with them."""
    if not images:
        return text
    parts: list[Json] = [{"type": "text", "text": text}] if text else []
    for number, image in enumerate(images):
        parts.append({"type": "image_url", "image_url": {"url": _address(image, f"{path}.{number}")}})
    return parts


def _address(image: str, path: str) -> str:
    if image.startswith("data:image/"):
        return image
    kind = next((kind for begin, kind in KINDS.items() if image.startswith(begin)), None)
    if kind is None:
        raise bad_request(f"`{path}` must be a PNG, JPEG, GIF or WebP in base64.", path)
    return f"data:image/{kind};base64,{image}"


def _call(given: Fields, own: str) -> Json:
    function = given.object("function")
    if function is None:
        raise bad_request(f"`{given.at('function')}` is missing.", given.at("function"), "missing_required_parameter")
    arguments = function.any("arguments")
    if not isinstance(arguments, dict | str | None):
        raise wrong(function.at("arguments"), "an object", arguments)
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    made = call(given.one(str, "id") or own, function.must(str, "name"), text)
    function.no_op("index", "description")
    function.end()
    given.no_op("type")
    given.end()
    return made


def _answered(message: Fields, waiting: _Calls) -> str:
    """The id of the call that this message is the result of."""
    call_id, name = message.one(str, "tool_call_id"), message.one(str, "tool_name") or message.one(str, "name")
    found = waiting.take(call_id or "", name or "")
    if found is None:
        said = f"no call of `{name}`" if name else "no call"
        raise bad_request(f"`{message.path}` is the result of {said} before it.", message.path)
    return found


class _Calls:
    """Those without results, in their order. There may be thousands, so none is looked for among all."""

    def __init__(self) -> None:
        self._ids = set[str]()
        self._queues = defaultdict[str, deque[str]](deque)
        """Ids by name, those of all under none; some have their results already."""

    def add(self, call_id: str, name: str) -> None:
        self._ids.add(call_id)
        for queue in {"", name}:
            self._queues[queue].append(call_id)

    def take(self, call_id: str, name: str) -> str | None:
        """The one with this id, else the first one of this name; None = there is none."""
        queue = self._queues[name]
        while call_id not in self._ids:
            if not queue:
                return None
            call_id = queue.popleft()
        self._ids.remove(call_id)
        return call_id
