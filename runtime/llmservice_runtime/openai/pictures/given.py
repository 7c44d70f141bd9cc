"""The pictures of a request: found in its messages, taken out, checked as far as their headers tell. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmservice_runtime.contract.pictures import FORMATS, MOST_BYTES, MOST_PICTURES, MOST_PIXELS, MOST_SIDE
from llmservice_runtime.openai.pictures.headers import header
from llmservice_runtime.wire.errors import ApiError, bad_request, cut, unsupported

KINDS = ("image_url", "input_image")
"""Types of parts that are pictures: of chats, and of OpenAI's responses."""
PLACE = "\0picture"
"""The type of what stands for a picture once it is taken out; `number` is its place in the request."""
DETAILS = ("auto", "low", "high", "original")


@dataclass(frozen=True, slots=True)
class Given:
    """One picture of a request, as its file: `path` is where the request has it."""

    path: str
    data: bytes


def take_out(document: dict[str, Any]) -> tuple[list[Given], int]:
    """The pictures of a body's messages, which keep a PLACE for each; and how many characters they took in it.

    ApiError 400 with the place of the first that can't be one. What else is wrong with the body others say.
    """
    found: list[Given] = []
    size = 0
    for path, parts, at in list(_parts(document)):
        part = parts[at]
        if part.get("type") == PLACE:
            raise unsupported(path, "there is no content part of this type.")
        if part.get("type") not in KINDS:
            continue
        if len(found) == MOST_PICTURES:
            raise bad_request(f"`{path}` is one picture too many: a request may have {MOST_PICTURES}.", path)
        url = _url(part, path)
        found.append(Given(path, picture(url, path)))
        size += len(url)
        parts[at] = {"type": PLACE, "number": len(found) - 1}
    return found, size


def _parts(document: dict[str, Any]) -> Iterator[tuple[str, list[Any], int]]:
    messages = document.get("messages")
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            for at, part in enumerate(content):
                if isinstance(part, dict):
                    yield f"messages.{number}.content.{at}", content, at


def _url(part: dict[str, Any], path: str) -> str:
    """`{image_url: {url, detail}}`, or the URL itself."""
    given = part.get("image_url")
    detail = given.get("detail") if isinstance(given, dict) else part.get("detail")
    if detail is not None and detail not in DETAILS:
        raise bad_request(f"`{path}.image_url.detail` must be one of {', '.join(DETAILS)}.", f"{path}.image_url.detail")
    url = given.get("url") if isinstance(given, dict) else given
    if not isinstance(url, str):
        raise bad_request(f"`{path}.image_url.url` must be a string: a data URL.", f"{path}.image_url.url")
    return url


def picture(url: str, path: str) -> bytes:
    """The file in a data URL, whose header is that of a picture within bounds; ApiError 400 otherwise."""
    field = f"{path}.image_url.url"
    head, comma, _ = url[:256].partition(",")
    if not head[:5].lower() == "data:":
        raise bad_request(
            f"`{field}` is {cut(url, 60)!r}: pictures are fetched from no address here. Send the picture itself, as"
            " `data:image/png;base64,...`.",
            field,
            "remote_picture",
        )
    if not comma or not head.lower().endswith(";base64"):
        raise _broken(field, "must begin with `data:image/png;base64,` (or jpeg, webp, gif)")
    if (len(url) - len(head) - 1) * 3 // 4 > MOST_BYTES + 2:
        raise _broken(field, f"has more than {MOST_BYTES >> 20} MiB; make it smaller", "picture_too_large")
    try:
        data = base64.b64decode(url[len(head) + 1 :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _broken(field, f"is no base64: {error}") from error
    check(data, field)
    return data


def data_url(data: bytes) -> str:
    """A picture that was checked, as a URL again."""
    found = header(data)
    kind = found.format.lower() if found else "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def check(data: bytes, field: str) -> None:
    """ApiError 400 for a file that is no picture, or one that is larger than it may be."""
    if len(data) > MOST_BYTES:
        raise _broken(field, f"has more than {MOST_BYTES >> 20} MiB; make it smaller", "picture_too_large")
    found = header(data)
    if found is None:
        raise _broken(field, f"is no picture that can be read here ({', '.join(FORMATS)})")
    if not found.width or not found.height:
        raise _broken(field, "is a picture without a pixel")
    if max(found.width, found.height) > MOST_SIDE or found.width * found.height > MOST_PIXELS:
        raise _broken(
            field,
            f"is a picture of {found.width} x {found.height} pixels; at most {MOST_PIXELS} are read, and {MOST_SIDE} in"
            " a row. Make it smaller",
            "picture_too_large",
        )


def _broken(field: str, what: str, code: str = "invalid_picture") -> ApiError:
    return bad_request(f"`{field}` {what}.", field, code)
