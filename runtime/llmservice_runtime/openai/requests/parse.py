"""From body bytes to a request model, or to a 400 that names the field, the value and the range."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from llmservice_runtime.contract.validation import said
from llmservice_runtime.openai.pictures.given import take_out
from llmservice_runtime.openai.requests.fields import Strict
from llmservice_runtime.wire.body import bound_parts, finite
from llmservice_runtime.wire.errors import ApiError, bad_request, unsupported

M = TypeVar("M", bound=BaseModel)

SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")
"""What may be half of a pair, escaped or raw; only then the whole text is checked."""

LISTS = ("messages", "prompt", "tokens")
"""Fields that may be lists; what is in them takes a token each, and more."""

INSTEAD: dict[str, str] = {
    "audio": "this server answers in text only.",
    "bad_words": "use `logit_bias` with -100 for the tokens, or a `stop` string.",
    "cache_salt": "the prefix cache belongs to one tenant already.",
    "chat_template": "templates of clients are not run; the model's own is used, see `chat_template_kwargs`.",
    "echo": "chat answers never repeat the prompt; use /v1/completions with `echo`.",
    "function_call": "use `tool_choice`.",
    "functions": "use `tools`.",
    "input": "this is the field of /v1/embeddings or /v1/responses; chat takes `messages`, completions take `prompt`.",
    "keep_alive": "the service's `scaling.idleSeconds` says how long a model stays loaded.",
    "length_penalty": "beam search is not offered; use `temperature` and `n`.",
    "max_length": "use `max_tokens`.",
    "max_new_tokens": "use `max_tokens`.",
    "moderation": "this server moderates nothing; put a moderating model in front.",
    "messages": "use /v1/chat/completions for messages; completions take `prompt`.",
    "modalities": "this server answers in text only.",
    "num_ctx": "the context length is the service's `contextTokens`.",
    "num_predict": "use `max_tokens`.",
    "prediction": "predicted outputs are not offered.",
    "priority": "requests of a service go first come, first served; batch work says `X-LLMService-Priority: batch`.",
    "prompt": "use /v1/completions for a prompt; chat takes `messages`.",
    "prompt_logprobs": "use /v1/completions with `echo` and `logprobs`.",
    "reasoning": "use `reasoning_effort` or `chat_template_kwargs`.",
    "suffix": "the model has no fill-in-the-middle format here; put the text into `prompt`.",
    "truncate_prompt_tokens": "shorten the prompt; /tokenize counts its tokens.",
    "typical_p": "use `top_p` or `min_p`.",
    "use_beam_search": "use `temperature` and `n`.",
    "web_search_options": "this server has no web search; offer one through `tools`.",
}
"""Known fields of other servers and versions: what to use instead."""


def parse(
    model: type[M],
    body: bytes,
    context_tokens: int | None = None,
    unsupported_fields: Mapping[str, str] | None = None,
    pictures: int | None = None,
) -> M:
    """Validate a request body; ApiError 400 with the field, the value and the range.

    Lists of what takes a token at least are no longer than the context, where that is given. `unsupported_fields` are
    those that this engine can't honour, with what to use instead. `pictures`: the most bytes that the body may have
    beside its pictures; None = it may have none, and what is one stays where it is.
    """
    document = _document(body)
    if context_tokens is not None:
        _bound(document, context_tokens)
    found, size = take_out(document) if pictures is not None else ([], 0)
    if pictures is not None and len(body) - size > pictures:
        raise _too_long(context_tokens or 0, len(body) - size, pictures)
    present = {name: value for name, value in document.items() if value is not None}
    try:
        request = model.model_validate(present)
    except ValidationError as error:
        _refuse(error, model, document)
    refuse_unsupported(request, unsupported_fields or {})
    if found and isinstance(request, Strict):
        request.put_pictures(found)
    return request


def _too_long(context_tokens: int, size: int, most: int) -> ApiError:
    return exceeded(context_tokens, f"{size} bytes, more than the {most} that a request for so many can have")


def exceeded(context_tokens: int, what: str) -> ApiError:
    """400 for a body that no prompt of this context can be."""
    return bad_request(
        f"This model's context is {context_tokens} tokens, and the body has {what}. Shorten it.",
        code="context_length_exceeded",
    )


def refuse_unsupported(request: BaseModel, fields: Mapping[str, str]) -> None:
    """ApiError 400 for the first of `fields` (dotted name -> what to use instead) that says more than its default."""
    for name, instead in fields.items():
        if _says(request, name.split(".")):
            raise unsupported(name, instead)


def _says(value: object, path: Sequence[str]) -> bool:
    for part in path:
        known = type(value).model_fields if isinstance(value, BaseModel) else {}
        found = next((name for name, info in known.items() if part in (name, info.alias)), None)
        if found is None or getattr(value, found) == known[found].default:
            return False
        value = getattr(value, found)
    return True


def _bound(document: dict[str, Any], context_tokens: int) -> None:
    for name in LISTS:
        if isinstance(items := document.get(name), list) and len(items) > context_tokens:
            raise bad_request(
                f"This model's context is {context_tokens} tokens, and `{name}` has {len(items)} items. Shorten it.",
                name,
                "context_length_exceeded",
            )


def _document(body: bytes) -> dict[str, Any]:
    bound_parts(body)
    try:
        document = json.loads(body, parse_constant=_no_constant, parse_float=finite)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise bad_request(f"The body is not JSON: {reason}.", code="invalid_json") from error
    if not isinstance(document, dict):
        raise bad_request("The body must be a JSON object.", code="invalid_json")
    if SURROGATE.search(body):
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except (UnicodeEncodeError, RecursionError) as error:
            message = "The body has half of a surrogate pair (\\ud800 to \\udfff), which is no character."
            raise bad_request(message, code="invalid_json") from error
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _refuse(error: ValidationError, model: type[BaseModel], document: dict[str, Any]) -> NoReturn:
    """Turn the most telling of pydantic's errors into ours."""
    details = error.errors(include_url=False)
    # An unknown field explains more than what else is wrong, and of several ways to read a field the one that goes
    # deepest into it.
    unknown = [d for d in details if d["type"] == "extra_forbidden"]
    ways = unknown or [d for d in details if d["loc"][:1] == details[0]["loc"][:1]]
    detail = max(ways, key=lambda d: len(_path(d, document)))
    where = [str(part) for part in detail["loc"]]
    field = where[0] if where else ""
    if detail["type"] == "extra_forbidden" and len(where) == 1:
        raise unsupported(field, INSTEAD.get(field, "no such field here; docs/api.md lists what is accepted."))
    if detail["type"] == "missing" and len(where) == 1:
        raise ApiError(400, f"`{field}` is missing.", code="missing_required_parameter", param=field)
    if model.model_fields.get(field) is not None and len({tuple(d["loc"][:1]) for d in details}) == 1:
        options = sorted({said(d) for d in details})
        problem = "; or ".join(options[:4])
    else:
        problem = said(detail)
    path = ".".join(_path(detail, document)) or "body"
    raise bad_request(f"`{path}` is not valid: {problem} (got {_shown(detail['input'])}).", param=path)


def _path(detail: ErrorDetails, document: Any) -> list[str]:
    """`messages`, `0`, `role`; names of union members that pydantic adds are not in the body, and dropped."""
    parts: list[str] = []
    for part in detail["loc"]:
        keys = range(len(document)) if isinstance(document, list) else document if isinstance(document, dict) else ()
        if part in keys:
            document = document[part]
        elif detail["type"] != "missing" or part != detail["loc"][-1]:
            continue
        parts.append(str(part))
    return parts


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
