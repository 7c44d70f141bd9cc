"""Words for models, and names of services that are made of them. Pure."""

from __future__ import annotations

import hashlib
import re

from llmservice_api.patterns import NAME_LIMIT

HUBS = ("hf", "modelscope")
SITES = ("https://huggingface.co/", "huggingface.co/", "https://hf.co/", "hf.co/")
"""How people write the Hugging Face hub; `hf.co/` is Ollama's way."""
PAIR = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*)/?(?::(?P<choice>[^:/\s]+))?")
"""OWNER/NAME, and what is chosen of it."""
_OTHER = re.compile(r"[^a-z0-9]+")
_ENDINGS = ("-gguf",)


def in_full(word: str) -> tuple[str, str]:
    """URI and choice of a model that no store of Ollama's is asked about: OWNER/NAME[:CHOICE], also of a site or behind
    a hub's scheme; any other word is a URI itself, whose source says what is wrong with it."""
    site = next((site for site in SITES if word.startswith(site)), "")
    scheme, separator, rest = word.removeprefix(site).rpartition("://")
    found = PAIR.fullmatch(rest)
    if found is None or (separator and (site or scheme.lower() not in HUBS)):
        return word, ""
    return f"{scheme.lower() or 'hf'}://{found['name']}", found["choice"] or ""


def is_path(word: str, *, relative: bool = True) -> bool:
    """Whether it is a file or a folder of this machine. Not `relative`: whoever says it has no folder to begin at, and
    OWNER/NAME.gguf is the hub's."""
    if word.startswith(SITES) or "://" in word:
        return False
    begins = relative and (word.startswith((".", "~")) or (word.lower().endswith(".gguf") and ":" not in word))
    return word.startswith("/") or begins


def asked_for(word: str) -> tuple[str, str]:
    """URI and choice of a model that a request names; no URI where only a store of Ollama's may know it."""
    if is_path(word, relative=False):
        return f"file://{word}", ""
    uri, choice = in_full(word)
    return (uri, choice) if "://" in uri else ("", "")


def scheme_of(uri: str) -> str:
    """Where a URI leads, in small letters."""
    return uri.partition("://")[0].lower() if "://" in uri else ""


def last_part(uri: str) -> str:
    """What a model is called in its URI."""
    return uri.partition("?")[0].rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")


def named_after(text: str, quantization: str = "") -> str:
    """`Qwen2.5-7B-Instruct-GGUF` in Q4_K_M -> `qwen2-5-7b-instruct-q4-k-m`: a label that begins with a letter, the same
    for the same model."""
    label = _label(text)
    for ending in _ENDINGS:
        label = label.removesuffix(ending)
    tail = _label(quantization)
    if tail and not label.endswith(tail):
        label = f"{label[: NAME_LIMIT - len(tail) - 1].rstrip('-')}-{tail}"
    if not label[:1].isalpha():
        label = f"m-{label}".rstrip("-")
    return label[:NAME_LIMIT].rstrip("-")


def told_apart(name: str, uri: str, pattern: str) -> str:
    """The same for another model whose name is taken."""
    digest = hashlib.sha256(f"{uri}|{pattern}".encode(errors="surrogateescape")).hexdigest()[:4]
    return f"{name[: NAME_LIMIT - len(digest) - 1].rstrip('-')}-{digest}"


def _label(text: str) -> str:
    return _OTHER.sub("-", text.lower()).strip("-")
