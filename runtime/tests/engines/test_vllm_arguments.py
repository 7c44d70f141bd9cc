"""spec.engine.args of vLLM: what its own parser takes is taken, what it refuses is refused before a replica starts."""

from __future__ import annotations

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.engines.vllm.arguments import check

TAKEN = (
    ("--enforce-eager",),
    ("--no-enable-prefix-caching",),
    ("--max-model-len", "8k"),
    ("--max-model-len=auto",),
    ("--max_num_seqs=64",),
    ("-tp", "2"),
    ("-q=fp8_per_tensor",),
    ("-O3",),
    ("-O", "2"),
    ("--compilation-config.mode", "3"),
    ("-cc.mode=3",),
    ("--compilation-config", '{"mode": 3}'),
    ("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3}'),
    ("--served-model-name", "a", "b"),
    ("--lora-modules", "sql=/adapters/sql"),
    ("--max-lora-rank", "64"),
    ("--kv-cache-dtype=fp8",),
    ("--hf-token",),
    ("--gpu-memory-util", "0.8"),
)
REFUSED = (
    (("--enforce-eagr",), "--enforce-eager"),
    (("--task=embed",), "--help"),
    (("--max-num-seqs", "many"), "--max-num-seqs"),
    (("--max-model-len", "long"), "--max-model-len"),
    (("--max-lora-rank", "7"), "--max-lora-rank"),
    (("--kv-cache-dtype=q8_0",), "--kv-cache-dtype"),
    (("--swap-space", "4"), ""),
    (("--max-num-seqs",), "--max-num-seqs"),
)


@pytest.mark.parametrize("args", TAKEN, ids=" ".join)
def test_what_vllm_takes_is_taken(args: tuple[str, ...]) -> None:
    check(args)


@pytest.mark.parametrize(("args", "named"), REFUSED, ids=[" ".join(args) for args, _ in REFUSED])
def test_what_vllm_refuses_is_refused_by_name_with_a_way_out(args: tuple[str, ...], named: str) -> None:
    with pytest.raises(UserError) as caught:
        definition(EngineType.VLLM).memory(args)
    assert named in f"{caught.value.reason} {caught.value.remedy}"
    assert "engine.args: vLLM 0." in caught.value.reason
