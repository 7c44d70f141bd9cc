"""What a browser loads: the libraries of the lock, small, importing nothing from elsewhere, with their licences."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from llmservice_console import vendor
from llmservice_console.assets import Assets

MOST_BYTES = 200_000
NOWHERE = "run `make .venv/.console`: the page's libraries are not here"


def test_the_libraries_are_those_of_the_lock() -> None:
    assert vendor.there(), NOWHERE


def test_everything_together_is_small_when_compressed() -> None:
    assets = Assets()
    assets.look()
    assert assets.complete, NOWHERE
    assert assets.packed_bytes() < MOST_BYTES


def test_every_import_is_a_file_beside_it() -> None:
    folder = vendor.FOLDER.parent
    scripts = [*folder.glob("vendor/*.js"), *folder.glob("static/**/*.js")]
    for script in scripts:
        for to in re.findall(r'(?:^|[;}\s])(?:import|export)\b[^;"\']*?from\s*["\']([^"\']+)["\']', script.read_text()):
            assert to.startswith("."), f"{script.name} imports {to}"
            assert (script.parent / to).resolve().is_file(), f"{script.name} imports {to}"


def test_pages_have_no_script_and_no_style_in_their_text() -> None:
    for page in (vendor.FOLDER.parent / "static").glob("*.html"):
        text = page.read_text()
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|https?://", text), page.name


def test_the_licences_are_with_them() -> None:
    text = (vendor.FOLDER / vendor.LICENSES).read_text()
    for name in ("preact", "htm", "uplot", "dompurify", "marked"):
        assert f"==== {name}" in text


def test_the_lock_names_no_registry_and_has_a_hash_of_everything() -> None:
    packages = json.loads((vendor.LOCK / "package-lock.json").read_text())["packages"]
    for name, package in packages.items():
        assert "resolved" not in package, name
        assert not name or package["integrity"].startswith("sha512-"), name


def test_npm_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "vendor"
    folder.mkdir()
    (folder / "htm.js").write_text("before")
    empty = tmp_path / "bin"
    empty.mkdir()
    (empty / "npm").write_text("#!/bin/sh\necho 'npm error code E404' >&2\nexit 1\n")
    (empty / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{empty}:/bin:/usr/bin")
    assert vendor.main(["--into", str(folder)]) == 1
    assert (folder / "htm.js").read_text() == "before"
