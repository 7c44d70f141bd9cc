"""What a client wants launched, and what the installation allows of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from llmservice_api.labels import LAUNCHED
from llmservice_api.model_words import asked_for, last_part, named_after, scheme_of
from llmservice_api.sentences import explain, field_path
from llmservice_api.sources import SCHEMES
from llmservice_api.v1alpha1 import API_VERSION, KIND, LLMService
from llmservice_runtime.contract.bounds import ANY
from llmservice_runtime.wire.errors import ApiError, bad_request, cut

Json = dict[str, Any]
FORMS = (
    "Write OWNER/NAME or OWNER/NAME:Q4_K_M of the Hugging Face hub, or a URI: hf://OWNER/NAME, modelscope://OWNER/NAME."
)
DEFAULT = "default"
MOST_LETTERS = 256
"""Of a word for a model."""


@dataclass(frozen=True, slots=True)
class Leave:
    """What may be launched: models from these `sources` (schemes of URIs, `*` = any), in these `namespaces` (none = in
    whichever is named). `here`: on this machine, where Ollama has a store and GPUs have numbers. `more` is how to allow
    another source, with `{}` for it. `cache` is `spec.cache` of what is launched; empty = left out."""

    sources: frozenset[str]
    namespaces: tuple[str, ...] = ()
    here: bool = False
    more: str = ""
    cache: Json = field(default_factory=dict)

    def check(self, word: str, name: str) -> None:
        """ApiError for a model that the field `name` of a request has, and that is not launched here."""
        if not word or not word.isprintable() or word.startswith((".", "~")):
            raise bad_request(f"`{name}` is {cut(word)!r}, which is no model. {FORMS}", name)
        if len(word) > MOST_LETTERS:
            said = f"`{name}` is {cut(word)!r}, which has {len(word)} letters; at most {MOST_LETTERS} are read."
            raise bad_request(f"{said} {FORMS}", name)
        scheme = scheme_of(asked_for(word)[0])
        if scheme and scheme not in SCHEMES:
            raise bad_request(f"`{name}` begins with {cut(scheme)}://, and there is no such source. {FORMS}", name)
        if not (scheme or self.here):
            raise bad_request(f"`{name}` is {cut(word)!r}, and no store of Ollama's is here to know it. {FORMS}", name)
        if scheme and not self.sources & {scheme, ANY}:
            allowed = ", ".join(sorted(self.sources))
            said = f"`{name}` is {cut(word)!r}, and models from {scheme}:// are not launched here, only from {allowed}."
            raise ApiError(403, f"{said} {self.more.format(scheme)}", code="source_not_allowed", param=name)


@dataclass(frozen=True, slots=True)
class Wish:
    """A service that is to be: of the model that `word` means (a URI, a path, OWNER/NAME, a name of Ollama's), in the
    quantization `choice`. `name` empty = made of the model's. `by` is the protocol; `spec` what it has beside the
    model's URI and files. `again`: what there is already is as good."""

    word: str
    by: str
    choice: str = ""
    name: str = ""
    namespace: str = ""
    spec: Json = field(default_factory=dict)
    again: bool = False

    @property
    def uri(self) -> str:
        """The model's, as far as words tell."""
        return asked_for(self.word)[0] or self.word

    @property
    def quantization(self) -> str:
        """Which of its GGUF models; empty = it is not said."""
        return self.choice or asked_for(self.word)[1]

    @property
    def called(self) -> str:
        """The service's name."""
        return self.name or named_after(last_part(self.uri), self.quantization)

    @property
    def more(self) -> Json:
        """Fields of the manifest beside those that any service of the model has."""
        namespace = {"namespace": self.namespace} if self.namespace else {}
        return {"metadata": {**namespace, "labels": {LAUNCHED: self.by}}, "spec": self.spec}

    def manifest(self, name: str = "") -> Json:
        """The service, where nobody looks what files the model has: a quantization is then a pattern of names."""
        chosen = self.quantization
        files: Json = {"include": [f"*{chosen}*.gguf"], "expectedFormat": "GGUF"} if chosen else {}
        model: Json = {"uri": self.uri, **files}
        more = self.more
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name or self.called, "namespace": DEFAULT, **more["metadata"]},
            "spec": {**self.spec, "model": {**model, **self.spec.get("model", {})}},
        }


def checked(wish: Wish, names: Mapping[str, str]) -> Wish:
    """The same, if there can be such a service. ApiError 400 by the field of the request that `names` has for one of
    the service: the longest path that it begins with."""
    try:
        LLMService.model_validate(wish.manifest())
    except ValidationError as error:
        location, reason, remedy = explain(error.errors(include_url=False)[0], LLMService)
        path = field_path(location)
        name = _named(path, names)
        raise bad_request(f"`{name}`: {reason} {remedy}", name) from None
    return wish


def _named(path: str, names: Mapping[str, str]) -> str:
    found: Sequence[str] = sorted((known for known in names if path.startswith(known)), key=len)
    return names[found[-1]] if found else path
