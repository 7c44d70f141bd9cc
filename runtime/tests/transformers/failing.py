"""Runs in the engine's environment: loads models that something is wrong with, and such as are made smaller.

`python failing.py FOLDER` prints a JSON line per case: the failure's class and what is said of it, or `loaded`.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers
from quantized import compressed, torchao_int8  # type: ignore[import-not-found]

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.transformers.serve.process import load
from llmservice_runtime.openai.metrics import EngineMetrics
from llmservice_runtime.protocol.engine import GenerationRequest, SamplingParams

DEMO = Path(__file__).parents[2] / "demo" / "model"
OWN = """
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


def edit(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def no_numbers(folder: Path) -> None:
    """Weights as a bad disk may give them: whole as a file, and NaN."""
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    middle = len(data) // 2 & ~1
    data[middle : middle + 4096] = b"\xff" * 4096
    weights.write_bytes(data)


def own_code(folder: Path) -> None:
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    edit(folder, model_type="own", auto_map=classes)
    (folder / "own.py").write_text(OWN)


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def file(name: str, text: str) -> Callable[[Path], None]:
    """With this in place of what a file says."""

    def change(folder: Path) -> None:
        (folder / name).write_text(text)

    return change


def nothing(folder: Path) -> None:
    """The model as it is."""


CASES: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
    "truncated": (truncated, {}),
    "a tensor short": (lambda folder: edit(folder, num_hidden_layers=5), {}),
    "other shapes": (lambda folder: edit(folder, intermediate_size=512), {}),
    "no numbers": (no_numbers, {}),
    "no config": (lambda folder: (folder / "config.json").unlink(), {}),
    "no tokenizer": (no_tokenizer, {}),
    "half a tokenizer": (file("tokenizer.json", '{"version": "1.0", "model": {'), {}),
    "no tokens": (file("tokenizer.json", "{}"), {}),
    "half its defaults": (file("generation_config.json", '{"eos'), {}),
    "heads": (lambda folder: edit(folder, num_attention_heads=3), {}),
    "unknown": (lambda folder: edit(folder, model_type="brand_new", architectures=["BrandNewForCausalLM"]), {}),
    "own code": (own_code, {}),
    "own code that may run": (own_code, {"trust_remote_code": True}),
    "twice": (
        lambda folder: edit(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}),
        {"load_quantization": "BitsAndBytesNF4"},
    ),
    "FP8": (nothing, {"load_quantization": "FP8"}),
    "no such type": (nothing, {"engine_args": ("--dtype=float8",)}),
    "too many": (nothing, {"context_tokens": 1 << 20, "max_sequences": 4096, "kv_tokens": 1 << 30}),
    "NF4": (nothing, {"load_quantization": "BitsAndBytesNF4"}),
    "int8": (nothing, {"load_quantization": "BitsAndBytesInt8"}),
    "torchao": (torchao_int8, {}),
    "W4A16": (lambda folder: compressed(folder, bits=4, form="pack-quantized"), {}),
    "W8A8": (lambda folder: compressed(folder, bits=8, form="int-quantized", activations=True), {}),
    "float32": (nothing, {"engine_args": ("--dtype", "float32")}),
}


async def report(folder: Path, **fields: Any) -> dict[str, Any]:
    """Load it and ask one question; what came of it."""
    given = {"context_tokens": 256, "max_sequences": 2, "threads": 1, **fields}
    settings = RuntimeSettings(EngineType.TRANSFORMERS, str(folder), "demo", **given)
    try:
        engine = load(settings, EngineMetrics("demo"), lambda done: None)
    except UserError as error:
        return {"failure": error.failure.value, "said": str(error)}
    prompt = "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n"
    tokens = engine.tokenizer.encode(prompt, add_special=False, parse_special=True)
    text = ""
    async for delta in engine.submit(GenerationRequest("x", tokens, SamplingParams(max_tokens=20, temperature=0))):
        text += delta.text or delta.error or ""
    engine.close()
    return {"loaded": text}


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    for name, (change, fields) in CASES.items():
        where = Path(sys.argv[1]) / name
        shutil.copytree(DEMO, where, ignore=shutil.ignore_patterns("*.gguf"))
        change(where)
        print(json.dumps({"case": name, **asyncio.run(report(where, **fields))}), flush=True)
