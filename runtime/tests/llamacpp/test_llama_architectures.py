"""What the real library says of every architecture that it knows: how it writes, without weights."""

from __future__ import annotations

import struct
from pathlib import Path

import llama_cpp
import pytest

from llmservice_runtime.engines.llamacpp.rules import DIFFUSION, ENCODERS, known

pytestmark = pytest.mark.engine


def header(architecture: str) -> bytes:
    """A GGUF of hyperparameters alone."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    words = {"general.architecture": architecture, "tokenizer.ggml.model": "none"}
    sizes = ("context_length", "embedding_length", "feed_forward_length", "attention.head_count", "block_count")
    body = b"".join(text(key) + struct.pack("<I", 8) + text(value) for key, value in words.items())
    body += b"".join(text(f"{architecture}.{key}") + struct.pack("<II", 4, 64) for key in sizes)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(words) + len(sizes)) + body + bytes(32)


def test_the_library_says_which_have_an_encoder_and_which_are_diffusion_models(tmp_path: Path) -> None:
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    encoders: set[str] = set()
    diffusion: set[str] = set()
    for architecture in known().architectures:
        path = tmp_path / "header.gguf"
        path.write_bytes(header(architecture))
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        assert model, architecture
        if llama_cpp.llama_model_has_encoder(model) or not llama_cpp.llama_model_has_decoder(model):
            encoders.add(architecture)
        if llama_cpp.llama_model_is_diffusion(model):
            diffusion.add(architecture)
        llama_cpp.llama_model_free(model)
    assert encoders == ENCODERS
    assert diffusion == DIFFUSION
