"""A fourth engine, of one folder and one line of the registry, in a tree where nothing else differs."""

from __future__ import annotations

import filecmp
import itertools
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from protocol_checks import CHECKS, Served  # type: ignore[import-not-found]

from llmservice_api.generate import FIELD_PAGES

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
REGISTRY = Path("runtime/llmservice_runtime/contract/engines.py")
FOLDER = Path("runtime/llmservice_runtime/engines/toy")
CONTEXT = 512
TEXT = "<the toy plays with its table, byte by byte. it says what it has read, and it has read this. >"
CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


class Tree:
    """The programs with the toy among their engines, on a machine of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **os.environ,
            "PYTHONPATH": f"{folder / 'operator'}{os.pathsep}{folder / 'runtime'}",
            "LLMSERVICE_STATE_DIR": str(folder / "state"),
            "LLMSERVICE_CACHE_DIR": str(folder / "cache"),
            "LLMSERVICE_ENGINES_DIR": str(folder / "engines"),
        }

    def run(self, *words: str, code: int = 0) -> str:
        """`llmservice`, to its end; what it printed."""
        main = "import sys; from llmservice_cli.main import main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-c", main, *words], env=self.env, cwd=self.folder, capture_output=True, text=True
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    folder = tmp_path_factory.mktemp("tree")
    for packages in ("operator", "runtime"):
        for package in (ROOT / packages).glob("llmservice_*"):
            shutil.copytree(package, folder / packages / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(HERE / "toy", folder / FOLDER)
    registry = folder / REGISTRY
    lines = registry.read_text().splitlines(keepends=True)
    lines.insert(next(n for n, line in enumerate(lines) if line.startswith("    LLAMA")) + 1, '    TOY = "Toy"\n')
    registry.write_text("".join(lines))
    write_model(folder / "model")
    manifest = {
        "apiVersion": "llmservice.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": "toy"},
        "spec": {"model": {"uri": "file://model"}, "contextTokens": CONTEXT, "endpoint": {"drainSeconds": 1}},
    }
    (folder / "toy.yaml").write_text(json.dumps(manifest))
    return Tree(folder)


def write_model(folder: Path) -> None:
    """What follows each byte of TEXT: one tensor, a row of logits per last byte."""
    after: dict[int, dict[int, int]] = {}
    said = [256, *TEXT.encode(), 257]
    for last, following in itertools.pairwise(said):
        row = after.setdefault(last, {})
        row[following] = row.get(following, 0) + 1
    table = [math.log(after.get(last, {}).get(n, 0) + 1e-4) for last in range(258) for n in range(258)]
    data = struct.pack(f"<{len(table)}f", *table)
    header = json.dumps({"table": {"dtype": "F32", "shape": [258, 258], "data_offsets": [0, len(data)]}}).encode()
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
    config = {
        "architectures": ["ToyForCausalLM"], "model_type": "toy", "dtype": "float32", "vocab_size": 258,
        "hidden_size": 258, "num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": CONTEXT,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHAT}))


@pytest.fixture(scope="module")
def served(tree: Tree) -> Iterator[Served]:
    tree.run("up", "-f", "toy.yaml", "--port", "0", "--detach", "--timeout", "60")
    try:
        url = re.search(r"Base URL: (\S+)/v1", tree.run("ps", "--snippets", "toy"))
        assert url
        yield Served(url[1], "toy", CONTEXT)
    finally:
        tree.run("down", "--force")


def test_nothing_differs_but_a_folder_and_a_line(tree: Tree) -> None:
    differing, new = [], []
    for package in (*ROOT.glob("operator/llmservice_*"), *ROOT.glob("runtime/llmservice_*")):
        walk = [filecmp.dircmp(package, tree.folder / package.relative_to(ROOT), ignore=["__pycache__"])]
        for compared in walk:
            walk += compared.subdirs.values()
            differing += [Path(compared.right, name).relative_to(tree.folder) for name in compared.diff_files]
            new += [Path(compared.right, name).relative_to(tree.folder) for name in compared.right_only]
            assert not compared.left_only
    assert (differing, new) == ([REGISTRY], [FOLDER])
    assert len((tree.folder / REGISTRY).read_text().splitlines()) == len((ROOT / REGISTRY).read_text().splitlines()) + 1


def test_it_is_planned_with_a_reason_and_so_are_the_others(tree: Tree) -> None:
    text = tree.run("plan", "-f", "toy.yaml", "-o", "wide")
    assert "the toy. It is a toy, and plays on the CPU." in text and "--places=4" in text
    plan = json.loads(tree.run("plan", "-f", "toy.yaml", "-o", "json"))[0]["plan"]
    assert (plan["engine"], plan["contextTokens"], plan["maxSequences"], plan["fit"]) == ("Toy", CONTEXT, 4, "Fits")
    assert {engine["engine"] for engine in plan["rejected"]} == {"VLLM", "Transformers", "LlamaCpp"}
    assert "the toy" in tree.run("engines", "model")


def test_a_strangers_architecture_writes_nothing_but_letters_in_its_reason(tree: Tree) -> None:
    write_model(tree.folder / "strange")
    config = tree.folder / "strange" / "config.json"
    config.write_text(config.read_text().replace("ToyForCausalLM", r"\u001b]0;Evil\nFake" + 100 * "x"))
    rows = json.loads(tree.run("engines", "strange", "-o", "json", code=1))
    (reason,) = (row["reason"] for row in rows if row["engine"] == "the toy")
    assert "Evil Fake" in reason and reason.isprintable() and len(reason) < 300


def test_what_is_generated_is_all_that_has_to_be_generated_again(tree: Tree) -> None:
    """CONTRIBUTING says so: `make generate` after the line and the folder."""
    schema = tree.folder / "charts/llmservice/values.schema.json"
    for by_hand in (schema, *(tree.folder / page for page in FIELD_PAGES)):
        by_hand.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / by_hand.relative_to(tree.folder), by_hand)
    generate = [sys.executable, "-m", "llmservice_api.generate"]
    for more, code in (["--check"], 1), ([], 0), (["--check"], 0):
        assert subprocess.run([*generate, *more], env=tree.env, cwd=tree.folder).returncode == code
    image = json.loads(schema.read_text())["properties"]["runtime"]["properties"]["images"]["items"]["properties"]
    assert "Toy" in image["engines"]["items"]["enum"]
    assert "| the toy | `verbosity` | The toy has one tone. |" in (tree.folder / "docs/api.md").read_text()


def test_its_own_arguments_are_checked_by_it(tree: Tree) -> None:
    body = json.loads((tree.folder / "toy.yaml").read_text())
    body["spec"]["engine"] = {"type": "Toy", "args": ["--nope"]}
    (tree.folder / "wrong.yaml").write_text(json.dumps(body))
    assert "The toy takes: --parrot." in tree.run("plan", "-f", "wrong.yaml", code=1)


def test_a_field_that_it_has_no_use_for_is_refused_by_name(served: Served) -> None:
    body = {"model": "toy", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    status, raw, _ = served.post("/v1/chat/completions", {**body, "verbosity": "low"})
    assert status == 400 and json.loads(raw)["error"]["param"] == "verbosity" and b"one tone" in raw
    assert served.post("/v1/chat/completions", {**body, "verbosity": None})[0] == 200


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_serves_the_protocol(served: Served, check: Callable[[Served], None]) -> None:
    check(served)
