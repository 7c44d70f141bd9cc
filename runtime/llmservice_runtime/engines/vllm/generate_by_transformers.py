"""Which architectures vLLM lacks and runs through Transformers' own code, asked of both."""

from __future__ import annotations

import functools
from collections.abc import Iterator
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
    """Architectures that say they are made for it; of those that write text every layer must hand its attention on.

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
            if name not in writers or not _keeps_layers(implementation.config_class):
                yield name
        except ImportError:  # needs a package for sound or pictures that vLLM does not come with
            continue


@functools.cache
def _keeps_layers(config_class: Any) -> bool:
    """Whether some layer of the class's default computes its attention itself, or has none: vLLM refuses the model
    then, when its load has begun (`_create_attention_instances`). One that can't be made from defaults says nothing."""
    import torch
    from transformers import AutoModel
    from vllm.model_executor.models.transformers.fusers.attention import interface_call

    config = made(config_class)
    part = language_part(config)
    count = getattr(part, "num_hidden_layers", None)
    try:
        with torch.device("meta"):
            model = AutoModel.from_config(config)
    except Exception:  # each class has errors of its own
        return False
    handed = {
        getattr(module, "layer_idx", None)
        for module in model.modules()
        if interface_call(type(module).forward) is not None and type(getattr(module, "config", None)) is type(part)
    }
    return isinstance(count, int) and not handed.issuperset(range(count))
