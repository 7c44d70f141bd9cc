"""`python -m llmservice_runtime.engines.llamacpp.generate`: what the built llama.cpp knows, asked of the library.

Runs in llama.cpp's own environment. Architectures are tried, not read: a header that names one and holds nothing else
is loaded for every word in the library, and what the library doesn't call unknown it knows.
"""

from __future__ import annotations

import ctypes
import re
import struct
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llmservice_runtime.engines.base.generated import main

REFUSALS = ("unknown model architecture", "unsupported model architecture", "CLIP cannot be used as main model")
_WORD = re.compile(rb"[a-z0-9_.-]{2,40}(?=\x00)")
_KEY = re.compile(rb"\x00((?:%s|general|tokenizer|adapter|split|imatrix)\.[a-z0-9_.]+)(?=\x00)")
_STRING = 8
"""GGUF's number of the type string."""


def ask() -> dict[str, Any]:
    """Everything the library tells."""
    import llama_cpp

    library = _library("llama").read_bytes()
    return {
        "engine": "LlamaCpp",
        "versions": {"llama-cpp-python": version("llama-cpp-python")},
        "architectures": list(_architectures(library)),
        "tensor_types": {str(number): entry for number, entry in _tensor_types()},
        "file_types": {
            str(value): name.removeprefix("LLAMA_FTYPE_").removeprefix("MOSTLY_").removeprefix("ALL_")
            for name, value in vars(llama_cpp).items()
            if name.startswith(("LLAMA_FTYPE_MOSTLY_", "LLAMA_FTYPE_ALL_"))
        },
        "keys": sorted({match[1].decode().replace("%s", "{arch}") for match in _KEY.finditer(library)}),
    }


def _library(name: str) -> Path:
    import llama_cpp

    return next((Path(llama_cpp.__file__).parent / "lib").glob(f"lib{name}.*"))


def _architectures(library: bytes) -> Iterator[str]:
    """Of all words in the library those that it takes for an architecture it can load."""
    words = sorted(set(_words(library)))
    for word, said in zip(words, _loading(_header(architecture=word) for word in words), strict=True):
        if not any(refusal in said for refusal in REFUSALS):
            yield word


def _words(library: bytes) -> Iterator[str]:
    """Strings that could be a name, and their ends: a linker keeps `bert` as the end of `nomic-bert`."""
    for match in _WORD.finditer(library):
        word = match[0].decode()
        yield from (word[start:] for start in range(len(word) - 1) if word[start].isalpha())


def _tensor_types() -> Iterator[tuple[int, dict[str, Any]]]:
    """Number -> name, elements per block, bytes per block. Numbers that were given up have no name."""
    library = ctypes.CDLL(str(_library("ggml-base")))
    library.ggml_type_name.restype = ctypes.c_char_p
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_type_size.restype = ctypes.c_size_t
    (said,) = _loading([_header(architecture="llama", tensor_type=2**30)])
    bound = re.search(r"invalid ggml type \d+\. should be in \[0, (\d+)\)", said)
    if bound is None:
        raise RuntimeError(f"llama.cpp no longer tells how many tensor types it has; it said: {said}")
    for number in range(int(bound[1])):
        block = library.ggml_blck_size(number)
        name = (library.ggml_type_name(number) or b"").decode() if block else ""
        yield number, {"name": name.upper(), "block": block, "bytes": library.ggml_type_size(number)}


def _loading(headers: Iterable[bytes]) -> Iterator[str]:
    """What the library says while it loads each of these files."""
    import llama_cpp

    said: list[str] = []

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def listen(level: int, text: bytes, data: object) -> None:
        said.append(text.decode(errors="replace"))

    llama_cpp.llama_log_set(listen, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "header.gguf"
        for header in headers:
            said.clear()
            file.unlink(missing_ok=True)  # written over, a file system would bring each to the disk
            file.write_bytes(header)
            if model := llama_cpp.llama_model_load_from_file(str(file).encode(), params):
                llama_cpp.llama_model_free(model)
            yield "".join(said)


def _header(architecture: str, tensor_type: int | None = None) -> bytes:
    """A GGUF (version 3) whose only key is general.architecture, with no tensor or with one of that type."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    tensors = b"" if tensor_type is None else text("x") + struct.pack("<IQIQ", 1, 1, tensor_type, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, int(bool(tensors)), 1)
    return head + text("general.architecture") + struct.pack("<I", _STRING) + text(architecture) + tensors


if __name__ == "__main__":
    sys.exit(main(ask))
