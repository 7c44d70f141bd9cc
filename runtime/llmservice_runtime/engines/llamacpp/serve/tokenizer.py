"""The model's own tokenizer, through llama.cpp's vocabulary."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp


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
        template = llama_cpp.llama_model_chat_template(model, None)
        self._template: str | None = template.decode("utf-8", "replace") if template else None

    @property
    def vocab_size(self) -> int:
        return self._size

    @property
    def bos_token(self) -> str:
        return self._text(self.bos)

    @property
    def eos_token(self) -> str:
        return self._text(self.eos)

    @property
    def chat_template(self) -> str | None:
        return self._template

    def _text(self, token: int) -> str:
        return self.token_bytes(token).decode("utf-8", "replace") if token >= 0 else ""

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids; `add_special` adds BOS/EOS as the model wants, `parse_special` reads `<|im_end|>` as one token."""
        data = text.encode("utf-8", "replace")
        size = len(data) + 8
        buffer = (ctypes.c_int32 * size)()
        n = llama_cpp.llama_tokenize(self.vocab, data, len(data), buffer, size, add_special, parse_special)
        if n < 0:
            buffer = (ctypes.c_int32 * -n)()
            n = llama_cpp.llama_tokenize(self.vocab, data, len(data), buffer, -n, add_special, parse_special)
        return list(buffer[: max(n, 0)])

    def decode(self, tokens: Sequence[int], *, skip_special: bool = True) -> str:
        """Text of tokens; what is no whole character becomes U+FFFD."""
        known = [token for token in tokens if 0 <= token < self._size]
        ids = (ctypes.c_int32 * len(known))(*known)
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
