"""What a batching engine offers to the HTTP layer: submit a request, receive deltas, one per step at most.

The HTTP layer knows tokens only through `Tokenizer`, generation only through `Engine.submit`; an engine knows nothing
of HTTP, chat or tools. llama.cpp implements this; Transformers can without a change to the HTTP layer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from llmservice_runtime.protocol.pictures import Eyes, Span


class FinishReason(StrEnum):
    """OpenAI's finish reasons that an engine itself decides (`tool_calls` is the HTTP layer's)."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


class GrammarKind(StrEnum):
    """Languages an answer can be held to."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    REGEX = "regex"
    LARK = "lark"
    """llguidance's Lark dialect; the HTTP layer writes tool-call grammars in it."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """`source` is the schema as JSON text, the regular expression, or Lark text; empty for JSON_OBJECT."""

    kind: GrammarKind
    source: str = ""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are chosen. Defaults are OpenAI's; fields beyond OpenAI are vLLM's."""

    max_tokens: int = 16
    temperature: float = 1.0
    """0 = greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 = off."""
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    """>1 discourages tokens of the prompt and the answer (vLLM's meaning: the whole context)."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    """None = off; N = the chosen token and the N most likely ones, of the model's own distribution."""
    stop: tuple[str, ...] = ()
    stop_shield: str = ""
    """From this text on no stop string counts: a tool call is not cut. Empty = none."""
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: int = 0
    skip_special_tokens: bool = True
    grammar: Grammar | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt, `n` answers. `prompt_tokens` fit the context together with `params.max_tokens` (checked before)."""

    request_id: str
    prompt_tokens: Sequence[int]
    params: SamplingParams
    n: int = 1
    prompt_logprobs: bool = False
    """Completions `echo` with logprobs: report the prompt's logprobs too."""
    adapter: str = ""
    """Name of the LoRA adapter that answers; empty = the model itself."""
    pictures: Sequence[Span] = ()
    """Those of the prompt, in their order; its tokens there are below 0. The last token of a prompt is none of them."""
    batch: bool = False
    """It goes behind all that are not."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One position: the token chosen, its log-probability, and the most likely alternatives, best first."""

    token_id: int
    token: bytes
    logprob: float
    top: tuple[tuple[int, bytes, float], ...] = ()
    text: str | None = None
    """What it added to the text: a character that several tokens make comes with the last. None = its bytes' own."""


@dataclass(slots=True)
class Delta:
    """What one step added to one answer. `text` may be empty (a partial UTF-8 character, a possible stop string)."""

    index: int
    """Which of the n answers."""
    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprob] | None = None
    """Of tokens whose text was given, now or before: joined they are the answer's text. No token that ended it."""
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    """The stop string or stop token id that ended it (vLLM's field)."""
    error: str | None = None
    """With finish_reason ERROR: what happened."""
    unfit: bool = False
    """With an error: it is the request's grammar that can't be followed, not a fault of the engine (HTTP 400)."""
    cached_tokens: int = 0
    """Prompt tokens that came from the prefix cache; set in the first delta of an answer."""
    prompt_logprobs: list[TokenLogprob | None] | None = None


class QueueFullError(Exception):
    """The bounded queue is full (HTTP 429) or the engine is draining (503). `retry_after` in seconds."""

    def __init__(self, message: str, retry_after: int, draining: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.draining = draining


class UnknownAdapterError(LookupError):
    """No adapter of this name is loaded (any more; HTTP 404)."""


class GrammarError(ValueError):
    """A schema, regular expression or grammar that can't be honoured; the message says which part (HTTP 400)."""


class Tokenizer(Protocol):
    """The model's own tokenizer."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def bos_token(self) -> str: ...
    @property
    def eos_token(self) -> str: ...
    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ...

    @property
    def chat_template(self) -> str | None: ...
    @property
    def tool_template(self) -> str | None:
        """Another template for requests with tools (`tool_use`), where the model has one."""
        ...

    def at_least(self, text: str) -> int:
        """Tokens that a text has at least, told without tokenizing it; 0 where nothing is known."""
        ...

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]: ...
    def parts(self, text: str, *, add_special: bool, parse_special: bool) -> Iterator[list[int]]:
        """What `encode` gives, a piece at a time: each takes milliseconds, whatever the text."""
        ...

    def decode(self, tokens: Sequence[int], *, skip_special: bool = True) -> str: ...
    def token_bytes(self, token: int) -> bytes: ...


class Served(Protocol):
    """A loaded model, whatever it answers."""

    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def context_tokens(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def max_answers(self) -> int:
        """The most answers that may run and wait together: what one request may never exceed."""
        ...


class Engine(Served, Protocol):
    """A loaded model that writes text, with continuous batching."""

    def submit(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        """Start a request; deltas of all answers arrive interleaved, each answer ending with a finish_reason.

        Raises QueueFullError and GrammarError before the first delta. Closing the iterator (or cancelling the task that
        reads it) cancels the request within one step. A slow reader gets coalesced deltas, never an unbounded queue.
        """
        ...

    @property
    def eyes(self) -> Eyes | None:
        """What shows pictures to it; None = it reads text alone."""
        ...

    async def validate_grammar(self, grammar: Grammar) -> None:
        """GrammarError when it can't be honoured; compiled grammars are cached."""
        ...
