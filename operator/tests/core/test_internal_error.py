from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from core_world import World  # type: ignore[import-not-found]

from llmservice_operator.facts.quantity import parse_quantity
from llmservice_operator.facts.values import Json, Outcome
from llmservice_operator.status.internal_error import internal_error

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def bug(text: str = "many") -> Exception:
    try:
        parse_quantity(text)
    except ValueError as error:
        return error
    raise AssertionError


def conditions(status: Json) -> dict[str, Json]:
    return {entry["type"]: entry for entry in status["conditions"]}


def failed(world: World, now: datetime = NOW, error: Exception | None = None) -> tuple[Json, Outcome]:
    outcome = internal_error(world.service, tuple(world.objects.values()), error or bug(), now)
    assert outcome.status is not None
    world.service["status"] = outcome.status
    return outcome.status, outcome


def test_what_serves_goes_on_serving_and_status_says_what_failed_and_since_when(world: World) -> None:
    world.served()
    before = world.service["status"]
    status, outcome = failed(world)
    ready = conditions(status)["Ready"]
    assert (ready["status"], ready["reason"]) == ("True", "InternalError")
    assert ready["message"].startswith("1 of 1 replicas serve requests. The operator fails over this service by a bug")
    assert (
        "since 2026-01-02T03:04:05Z: ValueError: 'many' is not a quantity (facts/quantity.py, line" in ready["message"]
    )
    assert "Report it" in ready["message"]
    assert conditions(status)["Progressing"]["reason"] == "InternalError"
    assert conditions(status)["Available"]["status"] == "True"
    assert conditions(status)["Planned"] == conditions(before)["Planned"]
    assert {name: status[name] for name in ("plan", "url", "model")} == {
        name: before[name] for name in ("plan", "url", "model")
    }
    assert [(note.type, note.reason) for note in outcome.notes] == [("Warning", "InternalError")]
    assert not outcome.apply and not outcome.delete


def test_the_same_bug_again_says_the_same_and_another_one_since_the_first(world: World) -> None:
    world.served()
    first, _ = failed(world)
    again, outcome = failed(world, NOW + timedelta(hours=1))
    assert again == first and outcome.notes == ()
    other, _ = failed(world, NOW + timedelta(hours=2), bug("x"))
    assert "since 2026-01-02T03:04:05Z: ValueError: 'x'" in conditions(other)["Ready"]["message"]


def test_a_service_that_never_got_anywhere_is_not_ready(world: World) -> None:
    status, _ = failed(world, error=KeyError("metadata"))
    ready = conditions(status)["Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "InternalError")
    assert "KeyError: 'metadata'. What runs goes on" in ready["message"]


@pytest.mark.parametrize("broken", [{"kind": "Deployment", "metadata": {}}, {"kind": "Odd", "metadata": {"x": 1}}])
def test_children_that_are_odd_do_not_hide_the_bug(world: World, broken: Json) -> None:
    outcome = internal_error(world.service, (broken,), bug(), NOW)
    assert outcome.status is not None
    assert conditions(outcome.status)["Ready"]["reason"] == "InternalError"


def test_a_pass_that_succeeds_says_something_else(world: World) -> None:
    world.served()
    failed(world)
    world.pass_()
    assert world.condition("Ready")["reason"] == "Ready"
    assert world.condition("Progressing")["reason"] == "Ready"
