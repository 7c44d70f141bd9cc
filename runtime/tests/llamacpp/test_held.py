"""What llama.cpp says of its buffers becomes lines of memory."""

from __future__ import annotations

from llmservice_runtime.contract.memory import GPU, HOST, HeldLine, Part
from llmservice_runtime.engines.llamacpp.serve.held import MIB, Buffer, buffer, gpu, held

CPU = """load_tensors:   CPU_Mapped model buffer size =    60.00 MiB
load_tensors:   CPU_REPACK model buffer size =    40.00 MiB
llama_kv_cache:        CPU KV buffer size =    32.00 MiB
llama_memory_recurrent:        CPU RS buffer size =     8.00 MiB
llama_context:        CPU compute buffer size =    66.50 MiB
llama_context:        CPU  output buffer size =     0.12 MiB"""
CUDA = """load_tensors:   CPU_Mapped model buffer size =    20.00 MiB
load_tensors:        CUDA0 model buffer size =    50.00 MiB
load_tensors:        CUDA1 model buffer size =    30.00 MiB
llama_kv_cache:      CUDA0 KV buffer size =    64.00 MiB
llama_context:      CUDA0 compute buffer size =    70.00 MiB
llama_context:  CUDA_Host compute buffer size =     6.00 MiB"""


def said(text: str) -> list[Buffer]:
    found = [buffer(line) for line in text.splitlines()]
    assert None not in found
    return [one for one in found if one is not None]


def test_weights_that_are_mapped_count_once_and_are_there_when_they_were_read() -> None:
    assert list(held(said(CPU), 70 * MIB, 10 * MIB)) == [
        HeldLine(Part.WEIGHTS, HOST, 70 * MIB, 50 * MIB),
        HeldLine(Part.CACHE, HOST, 40 * MIB, 40 * MIB),
    ]


def test_what_is_on_gpus_is_told_apart() -> None:
    lines = {(line.part, line.where): line.bytes // MIB for line in held(said(CUDA), 100 * MIB, 20 * MIB)}
    assert lines == {
        (Part.WEIGHTS, GPU): 80,
        (Part.WEIGHTS, HOST): 20,
        (Part.CACHE, GPU): 64,
        (Part.CACHE, HOST): 0,
        (Part.ENGINE, GPU): 70,
    }


def test_the_gpus_that_it_uses_are_known_by_name() -> None:
    line = (
        "llama_model_load_from_file_impl: using device CUDA0 (NVIDIA GeForce RTX 4090) (0000:01:00.0) - 23000 MiB free"
    )
    assert gpu(line) == "NVIDIA GeForce RTX 4090"
    assert gpu(line.replace("NVIDIA GeForce RTX 4090", "llvmpipe (LLVM 15.0.7, 256 bits)")).startswith("llvmpipe")
    assert gpu("llama_model_load_from_file_impl: skipping device CUDA0 (x)") == gpu("") == ""


def test_where_its_words_are_others_nothing_is_told() -> None:
    for line in ("", "load_tensors: done", "CPU compute buffer size is 3 MiB, matches expectation"):
        assert buffer(line) is None
    assert list(held([], 70 * MIB, 0)) == []
