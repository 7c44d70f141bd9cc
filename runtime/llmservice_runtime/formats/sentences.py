"""How a checkpoint's files say that a text becomes one vector: as sentence-transformers writes them. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmservice_runtime.formats.ranges import damaged

MODULES, PROMPTS = "modules.json", "config_sentence_transformers.json"
PROCESSING = "sentence_bert_config.json"
USUAL_POOLING = "1_Pooling"
MODES = {
    "mean_tokens": "Mean", "cls_token": "CLS", "lasttoken": "Last", "max_tokens": "Max",
    "mean_sqrt_len_tokens": "MeanSqrtLen", "weightedmean_tokens": "WeightedMean",
}  # fmt: skip
"""Of `pooling_mode_...: true`, or without that in `pooling_mode`."""
SHORT_MODES = {"mean": "Mean", "cls": "CLS", "lasttoken": "Last", "max": "Max", "mean_sqrt_len_tokens": "MeanSqrtLen"}
ABLE = frozenset({"Mean", "CLS", "Last"})
MOST_PROMPTS, LONGEST_PROMPT = 64, 4096
ACTIVATIONS = frozenset({"GELU", "Identity", "ReLU", "SiLU", "Sigmoid", "Tanh"})
MOST_FEATURES = 1 << 20

Read = Callable[[str], bytes | None]
"""The content of a file of the repository; None = there is none."""


@dataclass(frozen=True, slots=True)
class Dense:
    """A layer behind the pooling: its weights are in `folder`."""

    folder: str
    inputs: int
    outputs: int
    bias: bool
    activation: str
    """A class of torch.nn, by its name."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Of a model that is asked whether a document fits: the tokens that say so, and that say no. None = the logit of
    the first alone counts."""

    yes: int
    no: int | None
    opened: bool = False
    """Whether the chat template opens the answer."""


@dataclass(frozen=True, slots=True)
class Sentences:
    """What is done with the vectors of a text's tokens."""

    pooling: str = ""
    """Mean, CLS, Last; empty = the files don't say."""
    normalized: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str = ""
    dense: tuple[Dense, ...] = ()
    """In their order, before vectors are normalized."""
    answers: Answers | None = None
    """Instead of a pooling, of a decoder that reranks."""
    question: tuple[str, str, str] | None = None
    """What is written before, between and after a query and a document; None = its chat template says."""
    unable: str = ""
    """What of it nobody here does, as a sentence; empty = nothing."""


def sentences(read: Read) -> Sentences:
    """Of a model that embeds. Raises UnsupportedModel for files that are damaged."""
    parts = _modules(read)
    kinds = [kind for kind, _ in parts]
    if kinds == ["Transformer", "LogitScore"]:
        return _asked(read, parts[1][1])
    folder = next((path for kind, path in parts if kind == "Pooling"), USUAL_POOLING)
    said = _object(read, f"{folder}/config.json")
    modes = _modes(said)
    others = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Dense", "Normalize")]
    dense, unable = _dense(read, parts)
    if others:
        unable = f"modules.json has a part {others[0][:40]}, which is not computed here."
    elif len(modes) > 1:
        unable = f"{folder}/config.json joins several poolings ({', '.join(modes)}), which is not done here."
    elif modes and modes[0] not in ABLE:
        unable = f"{folder}/config.json pools by {modes[0]}, which is not done here."
    elif said.get("include_prompt") is False:
        unable = f"{folder}/config.json leaves the prompt out of what is pooled, which is not done here."
    prompts, default = _prompts(read)
    return Sentences(modes[0] if modes else "", "Normalize" in kinds, prompts, default, dense, unable=unable)


def _dense(read: Read, parts: Sequence[tuple[str, str]]) -> tuple[tuple[Dense, ...], str]:
    """Layers behind the pooling, and what can't be done of them."""
    kinds = [kind for kind, _ in parts]
    if "Dense" not in kinds:
        return (), ""
    if kinds != sorted(kinds, key=("Transformer", "Pooling", "Dense", "Normalize", *kinds).index):
        return (), "modules.json has a part Dense elsewhere than behind the pooling, which is not computed here."
    found = []
    for folder in (folder for kind, folder in parts if kind == "Dense"):
        said = _object(read, f"{folder}/config.json")
        inputs, outputs = (_features(said, name, folder) for name in ("in_features", "out_features"))
        path, _, activation = str(said.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")
        odd = {said.get("module_input_name"), said.get("module_output_name")} - {None, "sentence_embedding"}
        if odd or said.get("use_residual") or not path.startswith("torch.nn.") or activation not in ACTIVATIONS:
            return (), f"{folder}/config.json describes a layer that is not computed here ({activation[:40]})."
        found.append(Dense(folder, inputs, outputs, said.get("bias") is not False, activation))
    return tuple(found), ""


def _features(said: Mapping[str, Any], name: str, folder: str) -> int:
    size = said.get(name)
    if type(size) is not int or not 0 < size <= MOST_FEATURES:
        raise damaged(f"{folder}/config.json does not say how wide the layer is (`{name}`).")
    return size


def _asked(read: Read, folder: str) -> Sentences:
    """Of a decoder that reranks."""
    said = _object(read, f"{folder}/config.json")
    yes, no = said.get("true_token_id"), said.get("false_token_id")
    if type(yes) is not int or yes < 0 or (no is not None and (type(no) is not int or no < 0)):
        raise damaged(f"{folder}/config.json names no tokens by their ids.")
    processing = _object(read, PROCESSING).get("processing_kwargs")
    template = processing.get("chat_template") if isinstance(processing, dict) else None
    opened = isinstance(template, dict) and template.get("add_generation_prompt") is True
    prompts, default = _prompts(read)
    return Sentences("Rank", prompts=prompts, default_prompt=default, answers=Answers(yes, no, opened))


def _modules(read: Read) -> list[tuple[str, str]]:
    """(kind, folder) of the parts of modules.json, in their order."""
    raw = read(MODULES)
    parts = _parsed(raw, MODULES) if raw is not None else []
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise damaged(f"{MODULES} is no list of parts.")
    return [(str(part.get("type", "")).rpartition(".")[2], str(part.get("path", ""))) for part in parts[:16]]


def _modes(said: Mapping[str, Any]) -> list[str]:
    found = [name for mode, name in MODES.items() if said.get(f"pooling_mode_{mode}") is True]
    mode = said.get("pooling_mode")
    if not found and isinstance(mode, str):
        found = [SHORT_MODES.get(mode) or MODES.get(mode) or mode[:40]]
    return found


def _prompts(read: Read) -> tuple[dict[str, str], str]:
    """(prompts by name, the name of the default)."""
    said = _object(read, PROMPTS)
    prompts, default = said.get("prompts") or {}, said.get("default_prompt_name") or ""
    texts = isinstance(prompts, dict) and all(isinstance(text, str) for text in prompts.values())
    if not texts or len(prompts) > MOST_PROMPTS or any(len(text) > LONGEST_PROMPT for text in prompts.values()):
        raise damaged(f"`prompts` of {PROMPTS} are not texts by name.")
    if default and default not in prompts:
        raise damaged(f"`default_prompt_name` of {PROMPTS} is {str(default)[:80]!r}, which is none of its prompts.")
    return prompts, str(default)


def _object(read: Read, path: str) -> dict[str, Any]:
    raw = read(path)
    said = _parsed(raw, path) if raw is not None else {}
    if not isinstance(said, dict):
        raise damaged(f"{path} is no JSON object.")
    return said


def _parsed(raw: bytes, path: str) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise damaged(f"{path} is not valid JSON: {str(error)[:200]}.") from None


def labels(config: Mapping[str, Any]) -> int:
    """Classes that a classifier tells apart; Transformers' default is 2."""
    number, names = config.get("num_labels"), config.get("id2label")
    if isinstance(names, dict) and names:
        return len(names)
    return number if type(number) is int and number > 0 else 2
