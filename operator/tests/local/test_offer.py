"""An engine that is not here is offered: asked for at a terminal, installed with --yes, else the command is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from machine_world import Here, fake_engines, manifest  # type: ignore[import-not-found]

from llmservice_api.manifest import load_manifests
from llmservice_cli.local.offer import Offer
from llmservice_cli.local.order import Order
from llmservice_cli.local.prepare import Preparation
from llmservice_cli.places import Places
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.sources.progress import progress_for


def nothing(engine: EngineType) -> None:
    raise AssertionError(f"{engine} was installed")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    engines = tmp_path / "engines"
    monkeypatch.setenv("LLMSERVICE_ENGINES_DIR", str(engines))
    return Here(tmp_path, engines)


def ordered(here: Here, offer: Offer) -> Order:
    orders: list[Order] = []
    (wanted,) = load_manifests([Path(here.write(manifest("a")))])
    preparation = Preparation(Places.from_environment(here.env), print, progress_for, offer)
    preparation.prepare(wanted, orders.append).result(timeout=60)
    return orders[0]


def brings(here: Here) -> Callable[[EngineType], None]:
    def bring(engine: EngineType) -> None:
        fake_engines(here.folder / "engines")

    return bring


def test_with_yes_it_is_installed_without_a_question_and_then_served(here: Here) -> None:
    def ask(question: str) -> bool:
        raise AssertionError(question)

    order = ordered(here, Offer(yes=True, ask=ask, bring=brings(here)))
    assert order.failure is None and order.settings is not None


def test_at_a_terminal_the_question_says_what_is_fetched(here: Here) -> None:
    asked: list[str] = []
    order = ordered(here, Offer(ask=lambda question: asked.append(question) or True, bring=brings(here)))  # type: ignore[func-returns-value]
    assert order.failure is None
    (question,) = asked
    assert "default/a needs llama.cpp, which is not installed: at most" in question and "to fetch" in question


@pytest.mark.parametrize("answer", [False, None])
def test_no_and_nobody_to_ask_leave_it_with_the_command(here: Here, answer: bool | None) -> None:
    order = ordered(here, Offer(ask=lambda question: answer, bring=nothing))
    assert order.failure is not None and order.failure.failure is FailureClass.ENGINE_NOT_INSTALLED
    assert "llmservice install llamacpp" in order.failure.remedy and "up --yes" in order.failure.remedy


def test_up_without_a_terminal_ends_with_the_command(here: Here) -> None:
    said = here.run("up", "--port", "0", "-f", here.write(manifest("a")), code=1)
    assert "llmservice install llamacpp" in said and "up --yes" in said
    assert "llmservice install llamacpp" in here.run("engines", "tiny.gguf", code=1)
    assert not json.loads(here.run("engines", "tiny.gguf", "-o", "json", code=1))[0]["runs"]
