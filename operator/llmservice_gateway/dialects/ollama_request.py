"""Ollama's /api/chat, /api/generate, /api/embed, /api/embeddings and /api/rerank: what each becomes at a replica."""

from __future__ import annotations

from typing import Any

from llmservice_gateway.dialects.dialect import COMPLETIONS, TOKENIZE, Translation
from llmservice_gateway.dialects.ollama_messages import content, turns
from llmservice_gateway.dialects.ollama_options import CONTEXT, Options, read
from llmservice_gateway.dialects.pieces import Json
from llmservice_gateway.dialects.reading import Fields, wrong
from llmservice_gateway.dialects.turns import schema_format
from llmservice_runtime.wire.errors import bad_request, unsupported

EFFORTS = ("low", "medium", "high", "max")
LEAVES = "a service leaves memory by `spec.scaling.idleSeconds`, or by `llmservice stop`."
WHOLE = "nothing is left out of a prompt; send a shorter one."
INSTEAD = {
    "adapters": "name the adapter in `model`.",
    "max_tokens": "use `options.num_predict`.",
    "n": "an answer is one message.",
    "response_format": "use `format`.",
    "stop": "use `options.stop`.",
    "temperature": "use `options.temperature`.",
    "tool_choice": "use /v1/chat/completions.",
}
"""Fields of others: what to do in their place."""


def chat(given: Json) -> Translation:
    """/api/chat. Without messages it only loads the model."""
    fields = Fields(given)
    head, options = _head(fields)
    keep = fields.any("keep_alive")
    messages = fields.objects("messages") or []
    tools = [tool(one) for one in fields.objects("tools") or ()]
    body = _streamed(fields) | _format(fields) | _thinking(fields) | _logprobs(fields)
    fields.end(INSTEAD)
    if not messages:
        return _load(head, keep)
    body |= {"messages": turns(messages), **({"tools": tools} if tools else {})}
    return _translation(head, options, body)


def generate(given: Json) -> Translation:
    """/api/generate: a prompt as a turn of chat, or with `raw` as it is. Without one it only loads the model."""
    fields = Fields(given)
    head, options = _head(fields)
    keep = fields.any("keep_alive")
    prompt, system = fields.one(str, "prompt") or "", fields.one(str, "system")
    images, raw = fields.texts("images") or [], fields.one(bool, "raw")
    for name, why in {
        "suffix": "no engine here fills in the middle; write the model's own marks with `raw: true`.",
        "template": "the model's own is used; write the whole prompt with `raw: true`.",
    }.items():
        fields.refuse(name, why, but="")
    fields.refuse("context", "send the turns before to /api/chat.", but=[])
    body = _streamed(fields) | _format(fields) | _thinking(fields)
    probs = _logprobs(fields)
    fields.end(INSTEAD)
    if not (prompt or images):
        return _load(head, keep)
    if not raw:
        said = [{"role": "system", "content": system}] if system else []
        body |= {"messages": [*said, {"role": "user", "content": content(prompt, images, "images")}], **probs}
        return _translation(head, options, body)
    for name, value in (("system", system), ("images", images), ("think", body.get("thinking"))):
        if value:
            raise unsupported(name, "with `raw` the prompt is all that the model reads.")
    if probs:
        body["logprobs"] = probs.get("top_logprobs", 0)
    return _translation(head, options, {"prompt": prompt, **body}, COMPLETIONS)


def embed(given: Json) -> Translation:
    """/api/embed: vectors of one or several texts."""
    fields = Fields(given)
    head, options = _head(fields)
    fields.no_op("keep_alive")
    texts = fields.any("input")
    if not isinstance(texts, str | list):
        raise wrong("input", "a string or a list of strings", texts)
    body: Json = {"input": texts}
    if fields.one(bool, "truncate") is not False:
        body["truncate_prompt_tokens"] = -1
    if (size := fields.one(int, "dimensions")) is not None:
        body["dimensions"] = size
    fields.end()
    return _pooled(head, options, body)


def embeddings(given: Json) -> Translation:
    """/api/embeddings, the older one: the vector of one text."""
    fields = Fields(given)
    head, options = _head(fields)
    fields.no_op("keep_alive")
    body: Json = {"input": fields.must(str, "prompt"), "truncate_prompt_tokens": -1}
    fields.end({"input": "use `prompt`, or /api/embed."})
    return _pooled(head, options, body)


def rerank(given: Json) -> Translation:
    """/api/rerank, which is no route of Ollama's own: Dify asks for it."""
    fields = Fields(given)
    head, options = _head(fields)
    fields.no_op("keep_alive")
    body: Json = {"query": fields.must(str, "query"), "documents": fields.must(list, "documents")}
    if (top := fields.one(int, "top_n")) is not None:
        body["top_n"] = top
    fields.end()
    return _pooled(head, options, body)


def tool(given: Fields) -> Json:
    """A function as chat has it. Ollama's own clients send `items` and other words of a schema as null."""
    if (kind := given.one(str, "type") or "function") != "function":
        raise wrong(given.at("type"), "function", kind)
    function = given.must(dict, "function")
    given.end()
    return {"type": "function", "function": _without_nulls(function)}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return value


def _head(fields: Fields) -> tuple[Json, Options]:
    """What all have: the model, and options."""
    model = fields.one(str, "model") or fields.one(str, "name")
    return {} if model is None else {"model": model}, read(fields.object("options"))


def _streamed(fields: Fields) -> Json:
    """A stream, unless it is refused."""
    if fields.one(bool, "stream") is False:
        return {}
    return {"stream": True, "stream_options": {"include_usage": True}}


def _format(fields: Fields) -> Json:
    given = fields.any("format")
    if given in (None, ""):
        return {}
    if given == "json":
        return {"response_format": {"type": "json_object"}}
    if not isinstance(given, dict):
        raise wrong("format", "json or a JSON schema", given)
    return {"response_format": schema_format("answer", given)}


def _thinking(fields: Fields) -> Json:
    given = fields.any("think")
    if given is None:
        return {}
    if isinstance(given, bool):
        return {"thinking": {"type": "enabled" if given else "disabled"}}
    if given not in EFFORTS:
        raise wrong("think", f"true, false or one of {', '.join(EFFORTS)}", given)
    return {"thinking": {"type": "enabled"}, "reasoning_effort": given}


def _logprobs(fields: Fields) -> Json:
    """Chat's fields. Of the prompt nothing is left out, which is what `truncate` and `shift` would ask for."""
    for name in ("truncate", "shift"):
        fields.refuse(name, WHOLE, but=False)
    wanted, top = fields.one(bool, "logprobs"), fields.one(int, "top_logprobs")
    if top and not wanted:
        raise bad_request("`top_logprobs` needs `logprobs: true`.", "top_logprobs")
    return {"logprobs": True, "top_logprobs": top or 0} if wanted else {}


def _load(head: Json, keep: Any) -> Translation:
    """A request that asks for nothing: it waits until a replica is there."""
    if keep in (0, "0", "0s", "0m", "0h"):
        raise unsupported("keep_alive", LEAVES)
    return Translation({**head, "prompt": "-"}, dict(head), path=TOKENIZE)


def _translation(head: Json, options: Options, body: Json, path: str = "") -> Translation:
    whole = {**head, **body, **options.sampling}
    bounded = "max_tokens" in whole
    if path == COMPLETIONS and not bounded:  # which has no way to say "as many as there is room for"
        raise bad_request("`options.num_predict` must be at least 1 with `raw: true`.", "options.num_predict")
    return Translation(whole, dict(head), bounded and not path, path, options.context_tokens, CONTEXT)


def _pooled(head: Json, options: Options, body: Json) -> Translation:
    """Vectors and scores have no sampling."""
    for name in options.given:
        raise unsupported(f"options.{name}", "nothing is generated here.")
    return Translation({**head, **body}, dict(head), False, "", options.context_tokens, CONTEXT)
