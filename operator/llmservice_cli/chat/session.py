"""What a conversation is made of: turns, the system message, and how answers are made. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from llmservice_runtime.contract.errors import UserError

Message = dict[str, Any]
EFFORTS = ("low", "medium", "high", "max")
"""Of thinking, beside on and off."""


@dataclass(slots=True)
class Session:
    """`options` are as Ollama's people write them, `sampling` what requests have for them. `begin` are turns that a
    conversation begins with. `system` None = nobody said one; `think` None = as the model is made."""

    model: str = ""
    system: str | None = None
    begin: list[Message] = field(default_factory=list)
    turns: list[Message] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    as_json: bool = False
    think: bool | str | None = None
    verbose: bool = False
    inherited: list[str] = field(default_factory=list)
    """Options, and `system`, that the model brought; they go with it."""

    def asked(self, question: str) -> dict[str, Any]:
        """The request for one more turn."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        messages = [*system, *self.begin, *self.turns, {"role": "user", "content": question}]
        body: dict[str, Any] = {"model": self.model, "messages": messages, "stream": True, "temperature": 0.0}
        body |= self.sampling
        if self.verbose:
            body["stream_options"] = {"include_usage": True}
        if self.as_json:
            body["response_format"] = {"type": "json_object"}
        if self.think is not None:
            body["thinking"] = {"type": "enabled" if self.think else "disabled"}
        if isinstance(self.think, str):
            body["reasoning_effort"] = self.think
        return body

    def answered(self, question: str, answer: str) -> None:
        """A turn is over; what was stopped counts as far as it came."""
        self.turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    def clear(self) -> None:
        """Forget the turns; what was set stays."""
        self.turns = []

    def other_model(self, name: str) -> None:
        """Go on with another one, with what was set here and nothing else."""
        self.model, self.turns, self.begin = name, [], []
        if "system" in self.inherited:
            self.system = None
        left = {key: value for key, value in self.options.items() if key not in self.inherited}
        self.options, self.sampling, self.inherited = {}, {}, []
        if left:
            self.take(left)

    def set(self, name: str, values: list[str]) -> None:
        """A parameter by Ollama's name. UserError when no engine here has it, or it is no such value."""
        self.take({name: _value(name, values)})

    def take(self, options: dict[str, Any]) -> None:
        """Several at once, all or none."""
        from llmservice_gateway.dialects.ollama_options import read
        from llmservice_gateway.dialects.reading import Fields
        from llmservice_runtime.wire.errors import ApiError

        wanted = self.options | options
        if "num_ctx" in options:
            raise UserError(
                "num_ctx is no matter of one conversation: the context is planned when the model is served.",
                "llmservice run MODEL --context TOKENS, or spec.contextTokens.",
            )
        try:
            sampling = read(Fields(wanted)).sampling
        except ApiError as error:
            raise UserError(error.message.replace("options.", ""), "/? set lists the parameters.") from None
        self.options, self.sampling = wanted, sampling


def _value(name: str, values: list[str]) -> Any:
    """A number where it is one; several words only `stop` has."""
    if name == "stop":
        return values
    text = " ".join(values)
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, list | dict) or value is None else value
