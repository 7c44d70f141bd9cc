"""What an engine imports when it serves is compiled when it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmservice_runtime.engines.base.bytecode import compile_packages


def test_whole_packages_are_compiled_whatever_else_is_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "served" / "inner"
    package.mkdir(parents=True)
    for name, text in (("__init__", ""), ("later", "x = 1\n"), ("of_another_python", "print 1\n")):
        (package / f"{name}.py").write_text(text)
    (tmp_path / "served" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    compile_packages(["served", "not_there", "json.decoder"])
    assert sorted(path.name.split(".")[0] for path in package.glob("__pycache__/*.pyc")) == ["__init__", "later"]
    assert list((tmp_path / "served").glob("__pycache__/__init__.*.pyc"))
