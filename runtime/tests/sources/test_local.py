"""file://: what a name means, and folders of any size and shape."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from llmservice_runtime.sources.errors import SourceError
from llmservice_runtime.sources.files import Source
from llmservice_runtime.sources.open import open_model
from llmservice_runtime.sources.secrets import Secrets
from llmservice_runtime.sources.settings import SourceSettings

NAMES = [
    "a%20b",
    "a b",
    "100%",
    "%zz",
    "a#b",
    "a?b",
    "a+b",
    "ä名",
    "a%2Fb",
    "~m",
    "a\nb",
    "a&b;c",
    "%25",
    "a:b@c",
    "b ",
    "..m",
]


def opened(uri: str, base: Path) -> Source:
    return open_model(uri, None, base=base, secrets=Secrets(None, None), settings=SourceSettings())


def make(folder: Path, content: str = "x") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(content)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_found_under_the_name_it_has(tmp_path: Path, name: str) -> None:
    make(tmp_path / name)
    for uri in (f"file://{tmp_path}/{name}", f"file://{name}", f"file://./{name}/", f"file://x/../{name}"):
        (tmp_path / "x").mkdir(exist_ok=True)
        assert [entry.path for entry in opened(uri, tmp_path).entries()] == ["config.json"]


@pytest.mark.parametrize(
    ("written", "name"), [("a%20b", "a b"), ("a%2520b", "a%20b"), ("m%C3%A4", "mä"), ("a%23", "a#")]
)
def test_an_escaped_name_is_decoded_where_nothing_has_the_written_one(tmp_path: Path, written: str, name: str) -> None:
    decoded = make(tmp_path / "100%25" / name, "decoded")  # what stands before the path is never decoded
    uri, base = f"file://{written}", tmp_path / "100%25"
    assert opened(uri, base).read("config.json", 0, 9) == b"decoded"
    assert opened(uri, base).folder == decoded
    make(base / written, "written")
    assert opened(uri, base).read("config.json", 0, 9) == b"written"


@pytest.mark.parametrize("name", ["absent", "a" * 400, "loop/m", "~no-such-user-here/m", "%00"])
def test_what_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SourceError, match=r"there is no |names no path") as caught:
        opened(f"file://{name}", tmp_path)
    assert caught.value.remedy


def test_the_home_folder_has_a_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make(tmp_path / "models" / "m")
    assert opened("file://~/models/m", Path("/")).folder == tmp_path / "models" / "m"


def test_names_that_are_no_utf8_are_names(tmp_path: Path) -> None:
    folder = make(tmp_path / os.fsdecode(b"m\xff"))
    (folder / os.fsdecode(b"x\xfe.gguf")).write_text("x")
    files = opened(f"file://{folder}", tmp_path)
    assert [entry.path for entry in files.entries()] == ["config.json", os.fsdecode(b"x\xfe.gguf")]
    assert files.slot[1]


def test_links_to_files_count_and_circles_of_folders_do_not(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    (folder / "below").mkdir()
    (folder / "below" / "x.txt").write_text("1")
    (folder / "link.txt").symlink_to(folder / "below" / "x.txt")
    (folder / "circle").symlink_to(folder)
    (folder / "broken").symlink_to(folder / "absent")
    (folder / "self.gguf").symlink_to("self.gguf")
    (folder / ".hidden").write_text("1")
    os.mkfifo(folder / "pipe")
    assert [entry.path for entry in opened(f"file://{folder}", tmp_path).entries()] == [
        "below/x.txt",
        "config.json",
        "link.txt",
    ]


def test_more_files_than_a_model_has_are_not_all_walked_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmservice_runtime.sources.local.MAX_FILES", 50)
    monkeypatch.setattr("llmservice_runtime.sources.listed.MAX_FILES", 50)
    for number in range(20):
        folder = make(tmp_path / f"f{number}")
        for file in range(9):
            (folder / f"{file}.txt").touch()
    seen = Mock(wraps=os.scandir)
    monkeypatch.setattr("os.scandir", seen)
    with pytest.raises(SourceError, match="more than 50 files"):
        opened(f"file://{tmp_path}", tmp_path)
    assert seen.call_count < 10
