"""Two services of one revision that chose different weights: neither engine finds the other's in its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llmservice_runtime.prepare.run import Request, prepare
from llmservice_runtime.sources.progress import Silent
from tests.sources.servers import COMMIT, Server, hf_hub

DEMO = Path(__file__).parents[2] / "demo/model"
WEIGHTS = (DEMO / "model.safetensors").read_bytes()
SIDE = {name: (DEMO / name).read_bytes() for name in ("config.json", "tokenizer.json", "tokenizer_config.json")}
FILES = {**SIDE, "model.safetensors": WEIGHTS, "merged.safetensors": WEIGHTS, "demo-Q4_K_M.gguf": b""}


@pytest.fixture
def ask(
    make_server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Path, list[str]]]:
    """The path that a prepare run reports, and the weights that an engine finds there once they were fetched."""
    gguf = {"demo-Q4_K_M.gguf": (DEMO / "demo-Q4_K_M.gguf").read_bytes()}
    server = make_server(hf_hub({**FILES, **gguf}))
    monkeypatch.setenv("HF_ENDPOINT", server.url)

    def path(*include: str) -> tuple[Path, list[str]]:
        request = Request("hf://acme/tiny", tmp_path / "cache", include=include, private=True, secrets=tmp_path)
        told = prepare(request, Silent()).path
        brought = Request("hf://acme/tiny", tmp_path / "cache", COMMIT, include, private=True, fetch=True)
        assert prepare(brought, Silent()).path == told, "planned with before it is there"
        folder = Path(told) if Path(told).is_dir() else Path(told).parent
        return Path(told), sorted(found.name for found in folder.glob("*.safetensors"))

    return path


def test_an_engine_finds_what_its_service_chose_and_no_more(ask: Callable[..., tuple[Path, list[str]]]) -> None:
    one, in_one = ask("model.safetensors")
    other, in_other = ask("merged.safetensors")
    assert one != other and (in_one, in_other) == (["model.safetensors"], ["merged.safetensors"])
    assert ask("MODEL.safetensors") == (one, in_one), "case does not matter in patterns"


def test_a_gguf_is_pointed_at_by_itself(ask: Callable[..., tuple[Path, list[str]]]) -> None:
    path, _ = ask("*.gguf")
    assert (path.name, path.parent.name) == ("demo-Q4_K_M.gguf", COMMIT)
