"""`llmservice engines`: everything a model can run on, and why not on the rest: engines x versions of the model."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from llmservice_cli.commands.plan import add_machine_arguments, describe, machine_of
from llmservice_cli.models import open_source
from llmservice_cli.places import Places
from llmservice_planning.words import memory
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.plain import plain
from llmservice_runtime.engines.base.case import takes_pictures
from llmservice_runtime.engines.base.choice import Choice
from llmservice_runtime.engines.registry import config_classes, definition, label
from llmservice_runtime.estimate.fit import Placement, Target, place
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.facts import ModelFacts, ModelFormat, Quantization
from llmservice_runtime.formats.inspect import inspect_model, variants
from llmservice_runtime.formats.listing import literal
from llmservice_runtime.machine.machine import Machine
from llmservice_runtime.selection.choose import choose
from llmservice_runtime.sources.files import Source

MOST = 500
"""Versions of a model that are listed."""
CHECKPOINTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One version of the model on one engine; sizes in bytes. `runs` = it could be served here now."""

    engine: str
    format: str
    quantization: str
    size: int
    files: str
    runs: bool
    reason: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("model", help="URI (hf://owner/name, s3://...) or a folder or file on this machine")
    parser.add_argument("--revision", help="branch, tag or commit")
    parser.add_argument("--secret", metavar="NAME", help="folder below LLMSERVICE_SECRETS_DIR with the source's keys")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    add_machine_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """0 when something runs here, 1 when nothing does."""
    machine = machine_of(args)
    uri = args.model if "://" in args.model else f"file://{args.model}"
    files = open_source(uri, args.revision, args.secret, Path.cwd(), Places.from_environment())
    rows = [row for facts in versions(files) for row in judged(facts, machine)]
    if args.output == "json":
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    else:
        print(f"{plain(args.model)} on {describe(machine, args.gpu is not None)}:\n")
        print(table(rows))
    return 0 if any(row.runs for row in rows) else 1


def versions(files: Source) -> Iterator[ModelFacts]:
    """The facts of every version in a repository: its checkpoint, then its GGUF files, smallest first.

    Of several versions of a model in GGUF the smallest is read; the others differ in name and size. A version that
    can't be read is said on standard error; when none can, its UnsupportedModel is raised.
    """
    found, first_error = 0, None
    if any(entry.path.lower().endswith(tuple(p[1:] for p in CHECKPOINTS)) for entry in files.entries()):
        try:
            yield inspect_model(files, CHECKPOINTS, classes=config_classes())
            found += 1
        except UnsupportedModel as error:
            first_error = error
    try:
        for facts in _ggufs(files):
            yield facts
            found += 1
    except UnsupportedModel as error:
        first_error = first_error or error
    if first_error is None and not found:
        inspect_model(files, classes=config_classes())
    if first_error is not None:
        if not found:
            raise first_error
        print(f"left out: {first_error.reason} {first_error.remedy}", file=sys.stderr)


def _ggufs(files: Source) -> Iterator[ModelFacts]:
    read: dict[str, ModelFacts] = {}
    found = variants(files)
    if len(found) > MOST:
        print(f"left out: {len(found) - MOST} of {len(found)} GGUF models, the largest.", file=sys.stderr)
    for variant in found[:MOST]:
        facts = read.get(variant.model)
        if facts is None:
            facts = inspect_model(files, [literal(path) for path in variant.files], ModelFormat.GGUF)
            read[variant.model] = facts
            yield facts
            continue
        bits = 8 * variant.size / max(1, facts.parameters)
        name = variant.quantization.upper() or Path(variant.files[0]).stem
        yield dataclasses.replace(
            facts,
            quantization=Quantization("gguf", name, round(bits, 2)),
            weight_bytes=variant.size,
            layer_weight_bytes=(),
            files=variant.files,
            file_bytes=variant.size,
        )


def judged(facts: ModelFacts, machine: Machine) -> Iterator[Row]:
    """One row per engine."""
    for engine in EngineType:
        runs, reason = _verdict(facts, machine, engine)
        yield Row(
            engine=label(engine),
            format=facts.format.value,
            quantization=facts.quantization.name if facts.quantization else facts.dtype,
            size=facts.file_bytes,
            files=facts.files[0] if facts.format is ModelFormat.GGUF else "",
            runs=runs,
            reason=reason,
        )


def _verdict(facts: ModelFacts, machine: Machine, engine: EngineType) -> tuple[bool, str]:
    choice = choose(facts, machine, engine)
    if not isinstance(choice, Choice):
        return False, choice.reason.removeprefix(f"engine.type is {engine.value}, but ")
    where = choice.gpu.product if choice.gpu else "CPU"
    placed = place(Target(facts, definition(engine).memory(()), choice.device, machine, choice.gpu))
    if not isinstance(placed, Placement):
        return False, f"does not fit the {where}: {memory(placed.missing)} short."
    count = f"{placed.shape.gpus} × " if placed.shape.gpus > 1 else ""
    text = f"on {count}{where}, context {placed.shape.context_tokens:,}"
    if takes_pictures(choice.notes):
        text += ", takes pictures"
    if choice.missing:
        return False, f"could run {text}, but is not installed. {choice.missing}"
    return True, text


def table(rows: Sequence[Row]) -> str:
    """Aligned columns; what runs first."""
    head = ("ENGINE", "FORMAT", "QUANTIZATION", "SIZE", "RUNS", "WHERE, OR WHY NOT")
    ordered = sorted(rows, key=lambda row: not row.runs)
    cells = [head] + [
        (r.engine, r.format, plain(r.quantization), memory(r.size), "yes" if r.runs else "no", plain(r.reason))
        for r in ordered
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head) - 1)]
    return "\n".join(
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]]) for row in cells
    )
