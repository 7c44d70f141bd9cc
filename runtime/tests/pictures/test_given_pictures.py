"""The pictures of a request, before any of them is unpacked."""

from __future__ import annotations

from typing import Any

import pytest

from llmservice_runtime.contract.pictures import MOST_BYTES, MOST_PICTURES
from llmservice_runtime.openai.pictures.given import PLACE, data_url, take_out
from llmservice_runtime.openai.pictures.headers import Header, header
from llmservice_runtime.wire.errors import ApiError

from .drawn import asked, file, noise, png, url


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("GIF", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "comment": b"x" * 3000}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}),
    ],
)
def test_a_header_tells_kind_and_size(kind: str, options: dict[str, Any]) -> None:
    data = file(noise(1, 300, 170), kind, **options)
    assert header(data) == Header(kind, 300, 170)
    assert all(header(data[:cut]) in (None, Header(kind, 300, 170)) for cut in range(64))


@pytest.mark.parametrize("filled", [b"\xff", b"\xff\xe0\x00\x02", b"\xff\xd0"])
def test_a_header_is_not_looked_for_in_millions_of_markers(filled: bytes) -> None:
    picture = file(noise(1, 300, 170), "JPEG")[2:]
    few, many = (b"\xff\xd8" + filled * count + picture for count in (500, MOST_BYTES // len(filled)))
    assert header(few) == Header("JPEG", 300, 170)
    assert header(many) is None


def test_pictures_are_taken_out_and_their_places_numbered() -> None:
    first, second = file(noise(1)), file(noise(2), "JPEG")
    document = {"messages": [*asked(url(first)), {"role": "user", "content": "text"}, *asked(url(second, "jpeg"))]}
    found, size = take_out(document)
    assert [(given.path, given.data) for given in found] == [
        ("messages.0.content.0", first),
        ("messages.2.content.0", second),
    ]
    assert size == len(url(first)) + len(url(second, "jpeg"))
    assert document["messages"][2]["content"][0] == {"type": PLACE, "number": 1}
    assert data_url(second) == url(second, "jpeg")


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        ("http://169.254.169.254/latest/meta-data", "remote_picture", "from no address"),
        ("https://example.com/cat.png", "remote_picture", "from no address"),
        ("file:///etc/passwd", "remote_picture", "from no address"),
        ("data:image/png,plain", "invalid_picture", "base64"),
        ("data:image/png;base64,%%%", "invalid_picture", "no base64"),
        (url(b"GIF of no kind"), "invalid_picture", "PNG, JPEG, WEBP, GIF"),
        (url(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "invalid_picture", "PNG, JPEG, WEBP, GIF"),
        (url(png(30_000, 30_000)), "picture_too_large", "30000 x 30000"),
        (url(png(16_385, 1)), "picture_too_large", "16385 x 1"),
        (url(png(0, 10)), "invalid_picture", "without a pixel"),
        (url(b"\x89PNG" + bytes(MOST_BYTES)), "picture_too_large", "20 MiB"),
    ],
)
def test_what_can_not_be_shown_is_refused_by_its_place(address: str, code: str, said: str) -> None:
    with pytest.raises(ApiError) as caught:
        take_out({"messages": [{"role": "system", "content": "x"}, *asked(address)]})
    error = caught.value
    assert (error.status, error.code, error.param) == (400, code, "messages.1.content.0.image_url.url")
    assert said in error.message


def test_the_number_of_pictures_is_bounded() -> None:
    parts = asked(url(file(noise(1))))[0]["content"][:1] * (MOST_PICTURES + 1)
    with pytest.raises(ApiError, match=str(MOST_PICTURES)) as caught:
        take_out({"messages": [{"role": "user", "content": parts}]})
    assert caught.value.param == f"messages.0.content.{MOST_PICTURES}"


@pytest.mark.parametrize(
    "part", [{"type": PLACE, "number": 0}, {"type": "image_url"}, {"type": "image_url", "image_url": 5}]
)
def test_nobody_names_a_place_or_no_picture(part: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        take_out({"messages": [{"role": "user", "content": [part]}]})
    assert caught.value.status == 400


def test_other_parts_stay_as_they_are() -> None:
    document = {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, 5]}, 7, {"content": None}]}
    assert take_out(document) == ([], 0)
    assert take_out({"messages": "x"}) == ([], 0)
