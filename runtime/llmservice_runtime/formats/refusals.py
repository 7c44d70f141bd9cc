"""Repositories that hold no language model an engine can load, by their file names and first bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmservice_runtime.contract.plain import plain
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.gguf import check_magic
from llmservice_runtime.formats.listing import size_text
from llmservice_runtime.formats.weight_files import LOADED, PICKLED
from llmservice_runtime.sources.files import FileEntry

SHOWN = 8
"""Files and folders that a message names."""

_FORMATS = {
    "ONNX": r"\.onnx|(?:^|/)genai_config\.json",
    "OpenVINO": r"(?:^|/)openvino_[^/]*\.(?:xml|bin)",
    "TensorFlow Lite": r"\.(?:tflite|litertlm|task)",
    "Core ML": r"\.(?:mlmodel|mlpackage/.*|mlmodelc/.*)",
    "MLC": r"(?:^|/)(?:mlc-chat-config\.json|params_shard_\d+\.bin)",
    "CTranslate2": r"(?:^|/)(?:shared_)?vocabulary\.(?:json|txt)",
    "TensorRT": r"\.(?:engine|plan)",
    "ExecuTorch": r"\.pte",
    "MNN": r"\.mnn",
    "RKLLM": r"\.rkllm",
    "NumPy or MLX": r"\.npz",
    "PaddlePaddle": r"\.(?:pdparams|pdiparams|pdmodel)",
    "Flax": r"\.msgpack",
    "Orbax (JAX)": r"(?:^|/)(?:ocdbt\.process_\d+/.*|_checkpoint_metadata|_METADATA)",
    "TensorFlow": r"\.(?:h5|pb)",
    "NeMo": r"\.nemo",
    "PyTorch Lightning or TensorFlow": r"\.ckpt",
    "a llamafile": r"\.llamafile",
}
_TRAINING = re.compile(
    r"(?:^|/)(?:training_args|optimizer|scheduler|scaler|rng_state|random_states|trainer_state)[^/]*$"
    r"|(?:^|/)(?:mp_rank_\d+_model_states|model_optim_rng|[^/]*optim_states)\.pt$|\.distcp$|(?:^|/)global_step\d+/"
)
_NOT_PICKLED = re.compile(r"(?:^|/)(?:imatrix[^/]*|openvino_[^/]*|params_shard_\d+)\.bin$|\.imatrix", re.IGNORECASE)
_CUT = re.compile(r"\.gguf[-._](?:split|part)?[-._]?(?:[a-z]{1,2}|\d+(?:of\d+)?)$", re.IGNORECASE)


def is_weights(path: str, paths: Sequence[str]) -> bool:
    """Whether a file is named like weights that an engine loads, and not like what training or other engines leave."""
    if not path.endswith(LOADED) or _TRAINING.search(path):
        return False
    if path.endswith(PICKLED):
        foreign = path == "model.bin" and any(_is("CTranslate2", other) for other in paths)
        return not foreign and not _NOT_PICKLED.search(path)
    return True


def _is(name: str, path: str) -> bool:
    return re.search(rf"(?:{_FORMATS[name]})$", path, re.IGNORECASE) is not None


def diffusion(paths: Sequence[str]) -> UnsupportedModel | None:
    """The error of a diffusion pipeline."""
    if "model_index.json" in paths:
        return UnsupportedModel("this is a diffusion pipeline (model_index.json).", "Use a language model.")
    return None


def no_weights(entries: Sequence[FileEntry], uri: str) -> UnsupportedModel:
    """Why these files, none of which is weights at the top, are no model for any engine."""
    paths = [entry.path for entry in entries]
    if below := _models_below(entries):
        return _choose_folder(below, uri)
    if cut := sorted(path for path in paths if _CUT.search(path)):
        whole = cut[0][: cut[0].lower().index(".gguf") + 5]
        return UnsupportedModel(
            f"{cut[0]} is a piece of a GGUF that was cut by bytes.",
            f"Join the pieces in their order (cat {' '.join(cut[:SHOWN])}{' ...' * (len(cut) > SHOWN)} > {whole}).",
        )
    for name in _FORMATS:
        if found := next((path for path in paths if _is(name, path)), None):
            return UnsupportedModel(
                f"the weights are {name} ({found[:120]}), which no engine here loads.",
                "Use the original safetensors or a GGUF of the model.",
            )
    if found := next((path for path in paths if _TRAINING.search(path)), None):
        return UnsupportedModel(
            f"{found[:120]} is what training left to go on with; there are no weights of a model.",
            "Save the model (save_pretrained), and name the folder it is saved in.",
        )
    listed = ", ".join(path[:80] for path in paths[:SHOWN]) or "nothing"
    return UnsupportedModel(
        f"there are no weights among the {len(paths)} files ({listed}).",
        "Name a repository or folder with *.safetensors or *.gguf, and check include.",
    )


def _models_below(entries: Sequence[FileEntry]) -> dict[str, int]:
    """Folders that hold a configuration (of a model or an adapter) and weights, with the bytes of the weights."""
    paths = [entry.path for entry in entries]
    configured = {
        path.rpartition("/")[0]
        for path in paths
        if path.endswith(("/config.json", "/params.json", "/adapter_config.json"))
    }
    found: dict[str, int] = {}
    for entry in entries:
        folder = entry.path.rpartition("/")[0]
        if folder in configured and is_weights(entry.path, ()):
            found[folder] = found.get(folder, 0) + entry.size
    return found


def _choose_folder(below: dict[str, int], uri: str) -> UnsupportedModel:
    shown = [f"{folder} ({size_text(size)})" for folder, size in list(below.items())[:SHOWN]]
    shown += [f"and {len(below) - SHOWN} more"] if len(below) > SHOWN else []
    example = max(below, key=lambda folder: (len(folder), folder))  # of checkpoint-500 and checkpoint-1000 the last
    place = f"{uri.rstrip('/')}/{example}"
    one = len(below) == 1
    return UnsupportedModel(
        f"the model{'' if one else 's'} {'is' if one else 'are'} in folders below: {'; '.join(shown)}.",
        f"Name one of them: uri: {place}."
        if uri.startswith(("file://", "pvc://", "s3://"))
        else f"Download one of them, and name its folder here: uri: file:///models/{example.rpartition('/')[2]}.",
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


def in_pieces(root: Mapping[str, Any]) -> UnsupportedModel | None:
    """The error of a model whose language model, or what hears, is another repository: vLLM fetches its configuration
    and weights while it starts (ultravox.py)."""
    parts = (root.get(key) for key in ("text_model_id", "audio_model_id") if root.get("model_type") == "ultravox")
    part = next((part for part in parts if isinstance(part, str) and part), None)
    if part is None:
        return None
    return UnsupportedModel(
        f"a part of the model is in another repository ({plain(part)[:80]}), and replicas are given one.",
        "Use a version of the model that holds all of its weights.",
    )
