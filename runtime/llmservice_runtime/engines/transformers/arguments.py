"""What Transformers is told beyond the runtime's own settings: the type it computes in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmservice_runtime.contract.errors import UserError

SMALL_WEIGHTS = 64 << 20
"""Bytes. On a CPU 16-bit weights up to here are computed in float32, for little memory: rounding of 16 bits makes an
answer depend on who is computed beside it."""
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class EngineArgs:
    """Arguments of this engine, as plans and users write them."""

    dtype: str = "auto"
    """Type of weights and activations; auto = the checkpoint's own."""


def parse_args(words: Sequence[str]) -> EngineArgs:
    """`--dtype=float32` or `--dtype float32`; UserError names what is not known."""
    rest = [part for word in words for part in word.split("=", 1)]
    dtype = "auto"
    while rest:
        name = rest.pop(0)
        if name != "--dtype":
            raise UserError(
                f"engine.args: {name} is not known to Transformers, which takes --dtype only.",
                "Leave it out; contextTokens says how long a context is.",
            )
        if not rest or rest[0] not in DTYPES:
            raise UserError(
                f"engine.args: --dtype is {rest[0] if rest else 'empty'}; it must be one of {', '.join(DTYPES)}.",
                "Correct --dtype.",
            )
        dtype = rest.pop(0)
    return EngineArgs(dtype)


def words(args: Sequence[str]) -> tuple[str, ...]:
    """The arguments as the engine is given them, each once; what is at its default is left out."""
    dtype = parse_args(args).dtype
    return () if dtype == "auto" else (f"--dtype={dtype}",)
