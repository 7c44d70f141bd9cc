"""Which architectures vLLM lacks and runs through Transformers' own code, asked of both."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmservice_runtime.engines.base.config_classes import language_part, made

AUTO = (
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "MODEL_MAPPING_NAMES",
)
"""Transformers' tables of what is served; of the last, every model's base class, only those of models in the others."""
WRITERS = AUTO[:2]


def by_transformers(registry: Any) -> Iterator[str]:
    """Architectures that say they are made for it; those that write text must be what vLLM's own layers can be.

    Its registry takes more (whatever lets the attention be replaced), recurrent models among them, which then fail.
    """
    import transformers
    from transformers.models.auto import modeling_auto

    found: set[str] = set()
    types: set[str] = set()
    writers: set[str] = set()
    for table in AUTO:
        for model_type, names in getattr(modeling_auto, table).items():
            if table != AUTO[-1] or model_type in types:
                types.add(model_type)
                found.update(these := [names] if isinstance(names, str) else names)
                writers.update(these if table in WRITERS else ())
    for name in found - set(registry._VLLM_MODELS):
        try:
            implementation = getattr(transformers, name, None)
            if not implementation or not implementation.is_backend_compatible():
                continue
            if name not in writers or _fits(implementation):
                yield name
        except ImportError:  # needs a package for sound or pictures that vLLM does not come with
            continue


def _fits(implementation: Any) -> bool:
    """Whether all that a model keeps is keys and values of its text, AutoModel makes its base, as vLLM does, and what
    it sees is counted."""
    from transformers import MODEL_MAPPING

    config_class = implementation.config_class
    if implementation._is_stateful or config_class not in MODEL_MAPPING:
        return False
    config = made(config_class)
    if getattr(config, "is_encoder_decoder", False) is True or not _hands_on(config_class):
        return False
    if "config.is_decoder:" in inspect.getsource(implementation.__init__):  # an encoder, unless that is said
        return False
    return config is None or language_part(config) is config or _counts(config_class.model_type)


def _counts(model_type: str) -> bool:
    """Whether the model's processor tells how many tokens a picture takes: vLLM asks it while it starts
    (models/transformers/multimodal.py). Asked where it stands: what `transformers` exports may be a stand-in, where
    packages for pictures are not installed."""
    from transformers import models
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    name = PROCESSOR_MAPPING_NAMES.get(model_type)
    for path in Path(models.__path__[0]).glob("*/processing_*.py"):
        if f"class {name}(" in path.read_text(encoding="utf-8"):
            module = importlib.import_module(f"{models.__name__}.{path.parent.name}.{path.stem}")
            return hasattr(getattr(module, str(name)), "_get_num_multimodal_tokens")
    return False


@functools.cache
def _hands_on(config_class: Any) -> bool:
    """Whether every layer of the class's default hands its attention on, and once: vLLM refuses the model else, when
    its load has begun (`_create_attention_instances`). One that attends to pictures would be given text by vLLM's
    cache. A class that can't be made from defaults says nothing."""
    import torch
    from transformers import AutoModel
    from vllm.model_executor.models.transformers.fusers.attention import interface_call

    config = made(config_class)
    part = language_part(config)
    count = getattr(part, "num_hidden_layers", None)
    try:
        with torch.device("meta"):
            model = AutoModel.from_config(config)
    except ImportError:  # needs a package that vLLM does not come with
        return False
    except Exception:  # each class has errors of its own
        return True
    handing = [
        module
        for module in model.modules()
        if interface_call(type(module).forward) is not None and type(getattr(module, "config", None)) is type(part)
    ]
    handed = [index for module in handing if (index := getattr(module, "layer_idx", None)) is not None]
    crosses = any("Cross" in type(module).__name__ for module in handing)
    whole = len(handed) == len(set(handed)) and set(handed).issuperset(range(count)) if isinstance(count, int) else True
    return whole and not crosses
