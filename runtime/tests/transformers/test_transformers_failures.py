"""What can go wrong while Transformers loads a model: a class, a sentence, a remedy."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from served_model import ENV, PYTHON  # type: ignore[import-not-found]

from llmservice_runtime.formats.possible import TORCH_TYPES

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("transformers_installed")]


@pytest.fixture(scope="module")
def cases(transformers_installed: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    command = [PYTHON, Path(__file__).with_name("failing.py"), tmp_path_factory.mktemp("failing")]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {str(line["case"]): line for line in told}


@pytest.mark.parametrize(
    ("case", "failure", "said"),
    [
        ("truncated", "ModelDamaged", "Download the files again"),
        ("a tensor short", "ModelDamaged", "model.layers.4."),
        ("other shapes", "ModelDamaged", "model.layers.0.mlp."),
        ("no config", "ModelNotFound", "no config.json"),
        ("no tokenizer", "ModelDamaged", "tokenizer.json, or what one is made from"),
        ("half a tokenizer", "ModelDamaged", "can't load the tokenizer in"),
        ("no tokens", "ModelDamaged", "can't load the tokenizer in"),
        ("half its defaults", "ModelDamaged", "generation_config.json is not JSON"),
        ("heads", "ModelDamaged", "attention heads (3)"),
        ("unknown", "UnsupportedFormat", "brand_new"),
        ("own code", "UnsupportedFormat", "code of its own"),
        ("twice", "BadArgument", "quantized already"),
        ("FP8", "BadArgument", "on a GPU only"),
        ("no such type", "BadArgument", "--dtype is float8; it must be one of auto, float32"),
        ("too many", "OutOfMemory", "lower contextTokens (1048576)"),
    ],
)
def test_what_is_wrong_is_said(cases: dict[str, dict[str, Any]], case: str, failure: str, said: str) -> None:
    assert cases[case].get("failure") == failure, cases[case]
    assert said in cases[case]["said"]


def test_weights_that_are_no_numbers_answer_nothing(cases: dict[str, dict[str, Any]]) -> None:
    """So that the self-test of a load fails with it."""
    assert cases["no numbers"]["loaded"] == "no token can be chosen: the model computed logits that are no numbers"


@pytest.mark.parametrize("case", ["own code that may run", "NF4", "int8", "torchao", "W4A16", "W8A8", "float32"])
def test_what_is_asked_for_is_done(cases: dict[str, dict[str, Any]], case: str) -> None:
    assert cases[case].get("loaded") == "Hello! Ask me something about LLMService.", cases[case]


def test_types_that_a_configuration_may_state_are_those_of_torch() -> None:
    """Transformers looks for the name in torch, and ends in an AttributeError where it is not there."""
    code = "import torch; print(*(name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)))"
    done = subprocess.run([PYTHON, "-c", code], env=ENV, capture_output=True, text=True, check=True)
    assert {*done.stdout.split()} == TORCH_TYPES
