"""Make the fixtures: real tiny checkpoints, saved by the real libraries, cut to their headers.

Run with an environment that has torch, transformers, bitsandbytes and compressed-tensors (CPU is enough):
`python make_fixtures.py`. Each fixture is one JSON file: path -> size and content (text, or base64 of a header).
"""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers as t

HERE = Path(__file__).parent / "fixtures"
SMALL: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
MLA = {"kv_lora_rank": 32, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16}
MLA |= {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_group": 1, "topk_group": 1}


def cut(folder: Path, name: str) -> None:
    """Keep texts whole and weights up to the end of their header."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".safetensors":
            raw = path.read_bytes()
            header = raw[: 8 + int.from_bytes(raw[:8], "little")]
            files[path.name] = {"size": len(raw), "head": base64.b64encode(header).decode()}
        elif path.is_file():
            files[path.name] = {"size": path.stat().st_size, "text": path.read_text()}
    (HERE / f"{name}.json").write_text(json.dumps(files, indent=1) + "\n")


def save(name: str, model: Any, shard: str = "5GB") -> None:
    """Save and cut one model; its parameter count goes beside it, as the library counts it."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, max_shard_size=shard)
        (Path(folder) / "parameters.txt").write_text(str(sum(p.numel() for p in model.parameters())))
        cut(Path(folder), name)


def plain() -> None:
    """Row 1 of the table, one for each layout of layers."""
    bf16 = torch.bfloat16
    save("llama", t.LlamaForCausalLM(t.LlamaConfig(**SMALL)).to(bf16))
    save("llama-sharded", t.LlamaForCausalLM(t.LlamaConfig(**SMALL)), shard="200KB")
    save("gemma2", t.Gemma2ForCausalLM(t.Gemma2Config(**SMALL, head_dim=16, sliding_window=128)).to(bf16))
    save("gemma3", t.Gemma3ForCausalLM(t.Gemma3TextConfig(**SMALL, head_dim=16, sliding_window=128)).to(bf16))
    save("mamba", t.MambaForCausalLM(t.MambaConfig(vocab_size=128, hidden_size=64, num_hidden_layers=2)))
    save("deepseek-v3", t.DeepseekV3ForCausalLM(t.DeepseekV3Config(**(SMALL | MLA), first_k_dense_replace=1)).to(bf16))
    save("qwen3-next", t.Qwen3NextForCausalLM(t.Qwen3NextConfig(**SMALL, num_experts=4, num_experts_per_tok=2,
         linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=16, linear_value_head_dim=16,
         head_dim=16, moe_intermediate_size=32, shared_expert_intermediate_size=32)).to(bf16))  # fmt: skip
    save("bert", t.BertModel(t.BertConfig(**{k: v for k, v in SMALL.items() if k != "num_key_value_heads"})))
    rank = t.BertConfig(**{k: v for k, v in SMALL.items() if k != "num_key_value_heads"}, num_labels=1)
    save("bert-rerank", t.BertForSequenceClassification(rank))


def quantized() -> None:
    """Rows 5 and 6, quantized by the real libraries."""
    with tempfile.TemporaryDirectory() as folder:
        t.LlamaForCausalLM(t.LlamaConfig(**SMALL)).to(torch.bfloat16).save_pretrained(folder)
        for name, config in (
            ("bnb-nf4", t.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")),
            ("bnb-int8", t.BitsAndBytesConfig(load_in_8bit=True)),
        ):
            save(name, t.LlamaForCausalLM.from_pretrained(folder, quantization_config=config, device_map="cpu"))
        compressed(folder)


def compressed(folder: str) -> None:
    """compressed-tensors: W4A16 packed, INT8 W8A8, FP8 W8A8."""
    from compressed_tensors.compressors import ModelCompressor  # type: ignore[import-not-found]
    from compressed_tensors.quantization import (  # type: ignore[import-not-found]
        QuantizationConfig,
        QuantizationStatus,
        apply_quantization_config,
    )
    from compressed_tensors.quantization import preset_name_to_scheme as preset

    for name, scheme in (("ct-w4a16", "W4A16"), ("ct-w8a8", "W8A8"), ("ct-fp8", "FP8")):
        model = t.LlamaForCausalLM.from_pretrained(folder)
        group = preset(scheme, ["Linear"])
        if group.weights.group_size:
            group.weights.group_size = 32
        config = QuantizationConfig(
            config_groups={"group_0": group}, quantization_status=QuantizationStatus.FROZEN, ignore=["lm_head"]
        )
        apply_quantization_config(model, config)
        compressor = ModelCompressor.from_pretrained_model(model)
        compressor.compress_model(model)
        with tempfile.TemporaryDirectory() as target:
            model.save_pretrained(target)
            compressor.update_config(target)
            cut(Path(target), name)


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    plain()
    quantized()
