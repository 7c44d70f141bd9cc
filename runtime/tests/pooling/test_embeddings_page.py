"""The client of docs/embeddings.md, as it is pasted."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from every_engine.replica import Replica  # type: ignore[import-not-found]

from .conftest import NAME

pytestmark = pytest.mark.engine
PAGE = Path(__file__).parents[3] / "docs" / "embeddings.md"


def test_the_client_of_the_page_finds_the_passage(served: Callable[[str], Replica]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    code = code.replace("http://127.0.0.1:8080", served("minilm").url).replace("apps/embedder", NAME)
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said == "Refunds are paid within two weeks to the card that was charged.\n"
