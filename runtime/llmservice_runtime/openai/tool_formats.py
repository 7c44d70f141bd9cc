"""How models write tool calls, recognised by their chat template."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass

from llmservice_runtime.openai.templates import ChatTemplate
from llmservice_runtime.protocol.engine import Tokenizer
from llmservice_runtime.wire.errors import unsupported


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """One way to write calls: `begin` object `end`, each object `{"name": ..., <key>: {...}}`."""

    name: str
    begin: str
    end: str
    key: str
    """`arguments` or `parameters`."""
    separator: str
    """Between calls of one answer."""
    in_list: bool = False
    """All calls stand in one JSON list after one `begin`."""
    bare: bool = False
    """A call may stand without `begin` when the answer starts with it."""
    begin_token: int | None = None
    """Id of `begin` when it is a special token: generated as that token, shown only when special tokens are kept."""

    def new_id(self) -> str:
        """Nine letters and digits: what Mistral's templates insist on and every client accepts."""
        return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))


HERMES = ToolFormat("hermes", "<tool_call>", "</tool_call>", "arguments", "\n")
LLAMA3 = ToolFormat("llama3_json", "<|python_tag|>", "", "parameters", "; ", bare=True)
MISTRAL = ToolFormat("mistral", "[TOOL_CALLS]", "", "arguments", ", ", in_list=True)


def tool_format(template: ChatTemplate, tokenizer: Tokenizer) -> ToolFormat:
    """The format that this template teaches; ApiError 400 naming `tools` and the reason when there is none."""
    if not template.takes_tools:
        raise unsupported(
            "tools", "this model's chat template does not take tools; serve a model trained for tool calls."
        )
    source = template.source
    found: ToolFormat | None = None
    if HERMES.begin in source and "<function=" not in source:
        found = HERMES
    elif MISTRAL.begin in source and "[ARGS]" not in source:
        found = MISTRAL
    elif '"parameters"' in source and ("python_tag" in source or "<|eot_id|>" in source):
        found = LLAMA3
    if found is None:
        raise unsupported(
            "tools",
            "this model's chat template writes tool calls in a form that this server can't read; readable are"
            " Hermes/Qwen (<tool_call>), Llama 3 JSON and Mistral ([TOOL_CALLS]).",
        )
    return _with_token(found, tokenizer)


def _with_token(found: ToolFormat, tokenizer: Tokenizer) -> ToolFormat:
    tokens = tokenizer.encode(found.begin, add_special=False, parse_special=True)
    if len(tokens) != 1 or tokenizer.decode(tokens, skip_special=True):
        return found
    return ToolFormat(
        found.name, found.begin, found.end, found.key, found.separator, found.in_list, found.bare, tokens[0]
    )
