"""Fields that chat and text completions share, and their ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, StrictBool

from llmservice_runtime.openai.pictures.given import Given

INT64 = 2**63
MAX_CHOICES = 128
MAX_TOP_LOGPROBS = 20


def _a_number(value: object) -> object:
    """Booleans and texts are no numbers, whatever could be read into them."""
    if isinstance(value, bool | str):
        raise ValueError("a JSON number is needed")
    return value


Whole = Annotated[int, BeforeValidator(_a_number)]
"""A whole number; 5.0 is one."""
Number = Annotated[float, BeforeValidator(_a_number)]
Flag = StrictBool
"""true or false, nothing that could be read so."""
Id = Annotated[int, Field(ge=0, strict=True)]
"""A token id."""
StopString = Annotated[str, Field(min_length=1, max_length=1024)]


class Strict(BaseModel):
    """Unknown fields are refused; `null` counts as omitted (see `parse`)."""

    model_config = ConfigDict(extra="forbid")

    _apart: bytes = PrivateAttr(b"")
    _pictures: Sequence[Given] = PrivateAttr(())

    @property
    def apart(self) -> bytes:
        """JSON of the large fields of a large request, which never become objects here; empty = there are none."""
        return self._apart

    def put_apart(self, data: bytes) -> None:
        """Keep the large fields beside the small ones."""
        self._apart = data

    @property
    def pictures(self) -> Sequence[Given]:
        """Those of its messages, whose places are numbered there."""
        return self._pictures

    def put_pictures(self, pictures: Sequence[Given]) -> None:
        """Keep the pictures beside the messages."""
        self._pictures = pictures

    def small(self) -> dict[str, Any]:
        """The fields that were sent, as JSON has them, without those apart."""
        return self.model_dump(exclude_unset=True, by_alias=True)


class StreamOptions(Strict):
    """`stream_options`."""

    include_usage: Flag = False
    """A last chunk with `choices: []` and the usage."""
    continuous_usage_stats: Flag = False
    """The usage so far in every chunk."""
    include_obfuscation: Literal[False] = False
    """OpenAI's padding of chunks; there is none here."""


class ResponseFormat(Strict):
    """`response_format`: what the answer is held to."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None
    """`{name, schema, strict}`, or the bare schema itself."""


class StructuredOutputs(Strict):
    """vLLM's `structured_outputs`: exactly one of the constraints."""

    json_: dict[str, Any] | str | None = Field(None, alias="json")
    regex: str | None = Field(None, max_length=65536)
    choice: list[str] | None = Field(None, min_length=1, max_length=4096)
    grammar: str | None = Field(None, max_length=1 << 20)
    json_object: Flag | None = None


class SharedFields(Strict):
    """Sampling and bookkeeping fields of both generation endpoints. Defaults are OpenAI's."""

    model: str | None = None
    stream: Flag = False
    stream_options: StreamOptions | None = None
    n: Whole = Field(1, ge=1, le=MAX_CHOICES)
    temperature: Number = Field(1.0, ge=0, le=2, allow_inf_nan=False)
    top_p: Number = Field(1.0, ge=0, le=1)
    top_k: Whole = Field(0, ge=-1)
    """0 and -1 = off."""
    min_p: Number = Field(0.0, ge=0, le=1)
    seed: Whole | None = Field(None, ge=-INT64, lt=INT64)
    presence_penalty: Number = Field(0.0, ge=-2, le=2)
    frequency_penalty: Number = Field(0.0, ge=-2, le=2)
    repetition_penalty: Number = Field(1.0, gt=0, le=10)
    logit_bias: dict[int, Annotated[Number, Field(ge=-100, le=100)]] | None = Field(None, max_length=4096)
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    stop_token_ids: list[Id] | None = Field(None, max_length=256)
    include_stop_str_in_output: Flag = False
    ignore_eos: Flag = False
    min_tokens: Whole = Field(0, ge=0)
    skip_special_tokens: Flag = True
    return_token_ids: Flag = False
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = Field(None, max_length=65536)
    guided_choice: list[str] | None = Field(None, min_length=1, max_length=4096)
    guided_grammar: str | None = Field(None, max_length=1 << 20)
    user: str | None = None
    """Documented no-op, like the rest of this block: they carry no instruction that a model could follow."""
    metadata: dict[str, Any] | None = None
    store: Flag | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
