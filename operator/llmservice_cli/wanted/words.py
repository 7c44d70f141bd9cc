"""What a person means by a model: a URI, a path, OWNER/NAME of a hub with a quantization, or a name of Ollama's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmservice_api.model_words import PAIR, SITES, in_full, is_path
from llmservice_cli.ollama.links import linked
from llmservice_cli.ollama.store import Found, OllamaModel
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass

FORMS = "OWNER/NAME or OWNER/NAME:Q4_K_M of the Hugging Face hub, a URI (s3://...), or a path that begins with . or /"


@dataclass(frozen=True, slots=True)
class Meant:
    """A model by its URI. `choice` is a quantization, or the name of a GGUF file; empty = none was named. `word` is how
    it was written. `ollama`: it lies in Ollama's store."""

    word: str
    uri: str
    choice: str = ""
    ollama: OllamaModel | None = None


def meant(word: str, store: Found, cache: Path, here: Path | None) -> Meant:
    """What `word` means; `here` is the folder that paths start from (None = only whole paths are paths), `cache` where
    links to Ollama's files are made.

    UserError when it means nothing, or a model of Ollama's that can't be served.
    """
    if word.startswith(SITES) or "://" in word:
        return Meant(word, *in_full(word))
    if is_path(word, relative=here is not None):
        return Meant(word, f"file://{((here or Path('/')) / Path(word).expanduser()).absolute()}")
    if model := store.named(word):
        return Meant(word, f"file://{linked(model, cache)}", ollama=model)
    if PAIR.fullmatch(word):
        return Meant(word, *in_full(word))
    raise _unknown(word, store)


def absolute(uri: str, base: str) -> str:
    """The same URI wherever one stands: paths of a manifest begin at its folder."""
    return f"file://{Path(base, uri.removeprefix('file://')).expanduser()}" if uri.startswith("file://") else uri


def _unknown(word: str, store: Found) -> UserError:
    """Ollama's registry is Ollama's: what is wanted from it is pulled by it."""
    known = ", ".join(model.name.shown for model in store.models[:10]) or "no model"
    more = f" and {len(store.models) - 10} more" if len(store.models) > 10 else ""
    unread = "".join(f" {error.reason}" for error in store.unread)
    return UserError(
        f"{word!r} is no model that Ollama keeps here ({known}{more}), and no service.{unread}",
        f"Write {FORMS}. From Ollama's own registry, `ollama pull {word}` brings it, then this finds it.",
        FailureClass.MODEL_NOT_FOUND,
    )
