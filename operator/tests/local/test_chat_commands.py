"""Commands within a conversation, as Ollama's people type them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from llmservice_cli.chat import talk
from llmservice_cli.chat.session import Session
from llmservice_cli.chat.slash import World, slash
from llmservice_runtime.contract.errors import UserError


def world(kept: list[bool] | None = None) -> World:
    return World(
        load=lambda word: "" if word == "sick" else f"default/{word}",
        brought=lambda _: ["It brought a hat."],
        info=lambda name: f"about {name}",
        services=lambda: "NAME",
        keep_history=(kept if kept is not None else []).append,
    )


def said(session: Session, *lines: str) -> str:
    return "\n".join(slash(session, line, world()) or "LEFT" for line in lines)


@pytest.mark.parametrize("word", ["/bye", "/exit", "/quit"])
def test_leaving(word: str) -> None:
    assert said(Session("a"), word) == "LEFT"


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("/set parameter temperature 0.7", "temperature", 0.7),
        ("/set parameter num_predict 12", "max_tokens", 12),
        ("/set parameter repeat_penalty 1.1", "repetition_penalty", 1.1),
        ("/set parameter stop <a> <b>", "stop", ["<a>", "<b>"]),
        ("/set parameter seed 7", "seed", 7),
        ("/set format json", "response_format", {"type": "json_object"}),
        ("/set think", "thinking", {"type": "enabled"}),
        ("/set nothink", "thinking", {"type": "disabled"}),
        ("/set think high", "reasoning_effort", "high"),
        ("/set verbose", "stream_options", {"include_usage": True}),
    ],
)
def test_what_is_set_is_asked_for(line: str, field: str, value: Any) -> None:
    session = Session("a")
    assert field == "temperature" or field not in session.asked("x")
    assert "Unknown" not in said(session, line)
    assert session.asked("x")[field] == value


def test_what_is_set_can_be_taken_back() -> None:
    session = Session("a")
    before = session.asked("x")
    said(session, "/set format json", "/set noformat", "/set verbose", "/set quiet")
    assert session.asked("x") == before


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("/set parameter num_ctx 8192", "--context TOKENS"),
        ("/set parameter temperature warm", "`temperature` must be a number"),
        ("/set parameter mirostat 2", "mirostat"),
        ("/set parameter nonsense 1", "nonsense"),
    ],
)
def test_a_parameter_that_can_not_be_is_told_and_not_kept(line: str, why: str) -> None:
    session = Session("a")
    said(session, "/set parameter top_k 5")
    with pytest.raises(UserError) as error:
        slash(session, line, world())
    assert why in str(error.value)
    assert session.options == {"top_k": 5}


def test_the_system_message_and_the_turns() -> None:
    session = Session("a")
    said(session, "/set system Be brief.")
    session.answered("Hi", "Ahoy")
    assert [turn["role"] for turn in session.asked("x")["messages"]] == ["system", "user", "assistant", "user"]
    assert said(session, "/show system") == "Be brief." == said(session, "/system")
    said(session, "/clear", "/system Be long.")
    assert [turn["content"] for turn in session.asked("x")["messages"]] == ["Be long.", "x"]


def test_another_model_begins_anew() -> None:
    session = Session("default/a")
    session.answered("Hi", "Ahoy")
    said(session, "/set parameter top_k 5")
    assert "Still talking to default/a" in said(session, "/load sick")
    assert said(session, "/load b") == "It brought a hat.\nNow talking to default/b."
    assert session.model == "default/b" and session.turns == [] and session.options == {"top_k": 5}


def test_what_is_shown() -> None:
    session = Session("default/a")
    assert said(session, "/show parameters") == "Nothing is set."
    said(session, "/set parameter top_p 0.9")
    assert said(session, "/show parameters") == "top_p 0.9"
    assert said(session, "/show info") == "about default/a"
    assert said(session, "/list") == "NAME"


@pytest.mark.parametrize("line", ["/?", "/help", "/? set", "/set", "/? /show", "/show"])
def test_help(line: str) -> None:
    assert "Commands:" in said(Session("a"), line)


@pytest.mark.parametrize("line", ["/nothing", "/set nothing", "/show nothing", "/set format yaml", "/set think a lot"])
def test_what_is_unknown_is_told(line: str) -> None:
    assert "Unknown command" in said(Session("a"), line)


@pytest.mark.parametrize("line", ["/save mine", "/set wordwrap", "/show modelfile", "/show license", "/show template"])
def test_what_is_elsewhere_is_told_where(line: str) -> None:
    assert "is not here:" in said(Session("a"), line)


def test_history_is_kept_or_not() -> None:
    kept: list[bool] = []
    for line in ("/set nohistory", "/set history"):
        slash(Session("a"), line, world(kept))
    assert kept == [False, True]


def test_an_answer_that_came_at_once_says_nothing_of_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    shown = talk.Shown()
    shown.usage = {"prompt_tokens": 5, "completion_tokens": 11}
    for first, told in ((99.0, "10.0 tokens/s"), (99.99, "11 tokens")):
        shown.first = first
        lines = talk.figures(shown, 98.0).splitlines()
        assert lines[-1].endswith(told) and any("11 tokens" in line for line in lines)
