"""Which checkpoints of AutoRound vLLM's `inc` reads, restated: kinds of numbers, bits, groups and packings that go
together.

Generating capabilities.json asks vLLM itself with every combination of `everything`, on GPUs and CPUs, and fails where
it answers otherwise.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from llmservice_runtime.formats.schemes import NONE

GPTQ, AWQ = "auto_round:auto_gptq", "auto_round:auto_awq"
BLOCKS, MICRO = "auto_round:fp8", "auto_round:llm_compressor"
PACKINGS = (GPTQ, AWQ, BLOCKS, MICRO)
BACKENDS = ("auto", "gptq", "gptq:marlin", "awq", "awq:marlin", "marlin")
UNSTATED = NONE
MARLIN_GROUPS = ("-1", "32", "64", "128")
_WORD = re.compile(r"(\S+) (\d+) (-?\d+|\d+x\d+)( asymmetric)? (\S+) (\S+)")


def takes(word: str, cpu: bool = False) -> bool:
    """Whether vLLM reads weights that `formats.schemes.auto_round` words so; words of another form are not judged."""
    found = _WORD.fullmatch(word)
    if found is None:
        return True
    kind, bits, group, asymmetric, packing, backend = found.groups()
    kind = "fp" if kind == "fp8" else kind
    micro, block = "mx_fp" in kind, "x" in group
    if packing == UNSTATED:
        packing = MICRO if micro else BLOCKS if (kind, bits, block) == ("fp", "8", True) else GPTQ
    if not 2 <= int(bits) <= 8 or packing not in PACKINGS or backend not in BACKENDS:
        return False
    if kind == "int":
        packed = not block and packing in (GPTQ, AWQ)
        return packed and _whole_numbers(int(bits), group, bool(asymmetric), packing + backend, cpu)
    if kind == "fp":
        return block and (bits, asymmetric, packing, backend) == ("8", None, BLOCKS, "auto")
    if kind == "mx_fp" and (group, asymmetric, packing, backend) != ("32", None, MICRO, "auto"):
        return False
    return micro and (bits == "8" or (bits == "4" and not block and not cpu))


def refused_act(word: str, acts: Iterable[str]) -> str:
    """The first of the words of what goes into layers (`schemes.auto_round_acts`) that vLLM does not take beside these
    weights; empty = it takes them, or does not look at them."""
    expected = expected_acts(word)
    for act in acts:
        key, _, value = act.partition(" ")
        if value != expected.get(key, value):
            return act
    return ""


def expected_acts(word: str) -> dict[str, str]:
    """What vLLM has them be beside weights that are worded so."""
    kind, bits, group = (*word.split(), "", "", "")[:3]
    moving = {"act_bits": "8", "act_sym": "True", "act_dynamic": "True"}
    if kind in ("fp", "fp8"):
        side = group.partition("x")[0]
        more = {"act_group_size": side, "act_data_type": "fp", "activation_scheme": "dynamic", "fmt": "e4m3"}
        return moving | more
    return moving | {"act_group_size": "32", "act_data_type": "mx_fp"} if "mx_fp" in kind and bits == "8" else {}


def _whole_numbers(bits: int, group: str, asymmetric: bool, how: str, cpu: bool) -> bool:
    """`how` is the packing and the backend: GPTQ's goes before AWQ's."""
    if not cpu and bits not in (4, 8):
        return True  # kernels that take any width
    if "gptq" not in how:
        return bits == 4
    marlin = how.endswith(("auto", "marlin")) and group in MARLIN_GROUPS
    return marlin and not asymmetric and (bits == 4 or (bits == 8 and not cpu))


def everything() -> Iterator[str]:
    """Words of all combinations that vLLM is asked with."""
    for kind, bits, group, asymmetric, packing, backend in itertools.product(
        ("int", "fp", "fp8", "mx_fp", "mx_fp4", "nv_fp"),
        (2, 3, 4, 7, 8, 9),
        ("-1", "16", "32", "128", "256", "128x128"),
        ("", " asymmetric"),
        (UNSTATED, *PACKINGS, "auto_round:gguf"),
        (*BACKENDS, "exllama"),
    ):
        yield f"{kind} {bits} {group}{asymmetric} {packing} {backend}"
