"""The benchmark's model as a folder: random weights, Llama's architecture, 210 million parameters, no end token."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from bench.prompts import WORDS
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.install.environment import engine_python
from llmservice_runtime.install.wheel import exclusive

NAME = "random-210m-f32"
MAKE = """
import sys, torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

folder, words = sys.argv[1], sys.argv[2].split(",")
size = 32000
words = ["<unk>", *words, *(f"w{number}" for number in range(size - 1 - len(words)))]
tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=size, hidden_size=1024, intermediate_size=2816, num_hidden_layers=14, num_attention_heads=16,
    num_key_value_heads=8, max_position_embeddings=4096, bos_token_id=None, eos_token_id=None, pad_token_id=0,
    tie_word_embeddings=False,
)
LlamaForCausalLM(config).float().save_pretrained(folder)
"""
"""Runs where torch is. A word is a token, so prompts need no count."""


def make_folder(cache: Path) -> Path:
    """The folder in `cache`; made once, complete or not there."""
    target, half = cache / NAME, cache / f"{NAME}.new"
    cache.mkdir(parents=True, exist_ok=True)
    with exclusive(cache / f".{NAME}.lock", "another process makes the benchmark's model; waiting for it"):
        if not target.exists():
            sys.stderr.write("==> making the benchmark's model (once)\n")
            shutil.rmtree(half, ignore_errors=True)
            python = str(engine_python(EngineType.TRANSFORMERS))
            subprocess.run([python, "-c", MAKE, str(half), ",".join(WORDS)], check=True)
            half.rename(target)
    return target
