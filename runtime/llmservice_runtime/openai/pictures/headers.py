"""How large a picture is, by the first bytes of its file: nothing is unpacked. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from llmservice_runtime.contract.pictures import KEPT_PIXELS

_PNG = b"\x89PNG\r\n\x1a\n"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG that say its size."""
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers of a JPEG without a length."""
_MOST_MARKERS = 2048
"""Before the one that says a size. Cameras and editors write some 300 at most; the millions that there could be take
seconds."""

_LEAST_TOKENS = 1024
"""Of encoders that see pictures, or tiles of them, of one size..."""
_TOKEN_PIXELS = 28 * 28
"""...and what a token has of those that see a picture in its own (Qwen-VL)."""


@dataclass(frozen=True, slots=True)
class Header:
    """One of FORMATS, and a size in pixels."""

    format: str
    width: int
    height: int


def header(data: bytes) -> Header | None:
    """What the file says of itself; None where it is none of FORMATS, or ends before it says so."""
    try:
        if data.startswith(_PNG) and data[12:16] == b"IHDR":
            return Header("PNG", *struct.unpack_from(">II", data, 16))
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return Header("GIF", *struct.unpack_from("<HH", data, 6))
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        return _jpeg(data) if data[:2] == b"\xff\xd8" else None
    except (struct.error, IndexError):
        return None


def most_tokens(data: bytes) -> int:
    """How many tokens of a prompt a picture may be, by its size: about."""
    found = header(data)
    return max(_LEAST_TOKENS, found.width * found.height // _TOKEN_PIXELS) if found else 0


def kept_pixels(data: bytes) -> int:
    """Pixels of a picture once it is unpacked and, where it is too large, made smaller; 1 at least."""
    found = header(data)
    return min(max(1, found.width * found.height), KEPT_PIXELS) if found else 1


def _webp(data: bytes) -> Header | None:
    match data[12:16]:
        case b"VP8X":
            sizes = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
            return Header("WEBP", *sizes) if len(data) >= 30 else None
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return Header("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return Header("WEBP", width & 0x3FFF, height & 0x3FFF)
    return None


def _jpeg(data: bytes) -> Header | None:
    """From marker to marker, to the first that begins a picture."""
    at = 2
    for _ in range(_MOST_MARKERS):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:  # filled up
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return Header("JPEG", width, height)
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return None
