"""What is planned for vectors against what llama.cpp itself allocates, on encoders of several shapes."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from llmservice_planning.plan import Plan
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.llamacpp.arguments import EngineArgs
from llmservice_runtime.engines.llamacpp.memory import BASE, TOKEN
from llmservice_runtime.engines.llamacpp.serve import binding
from llmservice_runtime.estimate.budget import RESERVE

from .conftest import planned

pytestmark = pytest.mark.engine
VOCAB = 500
SPECIAL = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]


def write_bert(path: Path, width: int, context: int, vocab: int = VOCAB, layers: int = 2) -> Path:
    """A BERT of zeros."""
    out = gguf.GGUFWriter(path, "bert")
    out.add_context_length(context)
    out.add_embedding_length(width)
    out.add_block_count(layers)
    out.add_feed_forward_length(4 * width)
    out.add_head_count(width // 64)
    out.add_file_type(1)
    out.add_pooling_type(gguf.PoolingType.MEAN)
    out.add_layer_norm_eps(1e-12)
    out.add_causal_attention(False)
    out.add_token_type_count(2)
    out.add_tokenizer_model("bert")
    out.add_tokenizer_pre("jina-v2-en")
    out.add_token_list([*SPECIAL, *(f"▁w{number}" for number in range(vocab - len(SPECIAL)))])
    out.add_token_types([3] * len(SPECIAL) + [1] * (vocab - len(SPECIAL)))
    for number, name in enumerate(("unk", "pad", "bos", "sep", "mask")):
        getattr(out, f"add_{name}_token_id")(number)

    def tensor(name: str, *shape: int, kind: type = np.float32) -> None:
        out.add_tensor(name, np.zeros(shape, kind))

    tensor("token_embd.weight", vocab, width, kind=np.float16)
    tensor("position_embd.weight", context, width)
    tensor("token_types.weight", 2, width)
    norms = ["token_embd_norm"]
    for layer in range(layers):
        shapes = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (width, width))
        for name, shape in {**shapes, "ffn_up": (4 * width, width), "ffn_down": (width, 4 * width)}.items():
            tensor(f"blk.{layer}.{name}.weight", *shape, kind=np.float16)
            tensor(f"blk.{layer}.{name}.bias", shape[0])
        norms += [f"blk.{layer}.attn_output_norm", f"blk.{layer}.layer_output_norm"]
    for name in norms:
        tensor(f"{name}.weight", width)
        tensor(f"{name}.bias", width)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


@pytest.mark.parametrize(("width", "context"), [(384, 512), (768, 512), (768, 2048), (384, 8192)])
def test_an_encoder_has_no_cache_and_the_buffers_that_were_planned(tmp_path: Path, width: int, context: int) -> None:
    from llmservice_runtime.engines.llamacpp.serve.pooled import load_pooled

    path = write_bert(tmp_path / "m.gguf", width, context)
    plan, settings = planned(path)
    assert isinstance(plan, Plan) and isinstance(settings, RuntimeSettings)
    assert (plan.engine, plan.task, plan.kv_tokens) == (EngineType.LLAMA_CPP, "Embedding", 0)
    assert [line.name for line in plan.memory] == ["weights", "engine and its buffers", RESERVE]
    weights, engine, _ = (line.bytes for line in plan.memory)
    model = load_pooled(settings, EngineArgs(), lambda fraction: None)
    try:
        assert sum(found.bytes for found in binding.buffers if found.part == "Weights") == pytest.approx(
            weights, rel=0.02
        )
        took = sum(found.bytes for found in binding.buffers if found.part == "Engine")
        outputs = 4 * width * model.step_tokens  # of a full step; llama.cpp makes room for them when one comes
        assert engine - (BASE + TOKEN * VOCAB) == pytest.approx(took + outputs, rel=0.1, abs=1 << 20)
        assert not any(found.part == "Cache" for found in binding.buffers)
    finally:
        model.close()
