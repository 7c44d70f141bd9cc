"""What a model answers: from class names, pooling and the presence of a chat template."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.facts import Task

_NO_TEXT = (
    "ForImageClassification", "ForObjectDetection", "ForSemanticSegmentation", "ForCTC", "ForAudioClassification",
    "ForSpeechSeq2Seq", "ForTextToWaveform", "ForTextToSpectrogram", "ForDepthEstimation", "ForTokenClassification",
    "ForQuestionAnswering", "ForMaskGeneration", "WhisperForConditionalGeneration", "ForVideoClassification",
)  # fmt: skip
_WRITERS = frozenset({"AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForImageTextToText"})
_GENERATES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForVision2Seq", "ForImageTextToText")
GENERATORS = frozenset(
    {
        "AquilaModel", "ChatGLMModel", "H2OVLChatModel", "InternVLChatModel", "MiDashengLMModel", "MossAudioModel",
        "Qwen2_5OmniModel", "SkyworkR1VChatModel", "UltravoxModel", "VisionEncoderDecoderModel",
    }
)  # fmt: skip
"""Classes that write text and are named as those that don't. A test holds them against what the engines told."""
ENCODERS = ("bert", "nomic-bert", "jina-bert", "modern-bert", "neo-bert", "eurobert", "gemma-embedding", "t5encoder")
"""GGUF architectures that embed."""
DIFFUSION = frozenset(
    {"flux", "sd1", "sd3", "sdxl", "aura", "hidream", "cosmos", "hyvid", "wan", "ltxv", "lumina2", "qwen_image", "pig"}
)
"""GGUF architectures of image and video models."""


_DRAFT = re.compile(
    r"Eagle(3|(?!\d))(?!.*ForConditional)|Medusa|MLPSpeculator|Draft|DSpark|MTP|ExtractHiddenStates|AssistantModel"
)
"""In names of what guesses ahead for another model. A test holds them against what vLLM told."""


def auto_classes(root: Mapping[str, Any]) -> frozenset[str]:
    """The auto classes that config.json's `auto_map` has code for: AutoConfig, AutoModelForCausalLM, ..."""
    mapped = root.get("auto_map")
    return frozenset(name for name in mapped if isinstance(name, str)) if isinstance(mapped, dict) else frozenset()


def task_of(
    architectures: Iterable[str],
    paths: Iterable[str],
    chat_template: bool,
    auto: frozenset[str] = frozenset(),
    ranks: bool = False,
) -> Task:
    """The task of a checkpoint with these `architectures`; `paths` are the repository's files, `auto` the auto classes
    that it brings code for: a base class that is mapped to AutoModelForCausalLM writes text. `ranks`: it is known to be
    asked for yes or no.

    Raises UnsupportedModel for models that neither write nor embed text.
    """
    names = tuple(architectures)
    if any(name.endswith(("ForSequenceClassification", "ForRewardModel")) for name in names):
        return Task.RERANK
    for name in names:
        if name.endswith(_NO_TEXT):
            raise UnsupportedModel(
                f"{name} neither writes nor embeds text.", "Use a chat, completion, embedding or reranking model."
            )
    for name in names:
        if _DRAFT.search(name):
            raise UnsupportedModel(
                f"{name} guesses ahead for another model (speculative decoding) and is none by itself.",
                "Use the model that it was made for.",
            )
    if ranks or any(path.endswith("_LogitScore/config.json") for path in paths):
        return Task.RERANK
    if any(path == "modules.json" or path.startswith("1_Pooling/") for path in paths):
        return Task.EMBEDDING
    if any(name.endswith(_GENERATES) or name in GENERATORS for name in names) or auto & _WRITERS:
        return Task.CHAT if chat_template else Task.COMPLETION
    if any(name.endswith(("Model", "ForMaskedLM", "ForTextEncoding", "Embedding")) for name in names):
        return Task.EMBEDDING
    return Task.CHAT if chat_template else Task.COMPLETION


def gguf_task(architecture: str, pooling: int, causal: bool, chat_template: bool) -> Task:
    """The task of a GGUF; `pooling` is llama.cpp's: 0 none, 1 mean, 2 CLS, 3 last, 4 rank, -1 not stated."""
    if architecture in DIFFUSION:
        raise UnsupportedModel(
            f"the GGUF holds a diffusion model ({architecture}), which writes no text.", "Use a language model."
        )
    if pooling == 4:
        return Task.RERANK
    if pooling in (1, 2, 3) or not causal or architecture.startswith(ENCODERS):
        return Task.EMBEDDING
    return Task.CHAT if chat_template else Task.COMPLETION
