"""The markup of a model's thinking, learned from its chat template: an answer with thinking is rendered, and one
without, and what stands around them is the markup. Many families have their own: `<think>`, `<seed:think>`, channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from llmservice_runtime.openai.reasoning import ReasoningReader
from llmservice_runtime.openai.reasoning_formats import ReasoningFormat, known_format, with_tokens
from llmservice_runtime.openai.templates import THINKING, ChatTemplate, TemplateError
from llmservice_runtime.openai.tool_formats import TAG, common
from llmservice_runtime.protocol.engine import Tokenizer

Render = Callable[[Sequence[Mapping[str, Any]], bool], str]
"""(messages, add_generation_prompt) -> the prompt. TemplateError when the template refuses them."""

USER = {"role": "user", "content": "Begin."}
THOUGHT, ANSWER = "QuietThought", "PlainAnswer"

_known: WeakKeyDictionary[ChatTemplate, ReasoningFormat | None] = WeakKeyDictionary()


def reasoning_format(template: ChatTemplate, tokenizer: Tokenizer) -> ReasoningFormat | None:
    """How the model marks its thinking; None when its template knows of none. Blocks, the first time."""
    if template not in _known:

        def render(messages: Sequence[Mapping[str, Any]], turn: bool) -> str:
            return template.render(messages, add_generation_prompt=turn)

        fmt = learn(render) if any(name in template.source for name in THINKING) else None
        fmt = fmt or known_format(template.source)
        _known[template] = with_tokens(fmt, tokenizer) if fmt else None
    return _known[template]


def may_think(source: str) -> bool:
    """Whether a template knows of thinking."""
    return any(name in source for name in THINKING) or known_format(source) is not None


def is_known(template: ChatTemplate) -> bool:
    """Whether `reasoning_format` has its answer for this template."""
    return template in _known


def learn(render: Render) -> ReasoningFormat | None:
    """The format that the template writes; None when it writes none, or none that can be read back."""
    prompt = _rendered(render, [USER], turn=True)
    plain = _rendered(render, [USER, {"role": "assistant", "content": ANSWER}])
    # Some templates take one of the names for something else, as a list of parts.
    for names in (THINKING, THINKING[:1]):
        fields = dict.fromkeys(names, THOUGHT)
        text = _rendered(render, [USER, {"role": "assistant", "content": ANSWER, **fields}])
        before, _, after = text.rpartition(ANSWER)[0].rpartition(THOUGHT)
        if before and prompt:
            fmt = _derived(before, after, plain.rpartition(ANSWER)[0], prompt)
            return fmt if fmt and _proven(fmt, text, prompt) else None
    return None


def _rendered(render: Render, messages: Sequence[Mapping[str, Any]], turn: bool = False) -> str:
    """The prompt; empty when the template refuses the messages."""
    try:
        return render(messages, turn)
    except TemplateError:
        return ""


def _derived(before: str, after: str, plain: str, prompt: str) -> ReasoningFormat | None:
    """The markup, from what stands before and after a thought, and before an answer without one."""
    open_, close = before[common(before, prompt) :].strip(), after.strip()
    if not open_:  # the prompt has it
        tag = next(reversed(TAG.findall(before)), "")
        if not tag or not all(text.rstrip().endswith(tag) for text in (before, prompt)):
            return None
        if plain.rstrip().endswith(tag):  # it begins any answer
            return None
        open_ = tag
    if TAG.search(open_) is None or close[:1] not in ("<", "["):
        return None
    fmt = ReasoningFormat(open_, close)
    instead = plain[common(plain, prompt) :].strip()
    if TAG.search(instead) is None or fmt.first in instead or open_ in instead:
        return fmt
    return ReasoningFormat(open_, close.removesuffix(instead).rstrip() or close, instead)


def _proven(fmt: ReasoningFormat, text: str, prompt: str) -> bool:
    """What the template wrote is read back."""
    reader = ReasoningReader(fmt, fmt.opened_by(prompt))
    thought, content = reader.feed(text[common(text, prompt) :])
    return thought == THOUGHT and content.startswith(ANSWER)
