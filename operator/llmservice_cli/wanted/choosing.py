"""Which of a repository's GGUF models is meant: the one that was named, else what most people take."""

from __future__ import annotations

from collections.abc import Sequence

from llmservice_cli.wanted.words import Meant
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.formats.inspect import outranked, variants
from llmservice_runtime.formats.listing import GgufVariant, choosing, size_text
from llmservice_runtime.sources.files import ModelFiles

PREFERRED = ("Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q8_0")
"""What is taken where nothing is named, as Ollama does."""
LISTED = 30


def choose(meant: Meant, files: ModelFiles) -> tuple[GgufVariant, str] | None:
    """The GGUF model, and a pattern of `spec.model.include` for it (empty where there is no other); None where the
    weights of the repository are others. UserError with what there is when what was named is not there."""
    entries = files.entries()
    ggufs = any(entry.path.lower().endswith(".gguf") for entry in entries)
    others = outranked(entries, entries)
    if not ggufs or (others and not meant.choice):
        if meant.choice:
            raise _none_there(meant)
        return None
    found = variants(files)
    if not found:
        return None
    chosen = named(meant, found) if meant.choice else _preferred(meant, found)
    return chosen, choosing(chosen, found) if len(found) > 1 or others else ""


def named(meant: Meant, found: Sequence[GgufVariant]) -> GgufVariant:
    """The one that `meant.choice` names: a quantization, or a file. UserError with what there is when it is none."""
    if not found:
        raise _none_there(meant)
    wanted = meant.choice.upper()
    fit = [v for v in found if wanted in (v.quantization.upper(), v.files[0].rsplit("/", 1)[-1].upper())]
    if len(fit) == 1:
        return fit[0]
    if fit:
        names = ", ".join(f"{_repository(meant)}:{v.files[0].rsplit('/', 1)[-1]}" for v in fit)
        raise _error(f"{meant.uri} has {len(fit)} models in {meant.choice}.", f"Name a file: {names}.")
    raise _error(f"{meant.uri} has no {meant.choice}. It has {_listed(found)}.", _example(meant, found))


def _preferred(meant: Meant, found: Sequence[GgufVariant]) -> GgufVariant:
    if len(found) == 1:
        return found[0]
    for quantization in PREFERRED:
        if len(fit := [v for v in found if v.quantization.upper() == quantization]) == 1:
            return fit[0]
    raise _error(f"{meant.uri} has several models: {_listed(found)}.", _example(meant, found))


def _none_there(meant: Meant) -> UserError:
    return _error(f"{meant.uri} has no GGUF models, so no {meant.choice} of one.", f"Write {_repository(meant)} alone.")


def _listed(found: Sequence[GgufVariant]) -> str:
    rows = [f"{v.quantization or v.files[0].rsplit('/', 1)[-1]} ({size_text(v.size)})" for v in found[:LISTED]]
    return ", ".join(rows) + (f" and {len(found) - LISTED} more" if len(found) > LISTED else "")


def _example(meant: Meant, found: Sequence[GgufVariant]) -> str:
    name = found[0].quantization or found[0].files[0].rsplit("/", 1)[-1]
    return f"Name one of these, as in {_repository(meant)}:{name}."


def _repository(meant: Meant) -> str:
    """As it was written, without what was chosen."""
    return meant.word.removesuffix(f":{meant.choice}") if meant.choice else meant.word


def _error(reason: str, remedy: str) -> UserError:
    return UserError(reason, remedy, FailureClass.MODEL_NOT_FOUND)
