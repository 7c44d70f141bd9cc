"""Pictures unpacked in a process that may be lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llmservice_runtime.contract.pictures import FORMATS, UNPACKED
from llmservice_runtime.openai.pictures import prompt
from llmservice_runtime.openai.pictures.given import Given
from llmservice_runtime.openai.pictures.prompt import unpacked
from llmservice_runtime.wire.errors import ApiError

from .drawn import file, noise, png

FAST = {"PNG": {"compress_level": 1}, "WEBP": {"method": 0}}
WHITE = (2048, 2048, b"\xff" * 3 * 2048 * 2048)


def unpack(data: bytes) -> tuple[int, int, bytes]:
    return asyncio.run(unpacked(Given("messages.0.content.0", data)))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
def test_pixels_come_as_they_are(kind: str) -> None:
    image = noise(3, 31, 17) if kind != "GIF" else Image.new("P", (31, 17), 7)
    options = {"lossless": True} if kind == "WEBP" else {}
    assert unpack(file(image, kind, **options)) == (31, 17, image.convert("RGB").tobytes())


def test_what_is_transparent_is_white_and_turned_pictures_are_upright() -> None:
    clear = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    assert unpack(file(clear)) == (2, 1, b"\xff" * 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert unpack(file(noise(1, 40, 20), "JPEG", exif=exif))[:2] == (20, 40)


def test_large_pictures_are_made_smaller() -> None:
    width, height, rgb = unpack(file(Image.new("L", (4096, 4096), 9)))
    assert width == height == 2048 and len(rgb) == 3 * 2048 * 2048 and set(rgb) == {9}


def test_the_largest_of_every_kind_is_unpacked_in_what_is_planned_for_it() -> None:
    largest = Image.new("RGBA", (4096, 4096), (255, 255, 255, 200))
    for kind in FORMATS:
        image = largest if kind in ("PNG", "WEBP") else largest.convert("RGB")
        width, height, rgb = unpack(file(image, kind, **FAST.get(kind, {})))
        assert (width, height) == WHITE[:2] and set(rgb) == {255}, kind
    worker = prompt._worker._process
    assert worker is not None
    (told,) = (line for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines() if line[:5] == "VmHWM")
    assert UNPACKED // 2 < int(told.split()[1]) << 10 <= UNPACKED, told


def test_grey_in_16_bits_is_no_white() -> None:
    grey = Image.fromarray(np.array([[0, 255, 256, 30_000, 65_535]], np.uint16))
    assert unpack(file(grey)) == (5, 1, bytes(level for level in (0, 0, 1, 117, 255) for _ in range(3)))


@pytest.mark.parametrize(
    "data",
    [
        file(noise(1))[:900],
        file(noise(1), "JPEG")[:300],
        png(56, 56),
        png(56, 56, b"x" * 9),
        b"\x89PNG\r\n\x1a\n" + bytes(60),
    ],
)
def test_broken_pictures_are_refused(data: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        unpack(data)
    assert caught.value.status == 400 and caught.value.param == "messages.0.content.0.image_url.url"


def test_a_bomb_takes_no_more_than_its_picture() -> None:
    """300 MB of zeros behind the header of a small picture."""
    assert unpack(png(8, 8, bytes(300 << 20))) == (8, 8, bytes(8 * 8 * 3))
