"""From the messages of a request to what chat templates expect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llmservice_runtime.openai.pictures.given import PLACE
from llmservice_runtime.openai.pictures.marks import marked
from llmservice_runtime.openai.requests.chat import Message
from llmservice_runtime.openai.templates import TemplateText
from llmservice_runtime.wire.errors import bad_request, cut, unsupported

TEXT_PARTS = {"text", "input_text", "output_text", "refusal"}


def normalise(messages: Sequence[Message], template: TemplateText, mark: str = "") -> list[dict[str, Any]]:
    """Content parts become one text, arguments of tool calls become objects, `developer` becomes `system` where needed.

    A picture that was taken out becomes `mark` and its number (`marks`). Raises ApiError 400 for a part that is neither
    that nor text, naming it.
    """
    return [_message(message, number, template, mark) for number, message in enumerate(messages)]


def _message(message: Message, number: int, template: TemplateText, mark: str) -> dict[str, Any]:
    plain = {name: value for name, value in message.model_dump(exclude_unset=True).items() if value is not None}
    if message.role == "developer" and "developer" not in template.source:
        plain["role"] = "system"
    content = _text(message.content, f"messages.{number}.content", mark)
    if content is None and not (message.tool_calls and template.keeps_null_content):
        content = ""
    plain["content"] = content if content is None or not template.takes_parts else [{"type": "text", "text": content}]
    if message.tool_calls:
        plain["tool_calls"] = [_call(call, f"messages.{number}.tool_calls") for call in message.tool_calls]
    return plain


def _text(content: str | list[dict[str, Any]] | None, path: str, mark: str) -> str | None:
    """The text of a content; parts are joined by a line break, as vLLM does for templates that take strings, but for
    pictures, as llama.cpp does."""
    if content is None or isinstance(content, str):
        return content
    text = ""
    after_picture = True
    for number, part in enumerate(content):
        kind = part.get("type")
        picture = kind == PLACE and mark
        if not picture and kind not in TEXT_PARTS:
            raise unsupported(
                f"{path}.{number}",
                f"a content part of type {cut(str(kind))!r} can't be read by this "
                + ("model; send text and pictures (`image_url`)." if mark else "text model; send text parts."),
            )
        added = marked(mark, part["number"]) if picture else part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(added, str):
            raise bad_request(f"`{path}.{number}.text` must be a string.", f"{path}.{number}.text")
        text += added if picture or after_picture else f"\n{added}"
        after_picture = bool(picture)
    return text


def _call(call: dict[str, Any], path: str) -> dict[str, Any]:
    """Templates print arguments as an object; clients send them as JSON text."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise bad_request(f"`{path}` needs `function.name` in every call.", path)
    arguments = function.get("arguments", "{}")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except RecursionError:
            raise bad_request(f"`{path}`: the arguments of {function['name']} are nested too deeply.", path) from None
        except ValueError as error:
            raise bad_request(f"`{path}`: the arguments of {function['name']} are not JSON: {error}.", path) from error
    return {**call, "function": {**function, "arguments": arguments}}
