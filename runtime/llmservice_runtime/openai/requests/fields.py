"""Fields that chat and text completions share, and their ranges."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

INT64 = 2**63
MAX_CHOICES = 128
MAX_TOP_LOGPROBS = 20
StopString = Annotated[str, Field(min_length=1, max_length=1024)]


class Strict(BaseModel):
    """Unknown fields are refused; `null` counts as omitted (see `parse`)."""

    model_config = ConfigDict(extra="forbid")


class StreamOptions(Strict):
    """`stream_options`."""

    include_usage: bool = False
    """A last chunk with `choices: []` and the usage."""
    continuous_usage_stats: bool = False
    """The usage so far in every chunk."""


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
    json_object: bool | None = None


class SharedFields(Strict):
    """Sampling and bookkeeping fields of both generation endpoints. Defaults are OpenAI's."""

    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    temperature: float = Field(1.0, ge=0, le=2, allow_inf_nan=False)
    top_p: float = Field(1.0, ge=0, le=1)
    top_k: int = Field(0, ge=-1)
    """0 and -1 = off."""
    min_p: float = Field(0.0, ge=0, le=1)
    seed: int | None = Field(None, ge=-INT64, lt=INT64)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    repetition_penalty: float = Field(1.0, gt=0, le=10)
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] | None = Field(None, max_length=4096)
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    stop_token_ids: list[Annotated[int, Field(ge=0)]] | None = Field(None, max_length=256)
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: int = Field(0, ge=0)
    skip_special_tokens: bool = True
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = Field(None, max_length=65536)
    guided_choice: list[str] | None = Field(None, min_length=1, max_length=4096)
    guided_grammar: str | None = Field(None, max_length=1 << 20)
    user: str | None = None
    """Documented no-op, like the rest of this block: they carry no instruction that a model could follow."""
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
