"""What all handlers share: the model that is served, and whether it can answer now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import web

from llmservice_runtime.contract.bounds import POOLED, TASKS
from llmservice_runtime.openai.drain import Drain
from llmservice_runtime.openai.metrics import EngineMetrics
from llmservice_runtime.openai.pictures.looking import Looking
from llmservice_runtime.openai.pictures.marks import new_mark
from llmservice_runtime.openai.templates import ChatTemplate, TemplateError
from llmservice_runtime.protocol.engine import Engine, Served
from llmservice_runtime.protocol.pooling import Pooler
from llmservice_runtime.wire.callers import Callers
from llmservice_runtime.wire.errors import ApiError, bad_request, cut, unavailable

WRITING = tuple(task for task in TASKS if task not in POOLED)
ASKED_AT = {
    "Chat": "/v1/chat/completions",
    "Completion": "/v1/completions",
    "Embedding": "/v1/embeddings",
    "Rerank": "/v1/rerank or /v1/score",
}
DOES = {
    "Chat": "writes text (task Chat)",
    "Completion": "writes text (task Completion)",
    "Embedding": "makes vectors of texts (task Embedding)",
    "Rerank": "scores how texts fit a query (task Rerank)",
}
"""What a model of a task does, for who asks it for something else."""


@dataclass(slots=True)
class Server:
    """One model behind the API. `engine` is None while it loads."""

    model_name: str
    context_tokens: int
    metrics: EngineMetrics
    aliases: tuple[str, ...] = ()
    task: str = "Chat"
    load_seconds: int = 30
    """What a client that comes while the model loads is told to wait."""
    unsupported_fields: Mapping[str, str] = field(default_factory=dict)
    """Fields of requests that the engine can't honour, with what to use instead."""
    callers: Callers | None = None
    """Who may call; None = whoever reaches the port, as in a pod, which has many names."""
    created: int = field(default_factory=lambda: int(time.time()))
    drain: Drain = field(default_factory=Drain)
    engine: Engine | None = None
    pooler: Pooler | None = None
    """Instead of an engine that writes, for the tasks Embedding and Rerank."""
    may_see: bool = True
    """Whether chats may have pictures, as long as there is no engine of ours that says so."""
    mark: str = field(default_factory=new_mark)
    """What stands for pictures in a prompt's text."""
    looking: Looking = field(default_factory=Looking)
    showing: Looking = field(default_factory=Looking)
    """What requests have of tokens of pictures; as many as `engine.eyes` has room for."""
    template: ChatTemplate | None = None
    rendering: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the short prompt that is being rendered: they go in the order in which they came."""
    tool_template: ChatTemplate | None = None
    """The one for requests with tools, where the model has it apart."""
    adapters: dict[str, str] = field(default_factory=dict)
    """Loaded LoRA adapters by name, and where their files are."""
    no_chat: str = ""
    """Why chat is refused, with the remedy; empty = chat works."""

    def serve(self, engine: Engine) -> None:
        """Start answering with a loaded engine; a template that does not compile refuses chat only."""
        tokenizer = engine.tokenizer
        self.take_template(tokenizer.chat_template, tokenizer.tool_template, tokenizer.bos_token, tokenizer.eos_token)
        self.context_tokens = engine.context_tokens
        self.engine = engine
        if engine.eyes is not None:
            self.showing = Looking(engine.eyes.shown_tokens, engine.eyes.shown_tokens // 2)

    def take_template(self, source: str | None, with_tools: str | None, bos_token: str, eos_token: str) -> None:
        """The model's chat template, and the one it has for tools; why there is no chat without one."""
        if self.task == "Completion" and source:
            self.no_chat = "This service completes text (task Completion). Use /v1/completions, or set `task: Chat`."
        elif not source:
            self.no_chat = (
                f"The tokenizer of {self.model_name} has no chat template. Use /v1/completions, or serve a chat"
                " (instruct) variant of the model whose files carry `tokenizer.chat_template`."
            )
        else:
            try:
                self.template = ChatTemplate(source, bos_token, eos_token)
            except TemplateError as error:
                self.no_chat = f"Chat is not possible with this model: {error}. Use /v1/completions."
            if self.template is not None and with_tools:
                with suppress(TemplateError):  # the other one says then whether it takes tools
                    self.tool_template = ChatTemplate(with_tools, bos_token, eos_token)

    def serve_pooled(self, pooler: Pooler) -> None:
        """Start answering with vectors or scores."""
        self.context_tokens = pooler.context_tokens
        self.pooler = pooler
        self.may_see = False

    @property
    def sees(self) -> bool:
        """Whether chats may have pictures."""
        return self.may_see if self.engine is None else self.engine.eyes is not None

    @property
    def serves(self) -> bool:
        """Whether the model is loaded."""
        return self.engine is not None or self.pooler is not None

    def ready(self) -> Served:
        """What is served, whatever it answers; ApiError 503 while the model loads."""
        if (served := self.engine or self.pooler) is None:
            raise unavailable(f"The model {self.model_name} is loading; retry.", "loading", self.load_seconds)
        return served

    def ready_engine(self) -> Engine:
        """What writes text; ApiError 503 while the model loads, 400 when it is another kind of model."""
        self.check_task(*WRITING)
        self.ready()
        assert self.engine is not None
        return self.engine

    def ready_pooler(self, task: str) -> Pooler:
        """What answers with vectors (task Embedding) or scores (Rerank); ApiError as of `ready_engine`."""
        self.check_task(task)
        self.ready()
        assert self.pooler is not None
        return self.pooler

    def check_task(self, *tasks: str) -> None:
        """ApiError 400 that says what this model answers, where that is another task."""
        if self.task not in tasks:
            said = f"{self.model_name} {DOES[self.task]}. Ask {ASKED_AT[self.task]}, or another model."
            raise bad_request(said, "model", "wrong_task")

    def chat_template(self, tools: bool) -> ChatTemplate:
        """The model's chat template, for a request with tools or without; ApiError 400 when chat is not possible."""
        if self.template is None:
            raise bad_request(self.no_chat, "messages", "chat_not_supported")
        return (self.tool_template if tools else None) or self.template

    def check_model(self, name: str | None) -> str:
        """The name to answer with; ApiError 404 that lists what is served. No name selects the only model."""
        if name is None:
            return self.model_name
        if name == self.model_name or name in self.aliases or self.adapter(name):
            return name
        served = ", ".join((self.model_name, *self.aliases, *self.adapters))
        raise ApiError(
            404, f"The model `{cut(name)}` is not served here. Served: {served}.", code="model_not_found", param="model"
        )

    def adapter(self, name: str | None) -> str:
        """The adapter that a request's `model` names, alone or behind its model's name (`model:adapter`); empty = it
        names none."""
        if not self.adapters or name is None:
            return ""
        base, _, adapter = name.rpartition(":")
        return adapter if adapter in self.adapters and base in ("", self.model_name, *self.aliases) else ""


SERVER = web.AppKey("server", Server)
