"""`llmservice ps` says what a load took beside what was planned, and what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from llmservice_cli.commands.ps import WIDE, _row, load_report
from llmservice_cli.main import main
from llmservice_runtime.contract.errors import UserError

LOAD: dict[str, Any] = {"milliseconds": 1540, "plannedMemory": "100Mi", "measuredMemory": "130Mi", "tokensPerSecond": 9}


def entry(load: dict[str, Any] | None) -> dict[str, Any]:
    conditions = [
        {"type": kind, "status": "True", "reason": "Ready", "message": ""} for kind in ("Ready", "Progressing")
    ]
    status: dict[str, Any] = {"conditions": conditions, "readyReplicas": 1, "url": "http://x/v1"}
    status |= {"load": load} if load else {}
    body = {"metadata": {"namespace": "default", "name": "demo"}, "spec": {"replicas": 1, "model": {"uri": "hf://a/b"}}}
    return {"object": {**body, "status": status}, "engine": "LlamaCpp", "replicas": []}


def cells(load: dict[str, Any] | None) -> dict[str, str]:
    return dict(zip(WIDE, _row(entry(load), wide=True), strict=True))


def test_memory_and_time_of_a_load_are_shown() -> None:
    shown = cells(LOAD)
    assert (shown["MEMORY"], shown["LOADED"], shown["STATUS"]) == ("130Mi of 100Mi", "1.5 s, 9 tokens/s", "Ready")
    gpu = {"milliseconds": 60_000, "measuredMemory": "1Mi", "measuredGPUMemory": "2Mi", "plannedGPUMemory": "3Mi"}
    assert (cells(gpu)["MEMORY"], cells(gpu)["LOADED"]) == ("1Mi of -, GPU 2Mi of 3Mi", "60.0 s")
    assert (cells(None)["MEMORY"], cells(None)["LOADED"]) == ("-", "-")


def test_how_fast_it_is_stands_beside_what_was_predicted() -> None:
    one = entry(LOAD)
    one["object"]["status"]["plan"] = {"speed": {"tokensPerSecond": 20}}
    shown = dict(zip(WIDE, _row(one, wide=True), strict=True))
    assert shown["LOADED"] == "1.5 s, 9 of at most 20 tokens/s"
    one["object"]["status"]["plan"] = {"speed": {"unknown": "It was not measured."}}
    assert dict(zip(WIDE, _row(one, wide=True), strict=True))["LOADED"] == "1.5 s, 9 tokens/s"


def test_what_differs_from_the_plan_is_said_in_the_short_table_too() -> None:
    row = _row(entry({**LOAD, "findings": ["The engine took 130 MiB of host memory."]}), wide=False)
    assert row[-1] == "Ready. The engine took 130 MiB of host memory."


def test_a_load_is_shown_line_by_line() -> None:
    lines = [
        {"name": "weights", "where": "Host", "planned": "60Mi", "measured": "61Mi"},
        {"name": "reserve", "where": "Host", "planned": "9Mi"},
    ]
    phases = [{"name": "Starting", "milliseconds": 300}, {"name": "Loading", "milliseconds": 1200}]
    told = {**LOAD, "memory": lines, "phases": phases, "findings": ["The engine takes more."]}
    assert load_report(entry(told)).splitlines() == [
        "default/demo was loaded in 1.5 s, 9 tokens/s (Starting 0.3 s, Loading 1.2 s).",
        "The engine takes more.",
        "",
        "MEMORY                WHERE   PLANNED   MEASURED",
        "weights               Host    60Mi      61Mi",
        "reserve               Host    9Mi       -",
        "sum without reserve   Host    100Mi     130Mi",
    ]
    with pytest.raises(UserError, match="no replica of default/demo has loaded"):
        load_report(entry(None))


@pytest.mark.parametrize("output", ["", "json", "yaml", "wide"])
def test_where_nothing_runs_nothing_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: str
) -> None:
    """As other commands of the name do; who asks for a service by name is told that there is none."""
    monkeypatch.setenv("LLMSERVICE_STATE_DIR", str(tmp_path / "state"))
    assert main(["ps", *(["-o", output] if output else [])]) == 0
    told = capsys.readouterr()
    assert "llmservice up" in told.err
    if output in ("json", "yaml"):
        assert yaml.safe_load(told.out) == {"apiVersion": "v1", "kind": "List", "items": []}
    else:
        assert [line.split()[0] for line in told.out.splitlines()] == ["NAME"]
    assert main(["ps", "--snippets", "demo"]) == main(["ps", "--load", "demo"]) == 1
