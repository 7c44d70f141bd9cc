"""From request fields to what an engine samples with, checked against the model's context."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llmservice_runtime.openai.requests.fields import SharedFields
from llmservice_runtime.protocol.engine import Engine, Grammar, GrammarError, GrammarKind, SamplingParams
from llmservice_runtime.wire.errors import ApiError, bad_request

SCHEMA_WORDS = frozenset(
    [
        "type",
        "properties",
        "required",
        "items",
        "prefixItems",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "not",
        "$ref",
        "$defs",
        "definitions",
        "$schema",
        "additionalProperties",
        "patternProperties",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
    ]
)
"""What only a schema has, not the object around one."""
WHITE_SPACE = r"[ \n\t]{0,20}"
"""Between the parts of JSON: enough for a line break and an indentation."""


def answer_length(prompt_tokens: int, wanted: int | None, context_tokens: int, field: str) -> int:
    """max_tokens: what was asked for, or what the context leaves. ApiError 400 with both numbers when too long."""
    if prompt_tokens >= context_tokens:
        raise too_long(context_tokens, str(prompt_tokens), field)
    if wanted is None:
        return context_tokens - prompt_tokens
    if prompt_tokens + wanted > context_tokens:
        raise _exceeded(
            f"This model's context is {context_tokens} tokens, but {prompt_tokens + wanted} were asked for:"
            f" {prompt_tokens} of the prompt and {wanted} of the answer (`max_tokens`). Shorten either.",
            field,
        )
    return wanted


def too_long(context_tokens: int, prompt_tokens: str, field: str) -> ApiError:
    """400 for a prompt that leaves no place for an answer; `prompt_tokens` as far as they were counted."""
    return _exceeded(
        f"This model's context is {context_tokens} tokens, and the prompt alone has {prompt_tokens}. Shorten it.", field
    )


def _exceeded(message: str, field: str) -> ApiError:
    return bad_request(message, field, "context_length_exceeded")


def sampling(
    request: SharedFields, *, max_tokens: int, logprobs: int | None, grammar: Grammar | None, vocab_size: int
) -> SamplingParams:
    """Sampling parameters; ApiError 400 for what only the model can judge (token ids, min_tokens)."""
    if request.min_tokens > max_tokens:
        raise bad_request(f"`min_tokens` is {request.min_tokens}, more than `max_tokens` ({max_tokens}).", "min_tokens")
    bias = request.logit_bias or {}
    _check_ids("logit_bias", bias, vocab_size)
    stop_ids = tuple(request.stop_token_ids or ())
    _check_ids("stop_token_ids", stop_ids, vocab_size)
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=max(request.top_k, 0),
        min_p=request.min_p,
        seed=request.seed,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        repetition_penalty=request.repetition_penalty,
        logit_bias=bias,
        logprobs=logprobs,
        stop=stop,
        stop_token_ids=stop_ids,
        include_stop_str_in_output=request.include_stop_str_in_output,
        ignore_eos=request.ignore_eos,
        min_tokens=request.min_tokens,
        skip_special_tokens=request.skip_special_tokens,
        grammar=grammar,
    )


def _check_ids(field: str, ids: Any, vocab_size: int) -> None:
    wrong = [token for token in ids if not 0 <= token < vocab_size]
    if wrong:
        raise bad_request(f"`{field}` has token id {wrong[0]}; this model's ids are 0 to {vocab_size - 1}.", field)


def constraint(request: SharedFields) -> tuple[str, Grammar] | None:
    """What the answer is held to, with the field that says so; ApiError 400 when two fields do."""
    found = [*_from_response_format(request), *_from_structured(request), *_from_guided(request)]
    if len(found) > 1:
        fields = " and ".join(f"`{field}`" for field, _ in found)
        raise bad_request(f"{fields} both constrain the answer; send one of them.", found[1][0])
    return found[0] if found else None


def _from_response_format(request: SharedFields) -> list[tuple[str, Grammar]]:
    wanted = request.response_format
    if wanted is None:
        return []
    if wanted.type != "json_schema" and wanted.json_schema is not None:
        raise bad_request(
            f"`response_format.json_schema` is given, but `type` is {wanted.type!r}; make it 'json_schema'.",
            "response_format.json_schema",
        )
    if wanted.type == "text":
        return []
    if wanted.type == "json_object":
        return [("response_format", Grammar(GrammarKind.JSON_OBJECT))]
    given = wanted.json_schema
    if given is None:
        raise bad_request("`response_format.json_schema` is missing.", "response_format.json_schema")
    return [("response_format", _schema(_described(given), "response_format.json_schema"))]


def _described(given: dict[str, Any]) -> dict[str, Any]:
    """The schema in `{name, schema, strict}`, or the bare schema itself, as Dify sends it."""
    if "schema" not in given and SCHEMA_WORDS & set(given):
        return given
    found = given.get("schema")
    if not isinstance(found, dict):
        shown = "is missing" if found is None else f"must be an object (got {json.dumps(found)[:80]})"
        raise bad_request(f"`response_format.json_schema.schema` {shown}.", "response_format.json_schema.schema")
    return found


def _from_structured(request: SharedFields) -> list[tuple[str, Grammar]]:
    wanted = request.structured_outputs
    if wanted is None:
        return []
    found: list[tuple[str, Grammar]] = []
    if wanted.json_ is not None:
        found.append(("structured_outputs.json", _schema(wanted.json_, "structured_outputs.json")))
    if wanted.regex is not None:
        found.append(("structured_outputs.regex", Grammar(GrammarKind.REGEX, wanted.regex)))
    if wanted.choice is not None:
        found.append(("structured_outputs.choice", _choice(wanted.choice)))
    if wanted.grammar is not None:
        found.append(("structured_outputs.grammar", Grammar(GrammarKind.LARK, wanted.grammar)))
    if wanted.json_object:
        found.append(("structured_outputs.json_object", Grammar(GrammarKind.JSON_OBJECT)))
    return found


def _from_guided(request: SharedFields) -> list[tuple[str, Grammar]]:
    found: list[tuple[str, Grammar]] = []
    if request.guided_json is not None:
        found.append(("guided_json", _schema(request.guided_json, "guided_json")))
    if request.guided_regex is not None:
        found.append(("guided_regex", Grammar(GrammarKind.REGEX, request.guided_regex)))
    if request.guided_choice is not None:
        found.append(("guided_choice", _choice(request.guided_choice)))
    if request.guided_grammar is not None:
        found.append(("guided_grammar", Grammar(GrammarKind.LARK, request.guided_grammar)))
    return found


def _schema(schema: dict[str, Any] | str, field: str) -> Grammar:
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except RecursionError:
            raise bad_request(f"`{field}` is nested too deeply.", field) from None
        except ValueError as error:
            raise bad_request(f"`{field}` is not JSON: {error}.", field) from error
    if not isinstance(schema, dict):
        raise bad_request(f"`{field}` must be a JSON schema object.", field)
    return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(bounded(schema), ensure_ascii=False))


def bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with white space bounded: a model that is unsure would otherwise write blanks until `max_tokens`."""
    return {"x-guidance": {"whitespace_pattern": WHITE_SPACE}, **schema}


def _choice(options: list[str]) -> Grammar:
    """One of the strings, literally; Lark strings are JSON strings."""
    return Grammar(GrammarKind.LARK, "start: " + " | ".join(json.dumps(option) for option in options))


async def checked(
    engine: Engine, grammar: Grammar, field: str, parts: Sequence[tuple[str, dict[str, Any]]] = ()
) -> Grammar:
    """The grammar, once the engine can honour it; ApiError 400 naming the field otherwise.

    `parts` are the fields and schemas that it was made of: the first that fails alone is the one named.
    """
    try:
        await engine.validate_grammar(grammar)
    except GrammarError as error:
        for name, schema in parts:
            await checked(engine, Grammar(GrammarKind.JSON_SCHEMA, json.dumps(bounded(schema))), name)
        raise bad_request(f"`{field}` can't be honoured: {error}", field, "invalid_grammar") from error
    return grammar
