"""vLLM's last words, as its code of the locked version has them."""

from __future__ import annotations

import pytest

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.engines.vllm.definition import ENGINE
from llmservice_runtime.supervisor.classify import Remains, classify

CORE = "(EngineCore pid=77) ERROR 11-29 04:33:07 [core.py:1400] "
SERVER = ("(APIServer pid=7) Traceback (most recent call last):",)
END = (
    "(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
)


SAID = [
    ("ValueError: Model architectures ['X'] are not supported for now. Supported ...", FailureClass.UNSUPPORTED_FORMAT),
    ("has model type `x` but Transformers does not recognize this architecture.", FailureClass.UNSUPPORTED_FORMAT),
    ("ValueError: The repository /m contains custom code which must be executed", FailureClass.UNSUPPORTED_FORMAT),
    ("safetensors_rust.SafetensorError: Error while deserializing header", FailureClass.MODEL_DAMAGED),
    ("(0.5 GiB KV cache is needed, which is larger than the available KV cache", FailureClass.OUT_OF_MEMORY),
    (
        "ValueError: Available memory on node 0 (1/24 GiB) on kv cache allocation is less than",
        FailureClass.OUT_OF_MEMORY,
    ),
    ("RuntimeError: Insufficient space in /dev/shm for x: 160 MiB required, 64 MiB free.", FailureClass.OUT_OF_MEMORY),
    ("ValueError: No available memory for the cache blocks.", FailureClass.OUT_OF_GPU_MEMORY),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", FailureClass.OUT_OF_GPU_MEMORY),
    ("KeyError: 'invalid tool call parser: nope (chose from { hermes })'", FailureClass.BAD_ARGUMENT),
    ("KeyError: \"Reasoning parser 'nope' not found. Available parsers: a, b\"", FailureClass.BAD_ARGUMENT),
    ("ValueError: Unknown attention backend: 'NOPE'. Valid options are: FLASH_ATTN", FailureClass.BAD_ARGUMENT),
    ("ERROR The model's weights are not what its config.json describes: a.b (X: y)", FailureClass.MODEL_DAMAGED),
    ("vllm serve: error: unrecognized arguments: --nope", FailureClass.BAD_ARGUMENT),
    ("RuntimeError: The NVIDIA driver on your system is too old (found version 11040).", FailureClass.DRIVER_TOO_OLD),
    ("ValueError: something else", FailureClass.CRASHED),
]


@pytest.mark.parametrize(("line", "failure"), SAID)
def test_last_words_of_its_engine_core_name_the_cause(line: str, failure: FailureClass) -> None:
    tail = ("loading", CORE + line, *SERVER, *("(APIServer pid=7)   File x, line 1" for _ in range(60)), *END)
    record = classify(Remains(1, Phase.LOADING, tail=tail, engine="vllm", last_words=ENGINE.last_words))
    assert record.failure is failure
    assert record.remedy
