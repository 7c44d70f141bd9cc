"""The page's messages: every language has the same ones, and every one that is used is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import llmservice_console

STATIC = Path(llmservice_console.__file__).parent / "static"
PLURAL = re.compile(r"\.(one|other)$")
USED = re.compile(r"\bt\(\s*'([\w.]+)'|\['([\w]+\.[\w]+)', ")
PLACES = re.compile(r"\{(\w+)\}")


def messages(language: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((STATIC / "messages" / f"{language}.json").read_text())
    return found


def meant(found: dict[str, str]) -> dict[str, set[str]]:
    """Key -> names of values; forms of one message together, as languages have different ones."""
    return {PLURAL.sub("", key): set(PLACES.findall(text)) for key, text in found.items()}


@pytest.mark.parametrize("language", sorted(file.stem for file in (STATIC / "messages").glob("*.json")))
def test_every_language_says_all(language: str) -> None:
    assert meant(messages(language)) == meant(messages("en"))
    assert all(text.strip() for text in messages(language).values())


def test_what_the_modules_say_is_there() -> None:
    known = meant(messages("en"))
    used = {
        key for module in STATIC.rglob("*.js") for found in USED.findall(module.read_text()) for key in found if key
    }
    assert used, "no module says anything: the pattern is wrong"
    assert sorted(used - known.keys()) == []
