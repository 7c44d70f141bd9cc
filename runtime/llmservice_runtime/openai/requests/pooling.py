"""The bodies of /v1/embeddings, /v1/rerank and /v1/score."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from llmservice_runtime.openai.requests.fields import Flag, Id, Strict, Whole

MOST_TEXTS = 2048
"""Of one request, as at OpenAI."""


def _text_of(document: object) -> object:
    """Clients send texts, or objects with nothing but a text."""
    if isinstance(document, dict) and document.keys() == {"text"}:
        return document["text"]
    return document


Document = Annotated[str, BeforeValidator(_text_of)]
Truncate = Annotated[Whole, Field(ge=-1)]
"""Tokens that are kept of a longer text, special ones included; -1 = as many as the context has."""


class PoolingFields(Strict):
    """What all three have."""

    model: str | None = None
    truncate_prompt_tokens: Truncate | None = None
    user: str | None = None
    """Documented no-op."""


Ids = Annotated[list[Id], Field(fail_fast=True)]


def _form(given: object) -> str | None:
    """Which of its forms an input has, by how it begins: of all four, 10,000 wrong items would be as many errors four
    times, and seconds of work."""
    if isinstance(given, str):
        return "text"
    if not isinstance(given, list):
        return None
    first = given[0] if given else ""
    return "texts" if isinstance(first, str) else "lists" if isinstance(first, list) else "tokens"


class EmbeddingRequest(PoolingFields):
    """POST /v1/embeddings. One text or several, each as text or as token ids; a vector for each, in order."""

    input: Annotated[
        Annotated[str, Tag("text")]
        | Annotated[list[Id], Field(min_length=1, fail_fast=True), Tag("tokens")]
        | Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS, fail_fast=True), Tag("texts")]
        | Annotated[list[Ids], Field(min_length=1, max_length=MOST_TEXTS, fail_fast=True), Tag("lists")],
        Discriminator(_form, "form", "A text, token ids, or a list of either is needed"),
    ]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Whole | None = Field(None, ge=1)
    prompt_name: str | None = None
    """Of the model's prompts, the one to put before each text; empty = none."""


class RerankRequest(PoolingFields):
    """POST /v1/rerank. The documents, most relevant first."""

    query: str
    documents: list[Document] = Field(min_length=1, max_length=MOST_TEXTS, fail_fast=True)
    top_n: Whole | None = Field(None, ge=0)
    """0 = all."""
    return_documents: Flag = True


class ScoreRequest(PoolingFields):
    """POST /v1/score. One text with each of several, or several with as many."""

    text_1: str | Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS, fail_fast=True)]
    text_2: str | Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS, fail_fast=True)]
