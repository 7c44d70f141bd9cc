"""TGI's /generate, /generate_stream and /: from a prompt with parameters to a plain completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmservice_gateway.dialects.dialect import Translation
from llmservice_gateway.dialects.pieces import Json
from llmservice_gateway.dialects.reading import Fields, wrong
from llmservice_runtime.wire.errors import bad_request, unsupported

NEW_TOKENS = 100
"""`max_new_tokens` where it is not said."""
SAME: Mapping[str, tuple[str, type[Any]]] = {
    "temperature": ("temperature", float),
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
    "repetition_penalty": ("repetition_penalty", float),
    "frequency_penalty": ("frequency_penalty", float),
    "seed": ("seed", int),
}
"""Parameters that a completion has as well, with their names there; engines know the ranges."""
IDS = "return_token_ids"
TOKENS: Mapping[str, Any] = {"logprobs": 0, IDS: True}
"""What has a completion tell its tokens."""
REFUSED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "best_of": ((1,), "every answer that is generated is returned; ask several times."),
    "typical_p": ((1,), "no engine here has typical sampling; use `top_p`."),
    "watermark": ((False,), "no engine here marks what it writes."),
    "truncate": ((), "nothing is left out of a prompt; send a shorter one."),
    "top_n_tokens": ((0,), "use /v1/completions with `logprobs`."),
    "adapter_id": ((), "name the adapter in the `model` of /v1/completions."),
}
"""Parameters that are taken where they say what is done anyway."""


def generate(given: Json) -> Translation:
    """/generate: a whole answer."""
    fields = Fields(given)
    body, echo = _completion(fields)
    fields.refuse("stream", "POST to /generate_stream.", but=False)
    fields.end()
    return _translation(body, echo)


def generate_stream(given: Json) -> Translation:
    """/generate_stream."""
    fields = Fields(given)
    body, echo = _completion(fields)
    fields.refuse("stream", "POST to /generate.", but=True)
    fields.end()
    return _streamed(body, echo)


def either(given: Json) -> Translation:
    """POST /: whichever `stream` says; a whole answer stands in a list."""
    fields = Fields(given)
    streams = fields.one(bool, "stream")
    body, echo = _completion(fields)
    fields.end()
    return _streamed(body, echo) if streams else _translation(body, {**echo, "listed": True})


def _streamed(body: Json, echo: Json) -> Translation:
    if echo.get("prefill"):
        raise unsupported("parameters.decoder_input_details", "streams tell nothing of the prompt; POST to /generate.")
    options = {"include_usage": True, "continuous_usage_stats": True}
    return _translation({**body, **TOKENS, "stream": True, "stream_options": options}, echo)


def _translation(body: Json, echo: Json) -> Translation:
    """Without ids tokens are told as well, but not which of them are the prompt's."""
    return Translation(body, echo, spare=() if echo.get("prefill") else (IDS,))


def _completion(fields: Fields) -> tuple[Json, Json]:
    """The body, and what whoever tells the answer has to know."""
    prompt = fields.must(str, "inputs")
    if not prompt:
        raise bad_request("`inputs` must not be empty.", "inputs")
    parameters = fields.object("parameters") or Fields({}, "parameters")
    body: Json = {"prompt": prompt, "max_tokens": parameters.one(int, "max_new_tokens") or NEW_TOKENS}
    for name, (own, kind) in SAME.items():
        if (value := parameters.one(kind, name)) is not None:
            body[own] = value
    warps = body.get("temperature", 1) != 1 or body.get("top_k") or body.get("top_p", 1) < 1
    if not (parameters.one(bool, "do_sample") or warps):
        body["temperature"] = 0
    if stops := [*(parameters.texts("stop") or ()), *(parameters.texts("stop_sequences") or ())]:
        body |= {"stop": stops, "include_stop_str_in_output": True}
    body |= _grammar(parameters)
    for name, (taken, why) in REFUSED.items():
        if (value := parameters.any(name)) is not None and value not in taken:
            raise unsupported(parameters.at(name), why)
    prefill = bool(parameters.one(bool, "decoder_input_details"))
    details, full = parameters.one(bool, "details"), parameters.one(bool, "return_full_text")
    parameters.no_op("return_tensors", "clean_up_tokenization_spaces")
    parameters.end()
    if details or prefill:
        body |= TOKENS
    echo: Json = {"details": bool(details or prefill), "seed": body.get("seed")}
    if prefill:
        body["echo"] = echo["prefill"] = True
    return body, {**echo, "prompt": prompt} if full else echo


def _grammar(parameters: Fields) -> Json:
    if (grammar := parameters.object("grammar")) is None:
        return {}
    kind, value = grammar.must(str, "type"), grammar.any("value")
    grammar.end()
    if kind == "regex" and isinstance(value, str):
        return {"structured_outputs": {"regex": value}}
    if kind in ("json", "json_schema") and isinstance(value, dict):
        schema = value.get("schema", value) if kind == "json_schema" else value
        return {"structured_outputs": {"json": schema}}
    if kind not in ("json", "json_schema", "regex"):
        raise wrong(grammar.at("type"), "json, json_schema or regex", kind)
    raise wrong(grammar.at("value"), "a regular expression" if kind == "regex" else "a JSON schema", value)
