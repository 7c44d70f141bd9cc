"""Tests that take minutes and roll dice: `make e2e-long`. They play controllers as the operator's benchmark does.

`--counts FILE`: what a run counted, as a page that is committed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "operator"))
HEAD = """# Long tests

What `make e2e-long` counted: of each test when it last ran, and on which commit. A run writes the rows of its tests;
whoever ran it commits the page.

| test | result | seconds | counted | on |
|---|---|---|---|---|
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--counts", type=Path, help="write what the tests counted (record_property) to this page")


def pytest_configure(config: pytest.Config) -> None:
    if page := config.getoption("--counts"):
        config.pluginmanager.register(Counts(page), "counts")


class Counts:
    """Collects what tests recorded; writes the page when at least one ran. Rows of tests that did not run stay."""

    def __init__(self, page: Path) -> None:
        self._page = page
        self._rows: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A row for every test that ran, or that failed before or after it did."""
        if report.when == "call" or report.failed:
            counted = ", ".join(f"{count} {what}" for what, count in report.user_properties)
            name = f"{report.location[0].rpartition('/')[2]}::{report.location[2]}".replace("|", "\\|")
            self._rows[name] = f"{report.outcome} | {report.duration:.0f} | {counted}"

    def pytest_sessionfinish(self) -> None:
        """The page anew, with what it said of others."""
        if self._rows:
            on = f"{time.strftime('%Y-%m-%d')}, {_revision()}"
            rows = self._before() | {name: f"| {name} | {row} | {on} |" for name, row in self._rows.items()}
            self._page.write_text(HEAD + "".join(f"{rows[name]}\n" for name in sorted(rows)))

    def _before(self) -> dict[str, str]:
        text = self._page.read_text() if self._page.exists() else ""
        rows = [line for line in text.splitlines() if line.startswith("| ") and "::" in line]
        return {line[2:].partition(" | ")[0]: line for line in rows}


def _revision() -> str:
    """The commit, and whether more than that was tested."""
    git = ("git", "-C", str(ROOT))
    done = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    dirty = subprocess.run([*git, "status", "--porcelain", "--", ":!docs/e2e-long.md"], capture_output=True, text=True)
    return (done.stdout.strip() or "no commit") + (" with changes" if dirty.stdout.strip() else "")
