"""Reading the headers of one model through ModelFiles, and nothing else: the I/O of format detection."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from llmservice_runtime.formats.candidates import gguf_candidates, read_gguf
from llmservice_runtime.formats.checkpoint import checkpoint
from llmservice_runtime.formats.classes import Classes
from llmservice_runtime.formats.detect import checkpoint_facts
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.facts import ModelFacts, ModelFormat, Vision
from llmservice_runtime.formats.gguf_facts import gguf_facts
from llmservice_runtime.formats.listing import GgufVariant, ambiguous, gguf_variants, matches, missing_shards
from llmservice_runtime.formats.parallel import in_parallel
from llmservice_runtime.formats.projectors import projector
from llmservice_runtime.formats.refusals import is_weights
from llmservice_runtime.sources.files import FileEntry, ModelFiles

CHECKPOINTS = (".safetensors", ".bin", ".pt", ".pth")


def inspect_model(
    files: ModelFiles,
    include: Sequence[str] = (),
    expected: ModelFormat | None = None,
    classes: Classes | None = None,
    gguf: bool | None = None,
) -> ModelFacts:
    """Facts of the model in `files`, from a few hundred kB of headers.

    `classes` say what config.json means where it says nothing (`engines.registry.config_classes`); without them it
    means nothing there.

    `include` are patterns (case does not matter) that choose among weights; `expected` asserts the format, and decides
    in a repository that holds GGUF and other weights. Else `gguf` does: whether an engine is asked for that reads GGUF
    alone, or anything but that (`engines.registry.reads_gguf`). Else safetensors win: there is one of them. Raises
    UnsupportedModel with a reason and a remedy; SourceError passes through.
    """
    entries = list(files.entries())
    chosen = [entry for entry in entries if matches(entry.path, include)]
    if not chosen:
        listed = ", ".join(entry.path for entry in entries[:10]) or "no files at all"
        raise UnsupportedModel(
            f"spec.model.include {list(include)} matches none of the {len(entries)} files ({listed}).",
            "Correct the patterns, or leave include out.",
        )
    ggufs = gguf_variants(chosen)
    if ggufs and not outranked(chosen, entries, expected, gguf):
        facts = _gguf(files, entries, chosen, include)
    else:
        notes = []
        if ggufs:
            notes.append(
                f"The repository also holds {len(ggufs)} GGUF model{'s' * (len(ggufs) > 1)}; the other weights are "
                "taken unless include names a GGUF, or engine.type an engine that reads GGUF."
            )
        facts = checkpoint_facts(checkpoint(files, entries, chosen, notes, classes))
    if expected is not None and facts.format is not expected:
        raise UnsupportedModel(
            f"expectedFormat is {expected}, but the weights are {facts.format}.",
            "Correct spec.model.expectedFormat, or choose other files with spec.model.include.",
        )
    return facts


def stand_alone(facts: ModelFacts, include: Sequence[str]) -> Sequence[str]:
    """Patterns whose choice no other weights may stand beside: of models that engines load whole folders of."""
    return () if facts.format is ModelFormat.GGUF else include


def variants(files: ModelFiles) -> list[GgufVariant]:
    """Every GGUF model of a repository, smallest first: what `include` can choose among. Some headers are read."""
    return list(gguf_candidates(files, files.entries()).models)


def outranked(
    chosen: Sequence[FileEntry],
    entries: Sequence[FileEntry],
    expected: ModelFormat | None = None,
    gguf: bool | None = None,
) -> bool:
    """Whether weights of another format than GGUF are taken: a configured checkpoint, not an adapter alone. Pickles are
    only for engines that read no GGUF."""
    if expected is ModelFormat.GGUF or (gguf and expected is None):
        return False
    if expected is not None:  # where there is nothing else, GGUF files are read so that the contradiction is told
        return any(entry.path.lower().endswith(CHECKPOINTS) for entry in chosen)
    paths = [entry.path for entry in entries]
    top = [e.path for e in chosen if "/" not in e.path and not e.path.startswith("adapter_model")]
    weights = any(path.endswith(".safetensors") or (gguf is False and is_weights(path, paths)) for path in top)
    return weights and not {"config.json", "params.json"}.isdisjoint(paths)


def _gguf(
    files: ModelFiles, entries: Sequence[FileEntry], chosen: Sequence[FileEntry], include: Sequence[str]
) -> ModelFacts:
    """The one GGUF model among `chosen`, with the projector beside it."""
    found = gguf_candidates(files, chosen)
    if len(found.models) > 1:
        raise ambiguous(found.models)
    if not found.models:
        raise next(iter(found.others.values()))
    (variant,) = found.models
    if error := missing_shards(variant):
        raise error
    sizes = {entry.path: entry.size for entry in entries}
    headers = in_parallel(lambda path: read_gguf(files, path, sizes[path]), variant.files)
    facts = gguf_facts(headers, variant)
    vision: Vision | None = None
    said: list[str] = []
    if not facts.pools:
        vision, said = projector(files, entries, include, found.others, facts.hidden_size)
    silent = [path for path in found.others if not any(note.startswith(f"{path} ") for note in said)]
    notes = [f"{path} lies beside the model and is not loaded." for path in silent if not vision or path != vision.file]
    facts = dataclasses.replace(facts, notes=(*notes, *said, *facts.notes))
    if vision is None:
        return facts
    return dataclasses.replace(
        facts,
        vision=vision,
        files=(*facts.files, vision.file),
        file_bytes=facts.file_bytes + sizes[vision.file],
    )
