"""`python -m llmservice_runtime.engines.transformers.generate`: what auto classes, configs and quantizers say.

Runs in an environment of transformers without torch (generate.lock): configs and the tables of auto classes need none,
and quantizers are asked with a stand-in for it.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any
from unittest import mock

from llmservice_runtime.engines.base.generated import main

AUTO = {
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES": "CausalLM",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES": "ImageTextToText",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES": "Seq2SeqLM",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES": "SequenceClassification",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES": "MaskedLM",
    "MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES": "TextEncoding",
    "MODEL_MAPPING_NAMES": "Model",
}
"""Tables of auto classes -> the auto class, of what text models are used as; what all models have comes last."""

SIZES = re.compile(
    r"vocab_size|hidden_size|(moe_|shared_expert_)?intermediate_size|num_hidden_layers|num_layers"
    r"|num_(attention|key_value|kv|global_key_value)_heads|(global_|v_|qk_rope_|qk_nope_)?head_dim|(kv|q)_lora_rank"
    r"|max_position_embeddings|rope_(theta|scaling|parameters)|tie_word_embeddings"
    r"|_?sliding_window(_pattern)?|use_sliding_window|max_window_layers|attention_chunk_size|layer_types|layers_block_type"
    r"|num_(local_|routed_)?experts(_per_tok)?|n_(routed|shared)_experts|num_kv_shared_layers|full_attention_interval"
    r"|(mamba|linear|ssm)_\w+|state_size|conv_kernel|expand|n_groups|attn_(type_list|layer_\w+)"
)
"""Fields of a config that memory or the context length depend on."""
PLAIN = (bool, int, float, str, type(None))


def ask() -> dict[str, Any]:
    """Everything Transformers tells."""
    import transformers

    transformers.logging.set_verbosity_error()
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    architectures: dict[str, set[str]] = {}
    served: set[str] = set()
    for table, kind in AUTO.items():
        for model_type, names in getattr(auto, table).items():
            if kind == "Model" and model_type not in served:  # a part of a model, or of one that makes no text
                continue
            served.add(model_type)
            for name in [names] if isinstance(names, str) else names:
                architectures.setdefault(name, set()).add(kind)
    return {
        "engine": "Transformers",
        "versions": {"transformers": version("transformers")},
        "architectures": {name: sorted(kinds) for name, kinds in architectures.items()},
        "configs": dict(_configs(served)),
        "methods": dict(_methods()),
    }


def _configs(served: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """model_type -> what its config class has where config.json says nothing; null: derived from other fields.

    `names` maps the common names of fields to the class's own, `text` is the model_type of the part that is sized.
    """
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    waiting = sorted(served & set(CONFIG_MAPPING_NAMES))
    seen = set(waiting)
    while waiting:
        model_type = waiting.pop()
        config = CONFIG_MAPPING[model_type]
        names = {common: own for common, own in config.attribute_map.items() if SIZES.fullmatch(common)}
        told: dict[str, Any] = {
            field.name: field.default
            for field in dataclasses.fields(config)
            if (SIZES.fullmatch(field.name) or field.name in names.values()) and isinstance(field.default, PLAIN)
        }
        if pattern := _layer_pattern(config):
            told["layer_types"] = pattern
        if names:
            told["names"] = names
        text = getattr(config.sub_configs.get("text_config"), "model_type", "")
        if text and text != model_type:
            told["text"] = text
            if text in CONFIG_MAPPING_NAMES and text not in seen:
                seen.add(text)
                waiting.append(text)
        yield model_type, told


def _layer_pattern(config: Any) -> list[str]:
    """The unit that the kinds of a default config's layers repeat; empty when it doesn't tell any."""
    try:
        kinds = list(getattr(config(), "layer_types", None) or ())
    except Exception:  # configs that can't be made from defaults; each has its own error
        return []
    units = (kinds[:length] for length in range(1, len(kinds) + 1))
    return next((unit for unit in units if all(kind == unit[i % len(unit)] for i, kind in enumerate(kinds))), [])


def _methods() -> Iterator[tuple[str, dict[str, Any]]]:
    """quant_method -> what its loader does with a checkpoint on a CPU and on the newest GPU, the capability from which
    on a GPU does that, and the packages that it depends on."""
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    for name, quantizer in AUTO_QUANTIZER_MAPPING.items():
        if name == "gguf":  # a file's format, which config.json does not name
            continue
        best = _outcome(quantizer, CAPABILITIES[-1])
        yield (
            name,
            {
                "cpu": _outcome(quantizer, 0),
                "gpu": best,
                "capability": next(sm for sm in CAPABILITIES if _outcome(quantizer, sm) == best),
                "packages": [
                    name for name in _asked_for(quantizer) if _outcome(quantizer, CAPABILITIES[-1], name) != best
                ],
            },
        )


CAPABILITIES = (70, 75, 80, 86, 89, 90, 100, 120)
IMPORTED = (
    "transformers.integrations",
    "optimum",
    "optimum.gptq",
    "compressed_tensors",
    "compressed_tensors.compressors",
)
NOT_PACKAGES = re.compile(r"is_(torch(_.*)?|flash_attn.*)_available")


def _questions(quantizer: Any) -> list[str]:
    """The functions `is_<package>_available` that the quantizer calls when it is made and when it checks."""
    called = {
        name for method in ("__init__", "validate_environment") for name in getattr(quantizer, method).__code__.co_names
    }
    return sorted(name for name in called if re.fullmatch(r"is_\w+_available", name))


def _asked_for(quantizer: Any) -> list[str]:
    return [name[3:-10] for name in _questions(quantizer) if not NOT_PACKAGES.fullmatch(name)]


def _outcome(quantizer: Any, capability: int, missing: str = "") -> str:
    """`Loads`, `Unpacks` (to 16 bits) or `Refuses`: the quantizer's own check of its environment, run in a made up one:
    a GPU of that capability (0 = none), and every package but one."""
    config = mock.MagicMock(name="config", dequantize=False, activations=None)
    answers = {
        name: (lambda *of, name=name, **named: _answer(name, capability > 0) and name != f"is_{missing}_available")
        for name in _questions(quantizer)
    }
    torch = _torch(capability)
    accelerator = torch.device("cuda") if capability else None
    stand_ins = {"torch": torch, "get_current_accelerator": lambda: accelerator, **answers}
    packages = dict.fromkeys(IMPORTED, mock.MagicMock())
    with (
        mock.patch.dict(vars(sys.modules[quantizer.__module__]), stand_ins),
        mock.patch.dict(vars(sys.modules["transformers.utils"]), answers),
        mock.patch.dict(sys.modules, packages),
        mock.patch("importlib.metadata.version", lambda package: "99.0"),
    ):
        try:
            asked = quantizer(config, pre_quantized=True)
            asked.validate_environment(device_map={"": "cuda"} if capability else None)
        except ModuleNotFoundError as error:
            raise RuntimeError(
                f"{quantizer.__name__} imports {error.name}: add a stand-in for it to IMPORTED"
            ) from error
        except (ImportError, RuntimeError, ValueError, NotImplementedError):
            return "Refuses"
    return "Unpacks" if config.dequantize is True else "Loads"


def _torch(capability: int) -> Any:
    """A stand-in for torch that sees one NVIDIA GPU, or none."""
    torch = mock.MagicMock(name="torch", __version__="99.0")
    torch.cuda.is_available.return_value = capability > 0
    torch.cuda.get_device_capability.return_value = divmod(capability, 10)
    torch.cuda.device_count.return_value = int(capability > 0)
    for other in (torch.xpu, torch.mps, torch.backends.mps):
        other.is_available.return_value = False
    torch.device.side_effect = lambda text="cpu", index=0: SimpleNamespace(type=str(text).split(":")[0], index=index)
    return torch


def _answer(name: str, gpu: bool) -> bool:
    """Every package is there; of devices only the GPU that is played."""
    if not NOT_PACKAGES.fullmatch(name):
        return True
    return name == "is_torch_available" or (
        gpu and name in {"is_torch_cuda_available", "is_torch_accelerator_available"}
    )


if __name__ == "__main__":
    sys.exit(main(ask))
