"""What bytes each token of a Hugging Face tokenizer stands for: told by the decoder in its tokenizer.json. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
SPACE = "▁"
"""What stands for a space in sentencepiece's tokens."""


def byte_alphabet() -> dict[str, int]:
    """The characters that byte-level BPE writes for bytes: itself where it prints, else the next from U+0100 on."""
    prints = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in prints]
    return {chr(byte): byte for byte in prints} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_ALPHABET = byte_alphabet()


def spelling(decoder: Mapping[str, Any] | None) -> Callable[[str], bytes]:
    """From a token as the vocabulary writes it to its bytes, by the `decoder` of tokenizer.json."""
    steps = list(_steps(decoder))
    kinds = {str(step.get("type")) for step in steps}
    if "ByteLevel" in kinds:
        return _byte_level
    spaces = [(SPACE, " ")] if "Metaspace" in kinds else []
    for step in steps:
        if step.get("type") == "Metaspace":
            spaces = [(str(step.get("replacement", SPACE)), " ")]
        pattern = step.get("pattern")
        if step.get("type") == "Replace" and isinstance(pattern, dict) and "String" in pattern:
            spaces.append((str(pattern["String"]), str(step.get("content", ""))))
        if step.get("type") == "BPEDecoder":
            spaces.append((str(step.get("suffix", "</w>")), " "))
    wordpiece = next((str(step.get("prefix", "##")) for step in steps if step.get("type") == "WordPiece"), None)
    return _Words(spaces, "ByteFallback" in kinds, wordpiece)


def _steps(decoder: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    if decoder is None:
        return
    if decoder.get("type") == "Sequence":
        for step in decoder.get("decoders", ()):
            yield from _steps(step)
    else:
        yield decoder


def _byte_level(token: str) -> bytes:
    """Bytes of a token of byte-level BPE; one with other characters is its own text, as the decoder has it."""
    try:
        return bytes(_ALPHABET[char] for char in token)
    except KeyError:
        return token.encode()


class _Words:
    """Tokens that are text with signs for spaces, and for single bytes."""

    def __init__(self, spaces: list[tuple[str, str]], byte_fallback: bool, wordpiece: str | None) -> None:
        self._spaces = spaces
        self._byte_fallback = byte_fallback
        self._wordpiece = wordpiece

    def __call__(self, token: str) -> bytes:
        if self._byte_fallback and (byte := BYTE.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        if self._wordpiece is not None:
            inner = token.startswith(self._wordpiece)
            return (token[len(self._wordpiece) :] if inner else f" {token}").encode()
        for sign, text in self._spaces:
            token = token.replace(sign, text)
        return token.encode()
