"""The toy to those who plan, install and supervise."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.base.capabilities import capabilities
from llmservice_runtime.engines.base.case import Case
from llmservice_runtime.engines.base.definition import EngineDefinition
from llmservice_runtime.engines.base.recipe import NoEnvironment
from llmservice_runtime.estimate.budget import EngineMemory, MemoryLine, Shape, kv_line
from llmservice_runtime.estimate.overhead import MIB
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.machine.machine import Device


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"engine.args: {message}.", "The toy takes: --parrot.")


def parse_args(args: Sequence[str]) -> argparse.Namespace:
    """UserError names what it does not know."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--parrot", action="store_true", help="say the prompt again")
    parser.add_argument("--places", type=int, default=4)
    return parser.parse_args(list(args))


class ToyMemory(EngineMemory):
    """A table, and the bytes said so far."""

    max_sequences = 4

    def lines(self, facts: ModelFacts, shape: Shape) -> tuple[MemoryLine, ...]:
        return (
            MemoryLine("weights", facts.weight_bytes),
            kv_line(shape, shape.kv_tokens),
            MemoryLine("engine and its buffers", 100 * MIB),
        )


def other_kind(case: Case) -> str | None:
    """It reads tables of its own kind only."""
    name = case.architecture
    if capabilities(Path(__file__).parent).runs(name):
        return None
    return f"the toy reads toy models only, and this one is {name or 'of no kind'}."


def memory(args: Sequence[str]) -> ToyMemory:
    """Checks the arguments; none of them takes memory."""
    parse_args(args)
    return ToyMemory()


ENGINE = EngineDefinition(
    label="the toy",
    rules=(other_kind,),
    reason=lambda case: f"It is a toy, and plays on {case.where}.",
    preference=lambda facts, device: 5 if facts.model_type == "toy" else 40,
    memory=memory,
    arguments=lambda case, shape, args: (f"--places={shape.sequences}", *args),
    devices=frozenset({Device.CPU}),
    recipe=NoEnvironment(),
    unsupported_fields={"verbosity": "the toy has one tone."},
    last_words=((FailureClass.MODEL_DAMAGED, "the toy is broken"),),
)
