"""The worker that unpacks pictures: `python -m llmservice_runtime.openai.pictures.decoding`.

A picture is a stranger's file for C libraries to read: they do it in a process that may be lost, within bounds of
memory and time, and what comes back are plain pixels.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageOps, WebPImagePlugin

from llmservice_runtime.contract.pictures import FORMATS, KEPT_PIXELS, MOST_PIXELS
from llmservice_runtime.openai.worker import serve_apart

MEMORY = 384 << 20
"""Bytes of address space that the worker may take beyond what it has when it starts."""


def answer(question: Mapping[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """`{width, height}` and RGB, row by row; `{broken}` says why there are none.

    With `{file}` a JPEG of them instead, where Pillow would make something else, or too much, of the file itself.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                return {"broken": f"it has {image.width} x {image.height} pixels"}, b""
            image.load()
            as_it_is = image.width * image.height <= KEPT_PIXELS and not image.mode.startswith("I")
            upright = _plain(ImageOps.exif_transpose(_smaller(image)))
    except MemoryError:
        raise
    except Exception as error:  # whatever its many decoders raise
        return {"broken": str(error)[:200] or type(error).__name__}, b""
    size = {"width": upright.width, "height": upright.height}
    if not question.get("file"):
        return size, upright.tobytes()
    return size, b"" if as_it_is else _file(upright)


def _smaller(image: Image.Image) -> Image.Image:
    """No more than KEPT_PIXELS."""
    if image.width * image.height <= KEPT_PIXELS:
        return image
    share = math.sqrt(KEPT_PIXELS / (image.width * image.height))
    found = image.convert("RGBA" if "transparency" in image.info else "RGB") if image.mode == "P" else image
    size = max(1, int(image.width * share)), max(1, int(image.height * share))
    return found.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _file(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()


def _plain(image: Image.Image) -> Image.Image:
    """RGB; what is transparent is white. Of grey in 16 bits the upper 8 count: Pillow makes all white that is more than
    255."""
    if image.mode.startswith("I"):
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image.convert("RGB")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    Image.preinit()
    assert WebPImagePlugin.SUPPORTED
    serve_apart(answer, MEMORY, left=8)  # a plan has room for one picture
