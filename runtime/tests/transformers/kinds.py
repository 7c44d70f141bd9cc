"""Runs in the engine's environment: models of many architectures with random weights, each served, then generated.

`python kinds.py FOLDER KIND...` prints a JSON line per kind: its path, and which of its answers are those of
`model.generate()`, asked alone and all at once.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.transformers.serve.process import load
from llmservice_runtime.openai.metrics import EngineMetrics
from llmservice_runtime.protocol.engine import GenerationRequest, SamplingParams

DEMO = Path(__file__).parents[2] / "demo" / "model"
SMALL: dict[str, Any] = {
    "vocab_size": 2048,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "eos_token_id": 2,
    "bos_token_id": None,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
"""Of nearly every config class; weights are large, so that attention matters."""
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 16},
    "qwen2": {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2},
    "gemma2": {"head_dim": 16, "sliding_window": 16, "attn_logit_softcapping": 5.0},
    "gemma3_text": {"head_dim": 16, "sliding_window": 16},
    "gpt_oss": {"head_dim": 16, "sliding_window": 16, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "deepseek_v3": {
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 16,
        "v_head_dim": 12,
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 32,
        "first_k_dense_replace": 1,
    },
    "gpt2": {"n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 512},
    "opt": {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "bloom": {"n_layer": 4, "n_head": 4},
    "mamba": {"state_size": 8},
    "falcon_mamba": {"state_size": 8},
    "jamba": {"num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "lfm2": {"full_attn_idxs": [1, 3]},
    "stablelm": {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}},
}
LENGTHS = (70, 3, 140, 11, 30, 9)
TOKENS = 12


def make(kind: str, folder: Path) -> None:
    """Write a model; the same weights every time."""
    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(kind, **{**SMALL, **KINDS[kind]})
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO / name, folder)


async def report(kind: str, folder: Path) -> dict[str, Any]:
    """What comes of serving it."""
    metrics = EngineMetrics(kind)
    settings = RuntimeSettings(
        EngineType.TRANSFORMERS, str(folder), kind, context_tokens=256, max_sequences=4, threads=1
    )
    engine = load(settings, metrics, lambda done: None)

    async def answer(prompt: list[int]) -> list[int]:
        params = SamplingParams(max_tokens=TOKENS, temperature=0, ignore_eos=True)
        tokens: list[int] = []
        async for delta in engine.submit(GenerationRequest("x", prompt, params)):
            assert delta.error is None, delta.error
            tokens += delta.token_ids
        return tokens

    random = torch.Generator().manual_seed(5)
    prompts = [torch.randint(5, 2000, (length,), generator=random).tolist() for length in LENGTHS]
    alone = [await answer(prompt) for prompt in prompts]
    together = await asyncio.gather(*map(answer, prompts))
    engine.close()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    wanted = [_generated(model, prompt) for prompt in prompts]
    return {
        "kind": kind,
        "path": metrics.path,
        "alone": [a == b for a, b in zip(alone, wanted, strict=True)],
        "together": [a == b for a, b in zip(together, wanted, strict=True)],
    }


def _generated(model: Any, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=TOKENS, eos_token_id=None
    )
    return [int(token) for token in out[0, len(prompt) :]]


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    for name in sys.argv[2:] or KINDS:
        where = Path(sys.argv[1]) / name
        try:
            make(name, where)
            print(json.dumps(asyncio.run(report(name, where))), flush=True)
        except Exception as error:
            print(json.dumps({"kind": name, "error": f"{type(error).__name__}: {error}"[:600]}), flush=True)
