"""From a chat request to a prompt, sampling parameters and a way to read the answer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace

from llmservice_runtime.openai.asking import BusyError
from llmservice_runtime.openai.events import AnswerReader
from llmservice_runtime.openai.lark import held_after, lead
from llmservice_runtime.openai.messages import normalise
from llmservice_runtime.openai.params import answer_length, checked, constraint, sampling
from llmservice_runtime.openai.pictures.prompt import laid_out
from llmservice_runtime.openai.prompt_options import dumped, prompt_options
from llmservice_runtime.openai.reasoning import ReasoningReader
from llmservice_runtime.openai.reasoning_formats import THINK, ReasoningFormat
from llmservice_runtime.openai.reasoning_probe import is_known, reasoning_format
from llmservice_runtime.openai.requests.chat import AllowedToolChoice, ChatRequest, Message, NamedToolChoice, Tool
from llmservice_runtime.openai.state import Server
from llmservice_runtime.openai.templates import THINKING, ChatTemplate, TemplateError, many
from llmservice_runtime.openai.tool_formats import ToolFormat
from llmservice_runtime.openai.tool_grammar import Calls, tool_grammar
from llmservice_runtime.openai.tool_parser import ToolParser
from llmservice_runtime.openai.tool_probe import is_learned, tool_format
from llmservice_runtime.protocol.engine import Engine, GenerationRequest, Grammar, Tokenizer
from llmservice_runtime.wire.errors import bad_request, unsupported

_threads = {lengthy: ThreadPoolExecutor(1, "render") for lengthy in (False, True)}


@dataclass(frozen=True, slots=True)
class ChatPlan:
    """What will be generated, and how its text is read."""

    generation: GenerationRequest
    reasoning: ReasoningFormat | None
    """How thinking is told apart from content; None = it is not."""
    thinking: bool
    """Whether the prompt itself opened the thinking block."""
    hide_reasoning: bool
    tools: ToolFormat | None
    functions: Sequence[Tool] = ()
    """The tools that calls may name."""

    def reader(self) -> AnswerReader | None:
        """A reader for one answer; None when its text is content as it is."""
        if self.reasoning is None and self.tools is None:
            return None
        reasoning = ReasoningReader(self.reasoning, self.thinking) if self.reasoning else None
        tools = ToolParser(self.tools, self.functions) if self.tools else None
        return AnswerReader(reasoning, tools, self.hide_reasoning)


@asynccontextmanager
async def plan_chat(server: Server, request: ChatRequest, *, batch: bool = False) -> AsyncIterator[ChatPlan]:
    """Everything that can be refused is refused here, before queueing. Around the answer: its pictures' vectors take
    room until it ends. `batch`: they leave room for those of live requests."""
    engine = server.ready_engine()
    async with AsyncExitStack() as shown:
        async with server.looking.at(len(request.pictures), engine.max_answers, batch=batch):
            plan = await _planned(server, engine, request, shown, batch)
        yield plan


async def _planned(
    server: Server, engine: Engine, request: ChatRequest, shown: AsyncExitStack, batch: bool
) -> ChatPlan:
    tells_ids(request)
    tools, calls = chosen_tools(request)
    template = server.chat_template(bool(tools))
    fmt = await learned(template, engine.tokenizer) if tools else None
    prompt = await rendered(server, request.messages, request, tools)
    laid = await laid_out(
        engine, prompt, server.mark, request.pictures, request.add_special_tokens, server.context_tokens
    )
    max_tokens = answer_length(len(laid.tokens), wanted_tokens(request), server.context_tokens, "messages")
    if request.top_logprobs and not request.logprobs:
        raise bad_request("`top_logprobs` needs `logprobs: true`.", "top_logprobs")
    marks, thinking = await thinks_by(template, engine.tokenizer, request, prompt)
    grammar = held_to(request, tools, fmt, calls, marks, thinking)
    schemas = [
        (f"tools.{number}.function.parameters", tool.function.parameters)
        for number, tool in enumerate(request.tools or [])
        if fmt is not None and tool.function.parameters is not None
    ]
    params = sampling(
        request,
        max_tokens=max_tokens,
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        grammar=None if grammar is None else await checked(engine, grammar[1], grammar[0], schemas),
        vocab_size=engine.vocab_size,
    )
    if fmt is not None:
        # Special tokens in the markup of a call are what its reader looks for; a call that a stop string cuts is none.
        params = replace(
            params, stop_shield=fmt.begin, skip_special_tokens=params.skip_special_tokens and not fmt.special
        )
    if marks is not None and marks.special:
        params = replace(params, skip_special_tokens=False)
    adapter = server.adapter(request.model)
    seen = sum(len(glimpse.tokens) for _, _, glimpse in laid.shown)
    await shown.enter_async_context(server.showing.at(seen, engine.max_answers, batch=batch))
    pictures = await laid.spans(engine)
    generation = GenerationRequest(
        f"chatcmpl-{uuid.uuid4().hex}", laid.tokens, params, request.n, adapter=adapter, pictures=pictures
    )
    return ChatPlan(
        generation,
        reasoning=marks if request.reasoning_format not in ("none", "raw") else None,
        thinking=thinking,
        hide_reasoning=hides_thinking(request),
        tools=fmt,
        functions=tools,
    )


def tells_ids(request: ChatRequest) -> None:
    """ApiError 400 where the ids of tokens can't be told, or would tell what is to be left out."""
    if not request.return_token_ids:
        return
    if hides_thinking(request):
        raise unsupported("return_token_ids", "thinking is to be left out, and its tokens would tell it.")
    if request.pictures:
        raise unsupported("return_token_ids", "a picture has no tokens that could be told; leave either out.")


def hides_thinking(request: ChatRequest) -> bool:
    """Whether it is left out of the answer."""
    return request.reasoning_format == "hidden" or not request.include_reasoning


async def learned(template: ChatTemplate, tokenizer: Tokenizer) -> ToolFormat:
    """How the model writes calls; the first time it is learned, off the event loop."""
    if is_learned(template):
        return tool_format(template, tokenizer)
    return await asyncio.get_running_loop().run_in_executor(_threads[False], tool_format, template, tokenizer)


async def thinks_by(
    template: ChatTemplate, tokenizer: Tokenizer, request: ChatRequest, prompt: str
) -> tuple[ReasoningFormat | None, bool]:
    """How the model marks its thinking, and whether the prompt has opened it."""
    if is_known(template):
        marks = reasoning_format(template, tokenizer)
    else:
        run = asyncio.get_running_loop().run_in_executor
        marks = await run(_threads[False], reasoning_format, template, tokenizer)
    opened = (marks or THINK).opened_by(prompt)
    if opened or (request.continue_final_message and thinks_on(request.messages[-1])):
        return marks or THINK, True
    return marks, False


async def rendered(server: Server, messages: Sequence[Message], request: ChatRequest, tools: Sequence[Tool]) -> str:
    """The prompt text; ApiError 400 when the template refuses the messages. A short one waits for short ones only."""
    template = server.chat_template(bool(tools))
    mark = server.mark if server.sees else ""
    lengthy = bool(request.apart) or many([messages, tools, request.documents, request.chat_template_kwargs])

    def blocking() -> str:
        with _refusing():
            if request.apart:
                return template.render_apart(request.small() | {"tools": dumped(tools)}, request.apart, mark)
            return template.render(normalise(messages, template, mark), **prompt_options(template, request, tools))

    run = asyncio.get_running_loop().run_in_executor
    if lengthy:
        return await run(_threads[lengthy], blocking)
    async with server.rendering:
        try:
            with _refusing():
                return await template.render_idle(
                    normalise(messages, template, mark), **prompt_options(template, request, tools)
                )
        except BusyError:
            return await run(_threads[lengthy], blocking)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except TemplateError as error:
        raise bad_request(f"`messages`: {error}.", "messages", "template_error") from error


def thinks_on(message: Message) -> bool:
    """Whether `continue_final_message` goes on a message's thinking: it has nothing else yet."""
    return not message.content and any((message.model_extra or {}).get(name) for name in THINKING)


def wanted_tokens(request: ChatRequest) -> int | None:
    """`max_tokens` in either spelling; ApiError 400 for two that differ."""
    both = (request.max_tokens, request.max_completion_tokens)
    if None not in both and both[0] != both[1]:
        raise bad_request(
            f"`max_tokens` is {both[0]} and `max_completion_tokens` is {both[1]}; send one of them.", "max_tokens"
        )
    return both[1] if both[0] is None else both[0]


def chosen_tools(request: ChatRequest) -> tuple[list[Tool], Calls]:
    """The tools the model is told about: all, those named, or none. `none` leaves them out of the prompt."""
    tools, choice = request.tools or [], request.tool_choice
    names = [tool.function.name for tool in tools]
    if duplicate := next((name for name in names if names.count(name) > 1), None):
        raise bad_request(f"`tools` has two functions named {duplicate!r}.", "tools")
    if not tools and choice not in (None, "none", "auto"):
        raise bad_request("`tool_choice` asks for a call, but `tools` is empty.", "tool_choice")
    if choice == "none":
        return [], Calls.AUTO
    if isinstance(choice, (NamedToolChoice, AllowedToolChoice)):
        allowed = [choice] if isinstance(choice, NamedToolChoice) else choice.allowed_tools.tools
        wanted = {named.function.name for named in allowed}
        if unknown := sorted(wanted - set(names)):
            raise bad_request(f"`tool_choice` names {unknown[0]!r}; `tools` has {', '.join(names)}.", "tool_choice")
        must = isinstance(choice, NamedToolChoice) or choice.allowed_tools.mode == "required"
        return [tool for tool in tools if tool.function.name in wanted], Calls.REQUIRED if must else Calls.AUTO
    return tools, Calls.REQUIRED if choice == "required" else Calls.AUTO


def held_to(
    request: ChatRequest,
    tools: list[Tool],
    fmt: ToolFormat | None,
    calls: Calls,
    marks: ReasoningFormat | None,
    thinking: bool,
) -> tuple[str, Grammar] | None:
    """What the answer is held to, with the field that says so; ApiError 400 for two that exclude each other."""
    held = constraint(request)
    if request.continue_final_message and not thinking:
        marks = None  # the answer goes on in the middle of its content: no markup comes before that
    if fmt is not None:
        if held is not None:
            raise unsupported(
                held[0], "an answer that may call `tools` can't be held to a format too; send one of them."
            )
        before = lead(marks, thinking, free=True)
        return "tools", tool_grammar(fmt, tools, calls, request.parallel_tool_calls, before)
    before = lead(marks, thinking, free=False)
    if held is None or not before.symbols:
        return held
    nested = held_after(held[1], before)
    if nested is None:
        raise unsupported(
            held[0],
            "this model thinks before it answers; send a JSON schema or a regex, or switch `enable_thinking` off.",
        )
    return held[0], nested
