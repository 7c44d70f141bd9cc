"""spec.engine.args of vLLM: what its own parser takes is taken, what it refuses is refused before a replica starts."""

from __future__ import annotations

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.engines.vllm.arguments import read

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
    ("--max-model-len=1.5k",),
    ("--max-model-len", "-1"),
    ("--max-num-batched-tokens=8K",),
    ("--limit-mm-per-prompt", '{"image": 1}'),
    ("--limit-mm-per-prompt.image", "1"),
    ("--limit-mm-per-prompt=None",),
    ("--allowed-origins", '["*"]'),
    ("--hf-overrides", "some.module"),
    ("--kv-transfer-config", '{"kv_buffer_size": 80m, "kv_role": "kv_both"}'),
    ("--lora-modules", '{"name": "a", "path": "/b"}', "c=/d"),
    ("--kv-cache-metrics-sample=1",),
    ("--tensor-parallel-size=1",),
    ("--seed=-1",),
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
    (("--max-model-len=1.5M",), "decimals need a small letter"),
    (("--max-model-len=1.5",), "--max-model-len"),
    (("--max-num-batched-tokens=auto",), "--max-num-batched-tokens"),
    (("--limit-mm-per-prompt", "image=1"), '{"key": 1}'),
    (("--speculative-config", "{bad"), "--speculative-config"),
    (("--compilation-config", "nope"), "--compilation-config"),
    (("--compilation-config", "3"), "--compilation-config"),
    (("--hf-overrides", "{bad}"), "--hf-overrides"),
    (("--lora-modules", "nope"), "name=path"),
    (("--lora-modules", '{"name": "a"}'), "name=path"),
    (("--allowed-origins", "*"), '["value"]'),
    (("--max-model-len.x", "1"), "--max-model-len"),
    (("-O", "x"), "-O"),
    (("-O9",), "--optimization-level"),
    (("--enforce-eager=true",), "--enforce-eager"),
    (("--kv-cache-dtype=int8",), "--kv-cache-dtype"),
    (("--MAX-MODEL-LEN=4096",), "--MAX-MODEL-LEN"),
    (("--max-model-len=0x2000",), "--max-model-len"),
    (("--max-model-len=8,192",), "--max-model-len"),
    (("--tensor-parallel-size=8.0",), "--tensor-parallel-size"),
    (("--num-scheduler-steps=8",), ""),
    (("--use-v2-block-manager",), ""),
    (("--disable-log-requests",), ""),
    (("--tensor-parallel-size=0",), "--tensor-parallel-size/-tp: 0 is not at least 1"),
    (("-tp", "-2"), "-2 is not at least 1"),
    (("--gpu-memory-utilization=nan",), "nan is not more than 0 and at most 1"),
    (("--gpu-memory-utilization=-1",), "-1 is not more than 0"),
    (("--max-num-batched-tokens=0",), "0 is not at least 1"),
    (("--pipeline-parallel-size=--",), "--pipeline-parallel-size: '--' is no value"),
    (("--dtype=--",), "'--' is no value"),
    (("--middleware=--",), "'--' is no value"),
    (("--",), "unrecognized arguments: --"),
    (("--max-model-len 4096",), "as two items of the list, or as --max-model-len=VALUE"),
    (("--gpu-memory-utilization 0.9", "--enforce-eager"), "as two items of the list"),
)


@pytest.mark.parametrize("args", TAKEN, ids=" ".join)
def test_what_vllm_takes_is_taken(args: tuple[str, ...]) -> None:
    assert read(args)


@pytest.mark.parametrize(("args", "named"), REFUSED, ids=[" ".join(args) for args, _ in REFUSED])
def test_what_vllm_refuses_is_refused_by_name_with_a_way_out(args: tuple[str, ...], named: str) -> None:
    with pytest.raises(UserError) as caught:
        definition(EngineType.VLLM).memory(args)
    assert named in f"{caught.value.reason} {caught.value.remedy}"
    assert "engine.args: vLLM 0." in caught.value.reason
