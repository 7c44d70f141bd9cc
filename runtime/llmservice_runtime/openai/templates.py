"""Chat templates, rendered as transformers renders them, in a worker that ends with what goes beyond its bounds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypedDict, Unpack

from llmservice_runtime.contract.template_text import THINKING as THINKING
from llmservice_runtime.openai import large
from llmservice_runtime.openai.worker import KilledError, LostError, Worker

MAX_TEMPLATE_CHARS = 1 << 20
MAX_SECONDS = 5.0
MARK = "CONTINUE_FINAL_MESSAGE_TAG "
"""Ends with white space, as in transformers: where that is gone, the template trims."""
PATIENCE = 0.2
"""The template's own deadline comes first: it says more."""
MANY_CHARS = 64 << 10
"""From here on a prompt is rendered apart, so that short ones wait for short ones only."""
VALUE_CHARS = 16
"""What any value counts there, beside its text."""

_workers = {False: Worker("llmservice_runtime.openai.rendering"), True: large.WORKER}


def warm_up() -> None:
    """Start the worker that every chat needs while something else goes on: it takes a while to import Jinja."""
    _workers[False].start()


class TemplateError(ValueError):
    """The template can't be compiled, refused the messages (`raise_exception`) or went beyond its bounds."""


class Options(TypedDict, total=False):
    """What a template gets beside messages. With `continue_final_message` the prompt ends with the last one.

    That is its content, or the thinking (`reasoning_content`, `reasoning`) of a message that has only that.
    """

    tools: Sequence[Mapping[str, Any]] | None
    documents: Sequence[Mapping[str, Any]] | None
    kwargs: Mapping[str, Any]
    add_generation_prompt: bool
    continue_final_message: bool


class TemplateText:
    """The text of a chat template: what it says of itself, and what it is rendered with. Compiled elsewhere."""

    def __init__(self, source: str, bos_token: str = "", eos_token: str = "") -> None:
        self.source = source
        self.tokens = {"bos_token": bos_token, "eos_token": eos_token}

    @cached_property
    def keeps_null_content(self) -> bool:
        """Whether the template asks if a message's content is none (else null content is the empty string)."""
        return re.search(r"content['\"]?\]?\s+is\s+(not\s+)?none", self.source) is not None

    @cached_property
    def takes_parts(self) -> bool:
        """Whether the template reads a content part by part, and nothing else: it writes nothing of a text alone."""
        loops = re.search(r"\bin\s+\w+(\[['\"]content['\"]\]|\.content)\s*(\||%|-%)", self.source)
        return loops is not None and re.search(r"content['\"]?\]?\s+is\s+(not\s+)?string", self.source) is None

    def question(self, messages: Sequence[Mapping[str, Any]], options: Options) -> dict[str, Any]:
        """What the worker is asked."""
        if options.get("continue_final_message"):
            messages = [*messages[:-1], marked(messages[-1])]
        variables = dict(self.tokens) | dict(options.get("kwargs", {}))
        variables |= {
            "messages": [dict(message) for message in messages],
            "tools": options.get("tools"),
            "documents": options.get("documents"),
            "add_generation_prompt": options.get("add_generation_prompt", True),
        }
        return {"variables": variables, "seconds": MAX_SECONDS}


class ChatTemplate(TemplateText):
    """One compiled chat template. Raises TemplateError when it does not compile."""

    def __init__(self, source: str, bos_token: str = "", eos_token: str = "") -> None:
        if len(source) > MAX_TEMPLATE_CHARS:
            raise TemplateError(f"the chat template has {len(source)} characters, more than {MAX_TEMPLATE_CHARS}")
        super().__init__(source, bos_token, eos_token)
        self._told = {"source": source}
        self.variables = frozenset(self._ask(self._told, many=False)["variables"])

    @property
    def takes_tools(self) -> bool:
        """Whether the template writes tool definitions into the prompt."""
        return "tools" in self.variables

    def render(self, messages: Sequence[Mapping[str, Any]], **options: Unpack[Options]) -> str:
        """The prompt text. Blocks."""
        lengthy = many([messages, *options.values()])
        return text_of(self._ask(self.question(messages, options), many=lengthy), messages, options)

    def render_apart(self, request: Mapping[str, Any], apart: bytes, mark: str = "") -> str:
        """The prompt text of a request whose large fields never became objects here (`reading`). Blocks."""
        question = {"request": request, "tokens": self.tokens, "mark": mark}
        with _refusing():
            answer, text = large.ask(question, apart, self._told)
            checked(answer)
            return text.decode()

    async def render_idle(self, messages: Sequence[Mapping[str, Any]], **options: Unpack[Options]) -> str:
        """`render` of a short prompt on the event loop; BusyError where it can't be at once."""
        from llmservice_runtime.openai.asking import ask_idle  # with it comes asyncio, which takes longer than a load

        with _refusing():
            question = self.question(messages, options)
            answer = await ask_idle(_workers[False], question, MAX_SECONDS + PATIENCE, self._told)
            return text_of(answer, messages, options)

    def _ask(self, question: Mapping[str, Any], *, many: bool) -> Mapping[str, Any]:
        first = None if question is self._told else self._told
        with _refusing():
            return checked(_workers[many].ask(question, MAX_SECONDS + PATIENCE, first))


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except KilledError as error:
        raise large.unanswered(error) from error
    except LostError as error:
        raise TemplateError(f"the chat template {error}") from error
    except TemplateError:
        raise
    except (RecursionError, ValueError) as error:
        raise TemplateError(f"the chat template can't be given these messages: {error}") from error


def checked(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """A worker's answer; TemplateError for what the template refused."""
    if "error" in answer:
        raise TemplateError(answer["error"])
    return answer


def text_of(answer: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], options: Options) -> str:
    """The prompt in a worker's answer."""
    text = str(checked(answer)["text"])
    return cut_at_mark(text, messages[-1]) if options.get("continue_final_message") else text


def many(values: Iterable[Any]) -> bool:
    """Whether these values (messages, tools, documents ...) are much to render."""
    left = MANY_CHARS
    todo = list(values)
    while todo and left >= 0:
        value = todo.pop()
        left -= VALUE_CHARS + (len(value) if isinstance(value, str) else 0)
        if isinstance(value, Mapping):
            todo += [*value, *value.values()]
        elif isinstance(value, Iterable) and not isinstance(value, str):
            todo += value  # of a model of pydantic: its names and values
    return left < 0


def marked(message: Mapping[str, Any]) -> dict[str, Any]:
    """transformers' continue_final_message: a mark at the end of what is continued, for the template to carry along."""
    fields = [name for name in THINKING if message.get(name)] if not message.get("content") else []
    if isinstance(parts := message.get("content"), list):
        return {**message, "content": [*parts, {"type": "text", "text": MARK}]}
    return {**message, **{name: str(message.get(name) or "") + MARK for name in fields or ["content"]}}


def text_in(content: Any) -> str:
    """Of a content, whole or in parts."""
    return "".join(part["text"] for part in content) if isinstance(content, list) else str(content)


def cut_at_mark(text: str, message: Mapping[str, Any]) -> str:
    """What the template wrote before the mark on this message; one that trims trims here too, as in transformers.

    TemplateError when it wrote only a part of what is continued: white space aside, nothing of that may be lost.
    """
    at = text.rfind(MARK.strip())
    if at < 0:
        raise TemplateError("continue_final_message needs a last message that the chat template writes to its end")
    continued = next((text_in(message[name]) for name in ("content", *THINKING) if message.get(name)), "")
    if "".join(continued.split()) not in "".join(text[:at].split()):
        raise TemplateError(
            "continue_final_message can't be honoured: the chat template leaves out a part of the last message"
            " (often thinking, to its </think>; continue only what follows that)"
        )
    return text[:at] if text.startswith(MARK, at) else text[:at].rstrip()
