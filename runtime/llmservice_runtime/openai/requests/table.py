"""Every field of a request, as data: what docs/api.md says, what engines are asked, and what tests try.

A field is honoured, carries nothing that a model could follow (a no-op), or is refused by name. An engine that can't
honour one says so in its definition (`unsupported_fields`); everybody else does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel

from llmservice_runtime.openai.requests.chat import ChatRequest, Thinking
from llmservice_runtime.openai.requests.completion import CompletionRequest, DetokenizeRequest, TokenizeRequest
from llmservice_runtime.openai.requests.fields import ResponseFormat, StreamOptions, StructuredOutputs
from llmservice_runtime.openai.requests.pooling import EmbeddingRequest, RerankRequest, ScoreRequest


class Where(StrEnum):
    """The endpoints that take a field."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    TOKENIZE = "/tokenize"
    DETOKENIZE = "/detokenize"
    EMBEDDINGS = "/v1/embeddings"
    RERANK = "/v1/rerank"
    SCORE = "/v1/score"


MODELS: Mapping[Where, type[BaseModel]] = {
    Where.CHAT: ChatRequest,
    Where.COMPLETIONS: CompletionRequest,
    Where.TOKENIZE: TokenizeRequest,
    Where.DETOKENIZE: DetokenizeRequest,
    Where.EMBEDDINGS: EmbeddingRequest,
    Where.RERANK: RerankRequest,
    Where.SCORE: ScoreRequest,
}
PARTS: Mapping[str, type[BaseModel]] = {
    "stream_options": StreamOptions,
    "response_format": ResponseFormat,
    "structured_outputs": StructuredOutputs,
    "thinking": Thinking,
}
"""Fields whose own fields have rows: they are told apart where one engine can and another can't."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the endpoints in `where`."""

    name: str
    """Dotted where it stands in another."""
    where: frozenset[Where]
    says: str
    """Its meaning and its range, as docs/api.md has it (Markdown)."""
    default: str = ""
    """Where the model's own default says too little."""
    no_op: bool = False


CHAT, COMPLETIONS = frozenset({Where.CHAT}), frozenset({Where.COMPLETIONS})
BOTH = CHAT | COMPLETIONS
TOKENIZE, DETOKENIZE = frozenset({Where.TOKENIZE}), frozenset({Where.DETOKENIZE})
EMBEDDINGS, RERANK, SCORE = frozenset({Where.EMBEDDINGS}), frozenset({Where.RERANK}), frozenset({Where.SCORE})
POOLED = EMBEDDINGS | RERANK | SCORE
"""Of models that make vectors or scores; all others are of those that write text."""

FIELDS: tuple[Field, ...] = (
    Field("model", BOTH | TOKENIZE | DETOKENIZE | POOLED, "A served name, else 404 that lists them", "the model"),
    Field("stream", BOTH, "Boolean"),
    Field("stream_options.include_usage", BOTH, "A last chunk with `choices: []` and the usage"),
    Field("stream_options.continuous_usage_stats", BOTH, "The usage so far in every chunk"),
    Field("n", BOTH, "1 to 128, and no more than the replica runs and queues together"),
    Field("temperature", BOTH, "0 (greedy) to 2"),
    Field("top_p", BOTH, "0 to 1"),
    Field("top_k", BOTH, "At least -1; 0 and -1 switch it off"),
    Field("min_p", BOTH, "0 to 1"),
    Field("seed", BOTH, "64-bit integer", "random"),
    Field("presence_penalty", BOTH, "-2 to 2"),
    Field("frequency_penalty", BOTH, "-2 to 2"),
    Field("repetition_penalty", BOTH, "More than 0, at most 10"),
    Field("logit_bias", BOTH, "Token id → -100 to 100"),
    Field("stop", BOTH, "A string or up to 16"),
    Field("stop_token_ids", BOTH, "Up to 256 ids"),
    Field("include_stop_str_in_output", BOTH, "Boolean"),
    Field("ignore_eos", BOTH, "Boolean"),
    Field("skip_special_tokens", BOTH, "Boolean"),
    Field(
        "return_token_ids",
        BOTH,
        "Boolean. Each choice, or chunk of one, has `token_ids`: joined they are all that was generated, the token that"
        " ended the answer too. The prompt's are `prompt_token_ids`, of a completion in the choice, of a chat beside"
        " the choices; of a stream in the first chunk of each choice. The `logprobs` of a completion have `token_ids`"
        " beside their `tokens` then. Refused where thinking is left out, and with pictures",
    ),
    Field("min_tokens", BOTH, "0 to `max_tokens`"),
    Field(
        "add_special_tokens",
        BOTH | TOKENIZE,
        "Boolean. A chat template writes the special tokens itself",
        "completions and prompts true, chat and messages false",
    ),
    Field("response_format.type", BOTH, "`text`, `json_object` or `json_schema`", "`text`"),
    Field(
        "response_format.json_schema",
        BOTH,
        "`{name, schema, strict}` or the bare schema; one without a schema is a 400",
    ),
    Field("structured_outputs.json", BOTH, "A JSON schema"),
    Field("structured_outputs.regex", BOTH, "A regular expression for the whole answer"),
    Field("structured_outputs.choice", BOTH, "One of these texts"),
    Field("structured_outputs.grammar", BOTH, "Lark, in llguidance's dialect"),
    Field("structured_outputs.json_object", BOTH, "Boolean: any JSON object"),
    Field("guided_json", BOTH, "Older spelling of `structured_outputs.json`"),
    Field("guided_regex", BOTH, "Older spelling of `structured_outputs.regex`"),
    Field("guided_choice", BOTH, "Older spelling of `structured_outputs.choice`"),
    Field("guided_grammar", BOTH, "Older spelling of `structured_outputs.grammar`"),
    Field(
        "messages",
        CHAT | TOKENIZE,
        "Roles `system`, `developer` (becomes `system` where the template does not know it), `user`, `assistant`,"
        " `tool`. `content` is a string or a list of text parts, joined by line breaks, and of pictures (`image_url`)"
        " where the model sees ([images.md](images.md)); any other part is a 400 that names its place. Further fields"
        " reach the chat template.",
    ),
    Field("max_tokens", CHAT, "At least 1", "what the prompt leaves of the context"),
    Field("max_completion_tokens", CHAT, "The same under its newer name", "what the prompt leaves of the context"),
    Field(
        "logprobs",
        CHAT,
        "Boolean. The tokens joined are the content: none for what ended the answer, thinking or tool calls; a"
        " character that several tokens make comes with the last of them",
    ),
    Field("top_logprobs", CHAT, "0 to 20 alternatives, with `logprobs`"),
    Field(
        "tools",
        CHAT | TOKENIZE,
        "Up to 128 functions. A model's template `tool_use` is used with them where it has one. How calls are"
        " written is learned from the chat template: a call is rendered and read back. JSON in markup (Hermes and"
        " Qwen, Llama 3, Mistral old and new, DeepSeek, Kimi K2, Cohere, Granite 4 ...) and keys and values in"
        " markup (Qwen3-Coder, GLM 4.5 to 4.7, MiniMax M2, Seed-OSS ...) are, and"
        " the channel of gpt-oss; a template whose calls don't come"
        " back so is a 400 that says why. Names and arguments are held to the tools' schemas, so calls are always"
        " valid; a text that stands in markup without quotes is held to `enum` only. Such a value is read as what"
        " its schema allows (`Optional[str]`: `12` is a text), through `$ref` too. `stop` strings don't cut a"
        " call.",
    ),
    Field(
        "tool_choice",
        CHAT,
        "`auto`, `required`, `none` (the tools are left out of the prompt), one function, or some of them"
        " (`allowed_tools`, `mode` `auto` or `required`)",
        "`auto` with tools",
    ),
    Field("parallel_tool_calls", CHAT, "false: at most one call"),
    Field("documents", CHAT, "For templates that take them; 400 otherwise"),
    Field("chat_template_kwargs", CHAT | TOKENIZE, "Variables for the template"),
    Field("add_generation_prompt", CHAT | TOKENIZE, "Default true: the template opens the answer"),
    Field(
        "continue_final_message",
        CHAT | TOKENIZE,
        "The prompt ends within the last message, and the answer goes on with it; one that has only thinking goes on"
        " thinking",
    ),
    Field(
        "enable_thinking",
        CHAT,
        "Offered to the template, like the next four; a template without thinking has nothing to switch",
    ),
    Field("thinking", CHAT, "`{type}` (next row) or a boolean"),
    Field("thinking.type", CHAT, "`enabled`, `disabled` or `auto`"),
    Field("reasoning_effort", CHAT, "`none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`"),
    Field("verbosity", CHAT, "`low`, `medium` or `high`"),
    Field(
        "reasoning_format",
        CHAT,
        "`auto`, `deepseek`, `parsed`: thinking apart; `none`, `raw`: inside the content; `hidden`: left out",
    ),
    Field("include_reasoning", CHAT, "false: thinking is left out"),
    Field(
        "prompt",
        COMPLETIONS,
        "A string, token ids, or a list of either: `n` choices for each, in order",
    ),
    Field("prompt", TOKENIZE, "A string; either this or `messages`"),
    Field(
        "max_tokens",
        COMPLETIONS,
        "At least 1; 0 together with `echo` returns (and with `logprobs` scores) the prompt itself",
    ),
    Field("echo", COMPLETIONS, "The prompt opens each choice; with `logprobs` its tokens are scored too"),
    Field(
        "logprobs",
        COMPLETIONS,
        "0 to 20, in the legacy shape; the tokens joined are the text. With `echo` every token has its place, the"
        " one that ended the answer too (an empty text)",
    ),
    Field("best_of", COMPLETIONS, "Must equal `n`", "`n`"),
    Field("return_token_strs", TOKENIZE, "The text of each token, too"),
    Field("tokens", DETOKENIZE, "Token ids, no more than the context has"),
    Field(
        "input",
        EMBEDDINGS,
        "A text, token ids, or up to 2,048 of either. Token ids get no special tokens and no prompt",
    ),
    Field("encoding_format", EMBEDDINGS, "`float` or `base64` (32-bit floats, little-endian)"),
    Field(
        "dimensions",
        EMBEDDINGS,
        "The model's own number, or what its configuration says it was trained to be cut to (`matryoshka_dimensions`,"
        " `is_matryoshka`). A GGUF says nothing of that",
        "the model's",
    ),
    Field(
        "prompt_name",
        EMBEDDINGS,
        "One of the model's prompts (config_sentence_transformers.json); empty = none. A GGUF has none",
        "the model's `default_prompt_name`",
    ),
    Field("query", RERANK, "A text"),
    Field("documents", RERANK, 'Up to 2,048 texts or `{"text": ...}`'),
    Field("top_n", RERANK, "How many of the best are told; 0 = all", "all"),
    Field("return_documents", RERANK, "Whether their texts are"),
    Field("text_1", SCORE, "A text, or as many as `text_2` has"),
    Field("text_2", SCORE, "Up to 2,048 texts"),
    Field(
        "truncate_prompt_tokens",
        POOLED,
        "Tokens that are kept of a longer text, special ones included; -1 = as many as the context has. Of a pair the"
        " second text is cut",
        "none: a longer one is a 400",
    ),
    Field("stream_options.include_obfuscation", BOTH, "`false`: no padding is ever added", no_op=True),
    Field("modalities", CHAT, '`["text"]`: what every answer is', no_op=True),
    Field("user", BOTH | POOLED, "A text", no_op=True),
    Field("metadata", BOTH, "An object", no_op=True),
    Field("store", BOTH, "Boolean", no_op=True),
    Field("service_tier", BOTH, "A text", no_op=True),
    Field("safety_identifier", BOTH, "A text", no_op=True),
    Field("prompt_cache_key", BOTH, "A text", no_op=True),
    Field("prompt_cache_retention", BOTH, "A text", no_op=True),
    Field("prompt_cache_options", BOTH, "An object", no_op=True),
)
"""In the order in which they are told."""


def declared(where: Where) -> Iterator[str]:
    """Dotted names of the fields that the endpoint's model takes."""
    for name in MODELS[where].model_fields:
        if name not in PARTS or name == "thinking":  # that may be a boolean too
            yield name
        if name in PARTS:
            yield from (f"{name}.{part.alias or inner}" for inner, part in PARTS[name].model_fields.items())


def default_of(field: Field) -> str:
    """What the field is when it is left out, in Markdown."""
    if field.default:
        return field.default
    model, _, inner = field.name.partition(".")
    where = next(place for place in Where if place in field.where)
    info = (PARTS[model] if inner else MODELS[where]).model_fields.get(inner or field.name)
    if info is not None and info.is_required():
        return "must be there"
    value = info.default if info else None
    return "none" if value is None else f"`{json.dumps(value)}`"
