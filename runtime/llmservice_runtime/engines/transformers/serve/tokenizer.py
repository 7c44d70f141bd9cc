"""The model's own tokenizer, of the `tokenizers` library."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from llmservice_runtime.engines.base.chat_templates import chat_templates
from llmservice_runtime.engines.transformers.serve.pieces import spelling
from llmservice_runtime.generation.cuts import PART_BYTES, Cuts

COMPOSED = 4
"""Code points that a normalizer may make one of: the longest canonical decomposition."""
SAME_LENGTH = frozenset({"Prepend", "Replace", "ByteLevel", "Lowercase"})
COMPOSING = frozenset({"NFC", "NFD"})
BLANKS = " \t\n\v\f\r"


class HfTokenizer:
    """Implements protocol.engine.Tokenizer over `tokenizer`, a fast tokenizer of Transformers.

    `vocab_size` is how many logits the model gives: some models have rows that no token uses; those are no bytes.
    `end_tokens`: what generation_config.json and config.json say ends an answer, and the tokenizer's own.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, end_tokens: frozenset[int]) -> None:
        self._native: Any = tokenizer.backend_tokenizer
        self._native.no_padding()
        self._native.no_truncation()
        self._plain: Any = type(self._native).from_str(self._native.to_str())
        """Reads special tokens in a text as any other text."""
        self._plain.encode_special_tokens = True
        self._added: dict[int, Any] = self._native.get_added_tokens_decoder()
        self._size = vocab_size
        self._pieces: list[bytes | None] = [None] * vocab_size
        self._described: dict[str, Any] = json.loads(self._native.to_str())
        self._spelling = spelling(self._described.get("decoder"))
        self.bos = _id(tokenizer.bos_token_id)
        self.eos = _id(tokenizer.eos_token_id)
        ends = end_tokens | ({self.eos} if self.eos >= 0 else frozenset())
        self.end_tokens = frozenset(token for token in ends if 0 <= token < vocab_size)
        specials = {token for token, added in self._added.items() if added.special}
        self.special_tokens = frozenset(token for token in specials | {self.bos} if 0 <= token < vocab_size)
        self.bos_token = str(tokenizer.bos_token or "")
        self.eos_token = str(tokenizer.eos_token or "")
        self.chat_template, self.tool_template = chat_templates(tokenizer.chat_template)

        padding = tokenizer.pad_token_id
        self.padding = padding if padding is not None else max(self.eos, 0)
        """What stands behind shorter texts; nobody looks at it."""

    @property
    def vocab_size(self) -> int:
        return self._size

    def pair(self, one: str, two: str) -> list[int]:
        """Token ids of two texts that belong together, with the special tokens that say so."""
        return list(self._native.encode(one, two).ids)

    def at_least(self, text: str) -> int:
        """See protocol.engine.Tokenizer. The first call reads every token."""
        if not self._longest:
            return 0
        stripped = sum(map(text.count, BLANKS)) if any(t.lstrip or t.rstrip for t in self._added.values()) else 0
        return (len(text) - stripped) // self._longest

    @cached_property
    def _longest(self) -> int:
        """Characters that a token stands for at most; 0 where one may stand for a text of any length."""
        model = self._described.get("model") or {}
        normalizers = set(_types(self._described.get("normalizer")))
        spells_all = "ByteLevel" in _types(self._described.get("decoder")) or bool(model.get("byte_fallback"))
        if not spells_all or normalizers - SAME_LENGTH - COMPOSING:
            return 0
        longest = max((len(self.token_bytes(token)) for token in range(self._size)), default=0)
        return longest * (COMPOSED if normalizers & COMPOSING else 1)

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids; `add_special` adds BOS/EOS as the model wants, `parse_special` reads `<|im_end|>` as one token."""
        return [
            token for part in self.parts(text, add_special=add_special, parse_special=parse_special) for token in part
        ]

    def parts(self, text: str, *, add_special: bool, parse_special: bool) -> Iterator[list[int]]:
        """See protocol.engine.Tokenizer."""
        text = text.encode("utf-8", "replace").decode()
        native = self._native if parse_special else self._plain
        if len(text) <= PART_BYTES:
            yield list(native.encode(text, add_special_tokens=add_special).ids)
            return
        before, after = self._around if add_special else ([], [])
        yield from ([before] if before else [])
        lead = -1
        for part in (self._cuts if parse_special else self._plain_cuts).parts(text.encode()):
            # Behind the token that it was cut after, for what begins a text is spelled in another way by some.
            content = self._added[lead].content if lead >= 0 else ""
            ids = list(native.encode(content + part.decode(), add_special_tokens=False).ids)
            yield ids[1:] if lead >= 0 else ids
            lead = ids[-1] if ids and ids[-1] in self._added else -1
        yield from ([after] if after else [])

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        """What is put before and behind every text."""
        bare = self._native.encode("a", add_special_tokens=False).ids
        whole = self._native.encode("a", add_special_tokens=True).ids
        at = next(n for n in range(len(whole)) if whole[n : n + len(bare)] == bare)
        return whole[:at], whole[at + len(bare) :]

    @cached_property
    def _cuts(self) -> Cuts:
        return self._cuts_behind(list(self._added.values()))

    @cached_property
    def _plain_cuts(self) -> Cuts:
        """Where special tokens in a text are text as any other."""
        return self._cuts_behind([token for token in self._added.values() if not token.special])

    @staticmethod
    def _cuts_behind(tokens: list[Any]) -> Cuts:
        whole = [token for token in tokens if not (token.normalized or token.single_word or token.rstrip)]
        strips = any(token.lstrip or token.rstrip for token in tokens)
        return Cuts((token.content.encode() for token in whole), strips=strips)

    def decode(self, tokens: Sequence[int], *, skip_special: bool = True) -> str:
        """Text of tokens; what is no whole character becomes U+FFFD."""
        known = [int(token) for token in tokens if 0 <= token < self._size]
        return str(self._native.decode(known, skip_special_tokens=skip_special))

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token stands for; a special token gives its name, like `<|im_end|>`."""
        piece = self._pieces[token]
        if piece is None:
            added = self._added.get(token)
            text = self._native.id_to_token(token)
            piece = added.content.encode() if added is not None else self._spelling(text) if text is not None else b""
            self._pieces[token] = piece
        return piece


def _id(token: Any) -> int:
    return token if isinstance(token, int) else -1


def _types(step: Any) -> Iterator[str]:
    """Kinds of the steps of a normalizer or decoder."""
    if not isinstance(step, dict):
        return
    below = step.get("decoders") or step.get("normalizers")
    if below:
        for one in below:
            yield from _types(one)
    else:
        yield str(step.get("type"))
