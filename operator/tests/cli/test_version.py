"""Every program says its version, and it is the same everywhere."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmservice_cli.main import main as llmservice
from llmservice_operator.control.main import main as operator
from llmservice_runtime.cli import main as runtime
from llmservice_runtime.contract.version import VERSION

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("name", "main"), [("llmservice", llmservice), ("llmservice-runtime", runtime), ("llmservice-operator", operator)]
)
def test_a_program_says_its_version(name: str, main: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"{name} {VERSION}\n"


def test_the_package_and_the_charts_have_the_same() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
    for chart in (ROOT / "charts").glob("*/Chart.yaml"):
        assert yaml.safe_load(chart.read_text())["appVersion"] == VERSION, chart
