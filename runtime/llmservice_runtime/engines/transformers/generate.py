"""`python -m llmservice_runtime.engines.transformers.generate`: what auto classes, configs and quantizers say.

Runs in an environment of transformers without torch (generate.lock): configs and the tables of auto classes need none,
and quantizers are asked with a stand-in for it.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Collection, Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from llmservice_runtime.engines.base.config_classes import config_class, language_part, made
from llmservice_runtime.engines.base.generated import main
from llmservice_runtime.engines.transformers import generate_torchao

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
        "decoders": sorted(_decoders({name for name, kinds in architectures.items() if "CausalLM" in kinds})),
        "configs": dict(_configs()),
        "methods": dict(_methods()),
        "words": {"torchao": _torchao()},
        "rope": dict(_rope_types()),
        "weight_files": [
            transformers.utils.SAFE_WEIGHTS_NAME,
            transformers.utils.SAFE_WEIGHTS_INDEX_NAME,
            transformers.utils.WEIGHTS_NAME,
            transformers.utils.WEIGHTS_INDEX_NAME,
        ],
    }


def _decoders(writers: Collection[str]) -> Iterator[str]:
    """Of the classes that write text those that ask for `is_decoder`: without it they read in both directions. Read in
    the source, as importing it takes torch."""
    from transformers import models

    for path in sorted(Path(models.__path__[0]).glob("*/modeling_*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body if "is_decoder" in text else ():
            if isinstance(node, ast.ClassDef) and node.name in writers and _asks(node, "is_decoder"):
                yield node.name


def _asks(kind: ast.ClassDef, field: str) -> bool:
    """Whether its `__init__` reads that field of the configuration; some write it."""
    made = (method for method in kind.body if isinstance(method, ast.FunctionDef) and method.name == "__init__")
    found = (node for method in made for node in ast.walk(method) if isinstance(node, ast.Attribute))
    return any(node.attr == field and isinstance(node.ctx, ast.Load) for node in found)


def _configs() -> Iterator[tuple[str, dict[str, Any]]]:
    """model_type -> its config class, of all that have a vocabulary or lead to one that has."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    for model_type in sorted(CONFIG_MAPPING_NAMES):
        kind = CONFIG_MAPPING[model_type]
        default = made(kind)
        if default is None or hasattr(language_part(default), "vocab_size"):
            yield model_type, config_class(kind)


def _rope_types() -> Iterator[tuple[str, list[list[str]]]]:
    """Type of RoPE -> groups of keys, of each of which one must be there, as the check of its parameters has them."""
    from transformers import modeling_rope_utils as rope

    checks = vars(rope.RotaryEmbeddingConfigMixin)
    for name in {
        "default",
        *rope.ROPE_INIT_FUNCTIONS,
        *(found[1] for key in checks if (found := VALIDATES.fullmatch(key))),
    }:
        tree = ast.parse(textwrap.dedent(inspect.getsource(checks[f"_validate_{name}_rope_parameters"])))
        stated = [
            ast.literal_eval(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "required_keys"
        ]
        yield name, [[key] for key in sorted(set().union(*stated) - {"rope_type", "rope_theta"})]


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


def _torchao() -> dict[str, list[str]]:
    """What a checkpoint of torchao may say, by the words that `formats.quantization` keeps of it."""
    fields = generate_torchao.fields()
    return {
        "quant_type": list(_torchao_kinds()),
        "config": list(fields),
        "field": [f"{name}.{field}" for name, of in fields.items() for field in of],
        "version": sorted(f"{name}.{version}" for name, version in generate_torchao.versions().items()),
    }


def _torchao_kinds() -> Iterator[str]:
    """Keys of a checkpoint's `quant_type`, or the text that it is, of those there were, with which torchao is asked for
    the rest."""
    from transformers.utils.quantization_config import TorchAoConfig

    asked = mock.MagicMock(config_from_dict=dict)
    packages = {"torchao": mock.MagicMock(), "torchao.core": mock.MagicMock(), "torchao.core.config": asked}
    kinds: tuple[Any, ...] = ({"default": {}}, "int4_weight_only", {"default": {}, "other": {}}, {})
    with mock.patch.dict(sys.modules, packages), mock.patch.object(TorchAoConfig, "post_init"):
        for kind in kinds:
            with contextlib.suppress(AssertionError, ValueError):
                TorchAoConfig.from_dict({"quant_type": kind})
                yield ", ".join(kind) if isinstance(kind, dict) else kind


CAPABILITIES = (70, 75, 80, 86, 89, 90, 100, 120)
IMPORTED = (
    "transformers.integrations",
    "optimum",
    "optimum.gptq",
    "compressed_tensors",
    "compressed_tensors.compressors",
)
VALIDATES = re.compile(r"_validate_(\w+)_rope_parameters")
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
