"""Pictures to show: plain colours and noise, as files and as the data URLs of requests."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def noise(seed: int, width: int = 56, height: int = 56) -> Image.Image:
    """Another picture for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def halves(upper: str, lower: str, side: int = 56) -> Image.Image:
    """One colour above another."""
    image = Image.new("RGB", (side, side), upper)
    image.paste(lower, (0, side // 2, side, side))
    return image


def file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """As a file of that kind."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def url(data: bytes, kind: str = "png") -> str:
    """As a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def shown(seed: int, text: str = "What is this?") -> list[dict[str, Any]]:
    """Messages of one picture and a question."""
    return asked(url(file(noise(seed))), text)


def asked(address: str, text: str = "What is this?") -> list[dict[str, Any]]:
    """Messages of one picture, by its URL, and a question."""
    parts = [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": text}]
    return [{"role": "user", "content": parts}]


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that says it is so large, with so much in it, unpacked."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
