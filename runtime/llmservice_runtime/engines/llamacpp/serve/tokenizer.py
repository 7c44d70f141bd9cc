"""The model's own tokenizer, through llama.cpp's vocabulary."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import llama_cpp
import numpy as np

from llmservice_runtime.generation.cuts import PART_BYTES, Cuts

BYTE_LEVEL = {1, 2, 5, 6}
"""Vocabularies whose tokens spell a text byte for byte: SPM, BPE, RWKV, PLaMo 2."""
BLANKS = " \t\n\v\f\r"
"""What some special tokens take away around them."""


class LlamaTokenizer:
    """Implements protocol.engine.Tokenizer. Token bytes are read on first use and kept: a list of `vocab_size`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        """Kept: the vocabulary is part of the model."""
        self.vocab: Any = llama_cpp.llama_model_get_vocab(model)
        self._size = int(llama_cpp.llama_vocab_n_tokens(self.vocab))
        self._pieces: list[bytes | None] = [None] * self._size
        self.eos = int(llama_cpp.llama_vocab_eos(self.vocab))
        self.bos = int(llama_cpp.llama_vocab_bos(self.vocab))
        vocab = self.vocab
        self.end_tokens = frozenset(t for t in range(self._size) if llama_cpp.llama_vocab_is_eog(vocab, t))
        """Tokens that end an answer: EOS, end of turn and their like."""
        self.special_tokens = frozenset(t for t in range(self._size) if llama_cpp.llama_vocab_is_control(vocab, t))
        self.chat_template = _template(model, None)
        self.tool_template = _template(model, b"tool_use")

    @property
    def vocab_size(self) -> int:
        return self._size

    @property
    def bos_token(self) -> str:
        return self._text(self.bos)

    @property
    def eos_token(self) -> str:
        return self._text(self.eos)

    def _text(self, token: int) -> str:
        return self.token_bytes(token).decode("utf-8", "replace") if token >= 0 else ""

    def at_least(self, text: str) -> int:
        """See protocol.engine.Tokenizer. The first call reads every token."""
        if not self._longest:
            return 0
        stripped = sum(map(text.count, BLANKS)) if self._cuts.strips else 0
        return (len(text) - stripped) // self._longest

    @cached_property
    def _longest(self) -> int:
        """Bytes of the longest token; 0 where a token may stand for a text of any length."""
        if int(llama_cpp.llama_vocab_type(self.vocab)) not in BYTE_LEVEL:
            return 0
        return max((len(self.token_bytes(token)) for token in range(self._size)), default=0)

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids; `add_special` adds BOS/EOS as the model wants, `parse_special` reads `<|im_end|>` as one token."""
        parts = self.parts(text, add_special=add_special, parse_special=parse_special)
        return [token for part in parts for token in part]

    def parts(self, text: str, *, add_special: bool, parse_special: bool) -> Iterator[list[int]]:
        """See protocol.engine.Tokenizer."""
        data = text.encode("utf-8", "replace")
        if len(data) <= PART_BYTES:
            yield self._encode(data, add_special, parse_special)
            return
        if add_special and self.bos >= 0 and llama_cpp.llama_vocab_get_add_bos(self.vocab):
            yield [self.bos]
        for part in (self._cuts if parse_special else self._plain_cuts).parts(data):
            yield self._encode(part, False, parse_special)
        if add_special and self.eos >= 0 and llama_cpp.llama_vocab_get_add_eos(self.vocab):
            yield [self.eos]

    @cached_property
    def _cuts(self) -> Cuts:
        return self._found_first(
            llama_cpp.LLAMA_TOKEN_ATTR_CONTROL
            | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
            | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
        )

    @cached_property
    def _plain_cuts(self) -> Cuts:
        """Where special tokens in a text are text as any other."""
        return self._found_first(llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED)

    def _found_first(self, attributes: int) -> Cuts:
        vocab = self.vocab
        flags = {token: int(llama_cpp.llama_vocab_get_attr(vocab, token)) for token in range(self._size)}
        texts = {t: bytes(llama_cpp.llama_vocab_get_text(vocab, t) or b"") for t, f in flags.items() if f & attributes}
        left, right = llama_cpp.LLAMA_TOKEN_ATTR_LSTRIP, llama_cpp.LLAMA_TOKEN_ATTR_RSTRIP
        blank_after = [text for t, text in texts.items() if flags[t] & right]
        return Cuts(texts.values(), blank_after, strips=any(flags[t] & (left | right) for t in texts))

    def _encode(self, data: bytes, add_special: bool, parse_special: bool) -> list[int]:
        size = len(data) + 8
        buffer = (ctypes.c_int32 * size)()
        n = llama_cpp.llama_tokenize(self.vocab, data, len(data), buffer, size, add_special, parse_special)
        if n < 0:
            buffer = (ctypes.c_int32 * -n)()
            n = llama_cpp.llama_tokenize(self.vocab, data, len(data), buffer, -n, add_special, parse_special)
        return list(buffer[: max(n, 0)])

    def decode(self, tokens: Sequence[int], *, skip_special: bool = True) -> str:
        """Text of tokens; what is no whole character becomes U+FFFD."""
        given = np.asarray(tokens, np.int64)
        known = given[(given >= 0) & (given < self._size)].astype(np.int32)
        ids = known.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        size = 16 * len(known) + 64
        buffer = ctypes.create_string_buffer(size)
        n = llama_cpp.llama_detokenize(self.vocab, ids, len(known), buffer, size, False, not skip_special)
        if n < 0:
            buffer = ctypes.create_string_buffer(-n)
            n = llama_cpp.llama_detokenize(self.vocab, ids, len(known), buffer, -n, False, not skip_special)
        return buffer.raw[: max(n, 0)].decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token stands for; a control token gives its name, like `<|im_end|>`."""
        piece = self._pieces[token]
        if piece is None:
            buffer = ctypes.create_string_buffer(256)
            n = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, 256, 0, True)
            if n < 0:
                buffer = ctypes.create_string_buffer(-n)
                n = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, -n, 0, True)
            piece = buffer.raw[: max(n, 0)]
            self._pieces[token] = piece
        return piece


def _template(model: Any, name: bytes | None) -> str | None:
    template = llama_cpp.llama_model_chat_template(model, name)
    return template.decode("utf-8", "replace") if template else None
