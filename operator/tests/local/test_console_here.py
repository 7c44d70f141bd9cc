"""The console of a running machine: its address, what it knows of services that run and that don't, and without it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from machine_world import Here, manifest  # type: ignore[import-not-found]

from llmservice_cli.local.front import Front


def told(here: Here, path: str) -> Any:
    with urllib.request.urlopen(f"{here.snapshot()['page']}-/api/{path}", timeout=30) as answer:
        return json.loads(answer.read())


def test_up_and_ps_say_where_it_is(running: Here) -> None:
    page = running.snapshot()["page"]
    assert f"for a browser: {page}" in running.said
    assert f"For a browser: {page}" in running.run("ps", "--snippets", "demo")


def test_what_runs_and_what_is_wrong_with_the_rest(running: Here) -> None:
    found = {one["shortName"]: one for one in told(running, "services")["services"]}
    demo, broken = found["demo"], found["broken"]
    assert (demo["state"], demo["ready"], demo["wanted"]) == ("Ready", 2, 2)
    assert (broken["state"], broken["reason"]) == ("Failed", "ModelNotFound") and broken["remedy"]


def test_one_service_in_full(running: Here) -> None:
    found = told(running, "services/default/demo")
    assert found["plan"]["engine"] == "LlamaCpp" and found["plan"]["rejected"] and found["plan"]["memory"]
    assert [one["state"] for one in found["replicas"]] == ["Ready", "Ready"]
    assert "replicas: 2" in found["manifest"] and found["scaling"] is None and found["scalingNote"]


def test_switched_off_there_is_none(here: Here) -> None:
    file = here.write(manifest("demo"))
    said = here.run("up", "-f", file, "--port", "0", "--detach", "--timeout", "30", "--no-console")
    assert "for a browser" not in said
    assert "it stays as it is: --no-console" in here.run("up", "-f", file, "--no-console", "--timeout", "30")
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(here.snapshot()["url"].replace("/v1", "/-/api/services"), timeout=30)


def test_a_front_keeps_the_choice_on_its_way_to_the_background() -> None:
    assert Front.from_json(Front(console=False).to_json()).console is False
