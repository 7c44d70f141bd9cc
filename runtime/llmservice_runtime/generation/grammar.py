"""Answers held to a JSON schema, a regular expression or a grammar, by llguidance.

Grammars come from clients. Before one is compiled here it is tried out in a process that may be lost (`prover`): what
hangs, crashes or fails in the middle of an answer is refused when it comes.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import llguidance
import numpy as np

from llmservice_runtime.generation.arrays import Floats
from llmservice_runtime.generation.schema_parts import Schema, locate, wide_parts
from llmservice_runtime.openai.worker import LostError, Worker
from llmservice_runtime.protocol.engine import Grammar, GrammarError, GrammarKind, Tokenizer

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

CACHED = 64
MAX_SOURCE = 512 << 10
"""Characters of a grammar. Compiling takes up to milliseconds per kilobyte, and everybody's memory."""
SMALL = 8 << 10
"""Longer ones are proved and compiled apart, so that they hold up each other only."""
PROVE_SECONDS = {True: 4.0, False: 10.0}
"""What proving a small or a longer grammar may take; some milliseconds are usual."""
EMBEDDED = re.compile(r"%json\s+")
"""What a schema stands behind in Lark."""
JSON = json.JSONDecoder()
ROW = re.compile(r"Current row has (\d+) items; max is (\d+)")
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
    """The state of one answer in its grammar. `failed` is told of what the grammar could not be followed for."""

    def __init__(self, native: llguidance.LLMatcher, vocab: int, failed: Callable[[str], None] | None = None) -> None:
        self._native = native
        self._vocab = vocab
        self._failed = failed
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
            reason = _explained(self._native.get_error())
            if self._failed is not None:
                self._failed(reason)
            raise GrammarError(reason)


class GrammarCompiler:
    """Compiles grammars and keeps the last ones. Thread-safe; the first use builds the token trie (up to seconds).

    Nobody waits for another's grammar to be compiled, but those whose own is as long.
    """

    def __init__(self, tokenizer: Vocabulary) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._trie_lock = threading.Lock()
        self._native: llguidance.LLTokenizer | None = None
        self._cache: OrderedDict[Grammar, llguidance.LLMatcher] = OrderedDict()
        self._refused: OrderedDict[Grammar, str] = OrderedDict()
        self._threads = {small: ThreadPoolExecutor(1, "grammar") for small in (True, False)}
        self._provers = {small: Worker("llmservice_runtime.generation.prover") for small in (True, False)}

    def cached(self, grammar: Grammar) -> bool:
        """Whether `matcher` would answer at once."""
        return grammar in self._cache

    async def prepare(self, grammar: Grammar) -> None:
        """Let `matcher` answer at once; GrammarError when the grammar can't be honoured."""
        if not self.cached(grammar):
            thread = self._threads[_small(grammar)]
            await asyncio.get_running_loop().run_in_executor(thread, self._compiled, grammar)

    def matcher(self, grammar: Grammar) -> Matcher:
        """A fresh state at the beginning of the grammar; GrammarError when it can't be honoured."""
        compiled = self._compiled(grammar)
        return Matcher(compiled.deep_copy(), self._tokenizer.vocab_size, lambda reason: self._refuse(grammar, reason))

    def _compiled(self, grammar: Grammar) -> llguidance.LLMatcher:
        with self._lock:
            if (reason := self._refused.get(grammar)) is not None:
                raise GrammarError(reason)
            if (known := self._cache.get(grammar)) is not None:
                self._cache.move_to_end(grammar)
                return known
        try:
            compiled = self._compile(grammar)
        except GrammarError as error:
            self._refuse(grammar, str(error))
            raise
        with self._lock:
            self._cache[grammar] = compiled
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return compiled

    def _refuse(self, grammar: Grammar, reason: str) -> None:
        """Remember what can't be honoured: also a grammar that failed only in the middle of an answer."""
        with self._lock:
            self._cache.pop(grammar, None)
            self._refused[grammar] = reason
            if len(self._refused) > CACHED:
                self._refused.popitem(last=False)

    def _compile(self, grammar: Grammar) -> llguidance.LLMatcher:
        if len(grammar.source) > MAX_SOURCE:
            size = f"{len(grammar.source) >> 10} KiB, and {MAX_SOURCE >> 10} KiB are the most"
            raise GrammarError(f"it has {size}; shorten its lists and descriptions")
        try:
            text = _text(grammar)
            if grammar.kind is not GrammarKind.JSON_OBJECT:
                self._prove(grammar, text)
            native = llguidance.LLMatcher(self._trie(), text, log_level=0)
        except ValueError as error:
            raise error if isinstance(error, GrammarError) else GrammarError(_explained(str(error))) from error
        if native.is_error():
            raise GrammarError(self._located(grammar, _explained(native.get_error())))
        return native

    def _prove(self, grammar: Grammar, text: str) -> None:
        """GrammarError when trying it out fails, or one of its wide parts does."""
        if reason := self._problem(text, grammar):
            raise GrammarError(self._located(grammar, reason))
        for schema in _schemas(grammar):
            for path, part in wide_parts(schema):
                if reason := self._problem(_text(Grammar(GrammarKind.JSON_SCHEMA, json.dumps(part))), grammar):
                    raise GrammarError(_placed(path, reason))

    def _problem(self, text: str, whole: Grammar) -> str:
        """Why the prover can't honour a grammar, or a part of `whole`; empty = it can."""
        small = _small(whole)
        try:
            return _explained(str(self._provers[small].ask(text, PROVE_SECONDS[small])))
        except LostError as error:
            raise GrammarError(
                f"it is too complex: trying it out {error}; use fewer references and repetitions"
            ) from error

    def _located(self, grammar: Grammar, reason: str) -> str:
        """The reason, with the part of a schema that it is about."""
        if grammar.kind is not GrammarKind.JSON_SCHEMA or not reason:
            return reason

        def problem(part: Schema) -> str:
            try:
                return self._problem(_text(Grammar(GrammarKind.JSON_SCHEMA, json.dumps(part))), grammar)
            except ValueError as error:
                return _explained(str(error))

        return _placed(*locate(json.loads(grammar.source), reason, problem))

    def _trie(self) -> llguidance.LLTokenizer:
        with self._trie_lock:
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


def _schemas(grammar: Grammar) -> list[Schema]:
    """The JSON schemas in a grammar."""
    if grammar.kind is GrammarKind.JSON_SCHEMA:
        return [json.loads(grammar.source)]
    if grammar.kind is not GrammarKind.LARK:
        return []
    found = []
    for at in EMBEDDED.finditer(grammar.source):
        try:
            found.append(JSON.raw_decode(grammar.source, at.end())[0])
        except ValueError:
            continue
    return [schema for schema in found if isinstance(schema, dict)]


def _placed(path: str, reason: str) -> str:
    return f"at {f'`{path}`' if path else 'the top'}: {reason}"


def _small(grammar: Grammar) -> bool:
    return len(grammar.source) <= SMALL


def _explained(message: str) -> str:
    """llguidance's sentence without the dump of its state behind it, and what its terms mean."""
    first, _, rest = message.strip().partition("\n")
    # A regular expression's errors draw a picture first, and the grammar around may draw one behind what is wrong.
    said = [line.strip() for line in rest.splitlines() if line.startswith("error:")] or rest.splitlines()[-1:]
    message = f"{first} {said[0].strip()}" if first.endswith(":") and said else first
    if found := ROW.search(message):
        return (
            f"{found[1]} alternatives may stand at one place, {found[2]} are the most; use fewer `anyOf` branches,"
            " or fewer properties that may be left out"
        )
    if "coerce_one_of" in message:  # an option of its own, which no client can set
        return "its `oneOf` branches are not told apart; give each a property with a `const` of its own, or use `anyOf`"
    return "no answer satisfies it" if message in ("NoExtensionBias", "NoExtension") else message


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
