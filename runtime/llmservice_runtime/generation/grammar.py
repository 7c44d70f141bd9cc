"""Answers held to a JSON schema, a regular expression or a grammar, by llguidance."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import llguidance
import numpy as np

from llmservice_runtime.generation.arrays import Floats
from llmservice_runtime.protocol.engine import Grammar, GrammarError, GrammarKind, Tokenizer

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

CACHED = 64
JSON_SPACE: JsonCompileOptions = {"whitespace_pattern": r"[ \n\t]{0,8}"}
"""White space between JSON tokens has an end: a small model could fill its whole answer with it."""
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_BARRIERS: Floats = np.where(_BITS, 0, -np.inf).astype(np.float32)
"""What each byte of llguidance's bit mask means for the logits of its eight tokens."""
_LEAD = b"\x02"
"""No token joins this byte with text behind it."""


class Vocabulary(Tokenizer, Protocol):
    """What a grammar reads of a tokenizer beyond text: which tokens end an answer and which are no text."""

    @property
    def bos(self) -> int:
        """Token id; negative = none."""
        ...

    @property
    def eos(self) -> int:
        """Token id; negative = none."""
        ...

    @property
    def end_tokens(self) -> frozenset[int]: ...
    @property
    def special_tokens(self) -> frozenset[int]: ...


class Matcher:
    """The state of one answer in its grammar."""

    def __init__(self, native: llguidance.LLMatcher, vocab: int) -> None:
        self._native = native
        self._vocab = vocab
        self._bits = np.zeros(4 * -(-vocab // 32), np.uint8)

    def barrier(self) -> Floats:
        """What to add to logits, (vocab,): 0 for tokens that may come next, -inf for the rest.

        The end tokens are among the former where the answer may end.
        """
        self._native.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        self._check()
        whole: Floats = _BARRIERS.take(self._bits, axis=0)
        return whole.reshape(-1)[: self._vocab]

    def accept(self, token: int) -> bool:
        """Take a token; True when the grammar is complete and nothing can follow."""
        self._native.consume_token(token)
        self._check()
        return bool(self._native.is_stopped())

    def _check(self) -> None:
        if self._native.is_error():
            raise GrammarError(_first_line(self._native.get_error()))


class GrammarCompiler:
    """Compiles grammars and keeps the last ones. Thread-safe; the first use builds the token trie (up to seconds)."""

    def __init__(self, tokenizer: Vocabulary) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._native: llguidance.LLTokenizer | None = None
        self._cache: OrderedDict[Grammar, llguidance.LLMatcher] = OrderedDict()

    def cached(self, grammar: Grammar) -> bool:
        """Whether `matcher` would answer at once."""
        return grammar in self._cache

    def matcher(self, grammar: Grammar) -> Matcher:
        """A fresh state at the beginning of the grammar; GrammarError when it can't be honoured."""
        with self._lock:
            compiled = self._cache.get(grammar)
            if compiled is None:
                compiled = self._compile(grammar)
                self._cache[grammar] = compiled
                if len(self._cache) > CACHED:
                    self._cache.popitem(last=False)
            else:
                self._cache.move_to_end(grammar)
            return Matcher(compiled.deep_copy(), self._tokenizer.vocab_size)

    def _compile(self, grammar: Grammar) -> llguidance.LLMatcher:
        try:
            native = llguidance.LLMatcher(self._trie(), _text(grammar), log_level=0)
        except ValueError as error:
            raise GrammarError(_first_line(str(error))) from error
        if native.is_error():
            raise GrammarError(_first_line(native.get_error()))
        return native

    def _trie(self) -> llguidance.LLTokenizer:
        if self._native is None:
            vocabulary = _Vocabulary(self._tokenizer)
            self._native = llguidance.LLTokenizer(llguidance.TokenizerWrapper(vocabulary))
            vocabulary.greedy = self._native.greedy_tokenize
        return self._native


class _Vocabulary:
    """What llguidance's TokenizerWrapper reads."""

    def __init__(self, tokenizer: Vocabulary) -> None:
        self._tokenizer = tokenizer
        self.greedy: Callable[[str], list[int]] | None = None
        """For tokenizers that change a text: the longest tokens that spell it."""
        self._lead = b"" if self._encode(b"a") == b"a" else _LEAD
        self.eos_token_id = tokenizer.eos if tokenizer.eos >= 0 else min(tokenizer.end_tokens, default=0)
        self.bos_token_id = tokenizer.bos if tokenizer.bos >= 0 else None
        self.tokens = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
        self.special_token_ids = sorted(tokenizer.special_tokens | tokenizer.end_tokens)

    def __call__(self, text: bytes) -> list[int]:
        """Tokens of what a grammar forces. Their bytes are exactly `text`: sentencepiece puts a space before a text."""
        tokens = self._tokenizer.encode((self._lead + text).decode(), add_special=False, parse_special=False)
        skipped = b""
        while self._lead and tokens and not skipped.endswith(self._lead):
            skipped += self._tokenizer.token_bytes(tokens.pop(0))
        if self.greedy is None or self._bytes(tokens) == text:
            return tokens
        return self.greedy(text.decode())

    def _encode(self, text: bytes) -> bytes:
        return self._bytes(self._tokenizer.encode(text.decode(), add_special=False, parse_special=False))

    def _bytes(self, tokens: list[int]) -> bytes:
        return b"".join(map(self._tokenizer.token_bytes, tokens))


def _first_line(message: str) -> str:
    """llguidance's sentence without the dump of its state behind it."""
    return message.strip().partition("\n")[0]


def _text(grammar: Grammar) -> str:
    """llguidance's form of a grammar."""
    matcher = llguidance.LLMatcher
    if grammar.kind is GrammarKind.JSON_OBJECT:
        return str(matcher.grammar_from_json_schema('{"type": "object"}', JSON_SPACE))
    if grammar.kind is GrammarKind.REGEX:
        return str(matcher.grammar_from_regex(grammar.source))
    if grammar.kind is GrammarKind.LARK:
        return str(matcher.grammar_from_lark(grammar.source))
    try:
        json.loads(grammar.source)
    except ValueError as error:
        raise GrammarError(f"the schema is not JSON: {error}") from error
    return str(matcher.grammar_from_json_schema(grammar.source, JSON_SPACE))
