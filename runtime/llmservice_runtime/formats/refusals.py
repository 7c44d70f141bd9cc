"""Repositories that hold no language model an engine can load, by their file names and first bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.gguf import check_magic
from llmservice_runtime.sources.files import FileEntry

_FOREIGN = {
    ".h5": "TensorFlow", ".msgpack": "Flax", ".tflite": "TensorFlow Lite", ".mlmodel": "Core ML", ".nemo": "NeMo",
    ".engine": "TensorRT", ".ckpt": "PyTorch Lightning or TensorFlow", ".npz": "NumPy or MLX",
}  # fmt: skip


def foreign_format(
    paths: Sequence[str], weights: Sequence[FileEntry], adapter: Mapping[str, Any]
) -> UnsupportedModel | None:
    """Why these files are no model for any engine; None when there are weights to look at."""
    if "model_index.json" in paths:
        return UnsupportedModel("this is a diffusion pipeline (model_index.json).", "Use a language model.")
    if weights:
        return None
    if adapter or any(path.startswith("adapter_model.") for path in paths):
        base = adapter.get("base_model_name_or_path")
        named = f"{base[:200]}" if isinstance(base, str) and base else "its base model"
        return UnsupportedModel(
            f"this is a LoRA adapter of {named}, not a model.",
            f"Merge it into {named} (peft: merge_and_unload) and serve the result; an adapter alone is not served.",
        )
    if any(path.endswith(".onnx") or path.rsplit("/", 1)[-1] == "genai_config.json" for path in paths):
        return UnsupportedModel(
            "the weights are ONNX, which no engine here loads.", "Use the original safetensors or a GGUF of the model."
        )
    for path in paths:
        suffix = path[path.rfind(".") :].lower()
        if suffix in _FOREIGN:
            return UnsupportedModel(
                f"the weights are {_FOREIGN[suffix]} ({path[:120]}), which no engine here loads.",
                "Use a safetensors or GGUF version of the model.",
            )
    listed = ", ".join(path[:80] for path in paths[:8]) or "nothing"
    return UnsupportedModel(
        f"there are no weights among the {len(paths)} files ({listed}).",
        "Name a repository or folder with *.safetensors or *.gguf, and check include.",
    )


def foreign_weights(path: str, first: bytes) -> UnsupportedModel | None:
    """Whether a file that is named like a pickle is something else; None when it is a pickle."""
    if first.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return None
    if first[:4] == b"GGUF":
        return UnsupportedModel(f"{path} is a GGUF file under another name.", "Rename it to end in .gguf.")
    try:
        check_magic(first[:4], path)
    except UnsupportedModel as error:
        if "no GGUF file" not in error.reason:
            return error
    return UnsupportedModel(
        f"{path} is neither a PyTorch pickle nor a format known here.",
        "Use a safetensors or GGUF version of the model.",
    )
