"""Which combinations of weights and activations vLLM has a scheme for: its own choice, asked with every one of them.

Those of compressed-tensors are restated in `compressed`, and compared here.

A combination counts when any completion of it (strategies, symmetry, sizes of groups) has a scheme. What a scheme then
asks of the device is no matter here.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from llmservice_runtime.engines.vllm import compressed
from llmservice_runtime.engines.vllm.generate_experts import check_mixed_kernels, experts_digest
from llmservice_runtime.formats import schemes

BOTH = (False, True)


def quark_schemes() -> dict[str, int]:
    """As `schemes.quark` words them -> the lowest capability of those that vLLM has for it."""
    from vllm.model_executor.layers.quantization.quark.quark import QuarkConfig

    config = object.__new__(QuarkConfig)
    config.pack_method = "reorder"
    kinds = ("int2", "int3", "int4", "uint4", "int8", "uint8", "fp8_e4m3", "fp8_e5m2", "fp6_e2m3", "fp6_e3m2", "fp4")
    places = [("per_tensor", None), ("per_channel", None), *(("per_group", size) for size in (16, 32, 64, 128))]
    weights = [
        {"dtype": kind, "qscheme": where, "group_size": size, "symmetric": symmetric, "scale_format": scale,
         "is_dynamic": False, **block}
        for kind, (where, size), symmetric, scale, block in itertools.product(
            kinds, [*places, ("per_block", None)], BOTH, ("e8m0", "float32"),
            ({}, {"block_size": [128, 128]}, {"block_size": [32, 32]}, {"block_size": [1, 32]}),
        )
        if bool(block) == (where == "per_block")
    ]  # fmt: skip
    inputs = [None, *(
        {"dtype": kind, "qscheme": where, "group_size": size, "symmetric": symmetric, "is_dynamic": moves,
         "scale_format": "e8m0"}
        for kind, (where, size), symmetric, moves in itertools.product(kinds, places, BOTH, BOTH)
    )]  # fmt: skip
    found: dict[str, int] = {}
    for weight, given in itertools.product(weights, inputs):
        group = {"weight": weight, "input_tensors": given}
        with contextlib.suppress(NotImplementedError, ValueError, AssertionError):
            *_, kind = config._get_scheme_cls_from_config(group)
            word, floor = schemes.quark(group), kind.get_min_capability()
            found[word] = min(floor, found.get(word, floor))
    return found


def compressed_digest() -> dict[str, Any]:
    """How many combinations were asked of compressed-tensors' chooser, and a hash of its answers, which are those of
    `compressed.scheme`; the same of its choice for experts. RuntimeError where they differ."""
    found = hashlib.sha256()
    differ, asked = [], 0
    for capability in (80, 90, 100):
        with _chooser(capability) as choose:
            for word in compressed.everything():
                answer = choose(word)
                if answer != compressed.scheme(word, capability):
                    differ.append(f"{capability} {word}: {answer} and not {compressed.scheme(word, capability)}")
                found.update(f"{answer}\n".encode())
                asked += 1
    if differ:
        raise RuntimeError(
            f"{len(differ)} schemes of compressed-tensors are others in vLLM:\n" + "\n".join(differ[:40])
        )
    from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import QuantizationArgs

    check_mixed_kernels()
    experts = experts_digest(functools.partial(_arguments, QuantizationArgs))
    return {"asked": asked, "digest": found.hexdigest(), "experts": experts}


@contextlib.contextmanager
def _chooser(capability: int) -> Iterator[Callable[[str], str | None]]:
    """vLLM's own choice on a GPU of that capability: the class's name; what a class then asks of the device is no
    matter."""
    from vllm.model_executor.layers.quantization.compressed_tensors import compressed_tensors as theirs
    from vllm.model_executor.layers.quantization.compressed_tensors import schemes as classes

    def supported(floor: int, error: bool = True, match_exact: bool = False) -> bool:
        return capability == floor if match_exact else capability >= floor

    kind = theirs.CompressedTensorsConfig
    config = object.__new__(kind)
    config.quant_format = None
    made = {name: _named(getattr(classes, name)) for name in classes.__all__}
    for one in made.values():  # its floor is asked of the class
        one.get_min_capability = lambda: compressed.FP8_FLOOR
    read = functools.cache(functools.partial(_arguments, theirs.QuantizationArgs))

    def choose(word: str) -> str | None:
        layout, _, rest = word.partition(": ")
        texts = rest.split(" / ")
        group = {"targets": ["Linear"], "format": None if layout == "None" else layout, "weights": read(texts[0])}
        given = {"input_activations": read(texts[1]), "output_activations": read(texts[2])}
        try:
            if any(isinstance(one, Exception) for one in (group["weights"], *given.values())):
                return None
            told = kind._quantization_scheme_map_from_config({"config_groups": {"g": group | given}})["Linear"]
            parts = told["weights"], told["input_activations"], told["output_activations"]
            return str(config._get_scheme_from_parts(*parts, format=told["format"], layer_name="x"))
        except (NotImplementedError, ValueError, AssertionError, AttributeError):  # the last: of inputs that are None
            return None

    modules = {sys.modules[getattr(classes, name).__module__] for name in classes.__all__}
    device = [
        mock.patch.object(module, name)
        for module in modules
        for name in vars(module)
        if name.startswith(("get_current_vllm_config", "init_"))
    ]
    with contextlib.ExitStack() as stood_in:
        for one in device:
            stood_in.enter_context(one)
        stood_in.enter_context(mock.patch.dict(vars(theirs), made))
        stood_in.enter_context(mock.patch.object(kind, "_check_scheme_supported", staticmethod(supported)))
        stood_in.enter_context(mock.patch.object(theirs.QuantizationArgs, "model_validate", lambda one: one))
        yield choose


def _named(kind: Any) -> Any:
    """Makes one, for its own checks, and gives its name."""

    def make(*of: Any, **named: Any) -> str:
        try:
            kind(*of, **named)
        except (NotImplementedError, ValueError, AssertionError):
            raise
        except Exception:  # whatever it asks of the device
            return str(kind.__name__)
        return str(kind.__name__)

    return make


def _arguments(kind: Any, text: str) -> Any:
    """A part as compressed-tensors reads it, None where there is none, or what it raised."""
    if text == schemes.NONE:
        return None
    what, strategy, *rest = text.split()
    raw = {"type": what.rstrip("0123456789"), "num_bits": int(what.lstrip("intfloa")), "strategy": strategy}
    raw |= {"group_size": int(rest[0])} if rest and rest[0].isdigit() else {}
    raw |= {"block_structure": [128, 128]} if strategy == "block" else {}
    raw |= {"symmetric": "asymmetric" not in rest, "dynamic": "local" if "local" in rest else "dynamic" in rest}
    raw |= {"scale_dtype": "torch.uint8"} if "uint8" in rest else {}
    raw |= {"actorder": "group"} if "ordered" in rest else {}
    try:
        return kind(**raw)
    except Exception as error:
        return error
