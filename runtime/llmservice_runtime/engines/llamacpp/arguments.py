"""What llama.cpp is told: spec.engine.args, each passed on, an unknown one refused by name; and what was planned.

The planner checks them with this, so that no replica is started to fail on them; the engine reads them with it.
"""

from __future__ import annotations

import argparse
import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NoReturn

from llmservice_runtime.batching.scheduler import STEP_SECONDS
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.engines.base.strict import StrictParser

KV_TYPES = {"f32": 0, "f16": 1, "bf16": 30, "q8_0": 8, "q4_0": 2, "q4_1": 3, "iq4_nl": 20, "q5_0": 6, "q5_1": 7}
"""ggml_type numbers that a KV cache can have."""
FLASH = {"auto": -1, "off": 0, "on": 1}
IMAGE_TOKENS = 1024
"""A picture of some 900 x 900 pixels in the size that it has. Attention grows with the square of it."""
ROPE_SCALING = {"none": 0, "linear": 1, "yarn": 2}


@dataclass(frozen=True, slots=True)
class EngineArgs:
    """What may be set. Defaults are ours: 0 threads = the settings', flash attention on (faster on CPU too)."""

    threads: int = 0
    threads_batch: int = 0
    batch_size: int = 2048
    """Most tokens of one llama_decode."""
    ubatch_size: int = 512
    kv_type: str = "f16"
    flash_attn: str = "on"
    kv_layout: str = "auto"
    """`split`: a stream per sequence (fastest); `unified`: one pool for all; `auto`: split where memory allows."""
    step_seconds: float = 0.0
    """Wanted time of a step that computes a chunk of a long prompt beside generation; 0 = by the machine's speed."""
    no_mmap: bool = False
    mlock: bool = False
    rope_scaling: str = ""
    rope_freq_base: float = 0.0
    rope_freq_scale: float = 0.0
    no_mmproj: bool = False
    """Leave out what sees pictures."""
    image_max_tokens: int = IMAGE_TOKENS
    """Of one picture, of models that see a picture in its own size."""
    gpu_layers: int = 0
    """Planned, not the user's: layers on the GPU; -1 = all."""
    mmproj: str = ""
    """Planned: the file that sees pictures, from the model's folder on; empty = there is none."""


PLANNED = {
    **dict.fromkeys(("-c", "--ctx-size", "--n-ctx", "--context-length"), "Set contextTokens instead."),
    **dict.fromkeys(
        ("-ngl", "--gpu-layers", "--n-gpu-layers", "--tensor-split", "-ts", "--main-gpu", "-mg", "--split-mode", "-sm"),
        "Leave it out: what is on GPUs is planned; accelerator.count says how many there are.",
    ),
    **dict.fromkeys(("-np", "--parallel", "--n-seq-max"), "Leave it out: sequences are planned."),
    **dict.fromkeys(("-m", "--model", "--hf-repo", "-hf", "--alias", "-a"), "Set model.uri instead."),
    **dict.fromkeys(("-mm", "--mmproj", "-mmu", "--mmproj-url"), "Leave it out: it is found beside the model."),
    **dict.fromkeys(("--port", "--host", "--api-key"), "Leave it out: the runtime has its own address."),
    **dict.fromkeys(("-ctk", "-ctv", "--cache-type-k", "--cache-type-v"), "Use --kv-type, which is for both."),
}
"""Options of other llama.cpp programs -> what says the same here."""


class _Parser(StrictParser):
    def error(self, message: str) -> NoReturn:
        known = _known(self)
        unknown = re.match(r"unrecognized arguments: (--?[\w-]+)", message)
        name = unknown[1].replace("_", "-") if unknown else ""
        near = difflib.get_close_matches(name, known, n=1)
        hint = PLANNED.get(name) or (f"Did you mean {near[0]}?" if near else "")
        if unknown and unknown[1] in known:  # `- --threads 4`: one item of YAML's list
            hint = f"Give the option and its value as two items of the list, or as {name}=VALUE."
        raise UserError(f"engine.args: {message}.", f"{hint} llama.cpp takes: {', '.join(known)}.".strip())


def _known(parser: argparse.ArgumentParser) -> list[str]:
    return [name for action in parser._actions for name in action.option_strings]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def _scale(text: str) -> float:
    number = float(text)
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return number


def _step(text: str) -> float:
    number = _scale(text)
    if number > STEP_SECONDS:
        raise argparse.ArgumentTypeError(f"{text} is more than {STEP_SECONDS:g}, the most that a step should take")
    return number


@cache
def _parser(planned: bool) -> _Parser:
    parser = _Parser(add_help=False, allow_abbrev=False)
    for name in ("--threads", "--threads-batch", "--batch-size", "--ubatch-size", "--image-max-tokens"):
        parser.add_argument(name, type=_positive)
    parser.add_argument("--kv-type", choices=list(KV_TYPES))
    parser.add_argument("--flash-attn", choices=list(FLASH))
    parser.add_argument("--kv-layout", choices=["auto", "split", "unified"])
    parser.add_argument("--step-seconds", type=_step)
    parser.add_argument("--no-mmap", action="store_true")
    parser.add_argument("--mlock", action="store_true")
    parser.add_argument("--no-mmproj", action="store_true")
    parser.add_argument("--rope-scaling", choices=list(ROPE_SCALING))
    parser.add_argument("--rope-freq-base", type=_scale)
    parser.add_argument("--rope-freq-scale", type=_scale)
    if planned:
        parser.add_argument("--gpu-layers", type=int)
        parser.add_argument("--mmproj")
    return parser


def parse_args(args: Sequence[str], planned: bool = False) -> EngineArgs:
    """UserError BadArgument names the argument and lists the known ones. `planned` = with what a plan adds to them."""
    read = _parser(planned).read(args)
    given = {name: value for name, value in vars(read).items() if value is not None}
    parsed = EngineArgs(**given)
    if parsed.kv_type not in ("f32", "f16", "bf16") and parsed.flash_attn == "off":
        raise UserError(
            f"engine.args: --kv-type {parsed.kv_type} needs flash attention, and --flash-attn is off.",
            "Leave --flash-attn out, or use --kv-type f16.",
        )
    return parsed


def words(args: Sequence[str]) -> tuple[str, ...]:
    """A command line of them, each option once: of one that is repeated the last."""
    read = vars(_parser(False).read(args))
    given = {f"--{name.replace('_', '-')}": value for name, value in read.items() if value not in (None, False)}
    return tuple(name if value is True else f"{name}={value}" for name, value in given.items())
