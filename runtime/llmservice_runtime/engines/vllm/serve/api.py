"""The endpoint plug-in: our contract around vLLM's API, and the conversation with the supervisor."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from argparse import Namespace
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import prometheus_client

from llmservice_runtime.contract.bounds import POOLED
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.memory import HeldLine, together
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.base.gpus import others
from llmservice_runtime.engines.vllm.plugins import API, PARSER, WORKER
from llmservice_runtime.engines.vllm.serve.behind import Behind
from llmservice_runtime.engines.vllm.serve.gate import Door, Gate
from llmservice_runtime.engines.vllm.serve.handover import handed_over
from llmservice_runtime.engines.vllm.serve.layout import counting
from llmservice_runtime.engines.vllm.serve.life import Life
from llmservice_runtime.engines.vllm.serve.link import LINK
from llmservice_runtime.engines.vllm.serve.metrics import OurMetrics
from llmservice_runtime.engines.vllm.serve.pace import PACE
from llmservice_runtime.engines.vllm.serve.pooler import VllmPooler, typed
from llmservice_runtime.engines.vllm.serve.served import Served
from llmservice_runtime.engines.vllm.serve.tokens import HfTokenizer
from llmservice_runtime.openai.host import callers_of
from llmservice_runtime.openai.metrics import EngineMetrics
from llmservice_runtime.openai.pooling_test import pooling_test
from llmservice_runtime.openai.reasoning_probe import may_think
from llmservice_runtime.openai.self_test import Ask, Came, Speed, self_test
from llmservice_runtime.openai.state import Server
from llmservice_runtime.pooling.files import recipe_of

ALIKE = 2
"""So many first tokens that are one and the same are looked at."""
WORKER_SECONDS = 10.0
"""Workers that do nothing else answer at once."""

log = logging.getLogger(__name__)


class Api:
    """One per API server; vLLM calls `attach_router` when its routes are made and `init_state` when its engine runs."""

    name = API
    required_tasks = None

    @LINK.or_end(API)
    def __init__(self) -> None:
        self._settings = handed_over()
        self._door = Door(callers_of(self._settings))
        self._app: Any = None

    def attach_router(self, app: Any) -> None:
        """The application is known from here on; our middleware goes around it when it is whole."""
        self._app = app
        LINK.came(API, Phase.SELF_TEST)

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        """Prove the engine, open the door, and say so as soon as the server listens."""
        try:
            served, speed = await self._proved(engine_client, args)
        except UserError as error:
            LINK.reporter.failure(error)
            raise
        measured = await told_by_workers(engine_client, args, self._settings.planned_accelerator)
        measured |= speed.as_report()
        with LINK.or_end(API):
            self._open(served, engine_client, state, measured)

    async def _proved(self, engine_client: Any, args: Namespace) -> tuple[Served, Speed]:
        """What is served, and how fast it was."""
        settings, tokenizer = self._settings, tokens_of(engine_client)
        encode = partial(tokenizer.encode, add_special=True, parse_special=False)
        if settings.task in POOLED:
            recipe = recipe_of(Path(settings.model_path), settings.task)
            types = settings.task == "Rerank" and typed(engine_client.model_config)
            pooler = VllmPooler(engine_client, settings, tokenizer, recipe, typed=types)
            return pooled_by(pooler, settings), await pooling_test(pooler, encode)
        speed = await self_test(
            asking(engine_client),
            encode,
            int(engine_client.model_config.max_model_len),
            int(engine_client.vllm_config.scheduler_config.max_num_seqs),
            compiles=not engine_client.model_config.enforce_eager,
        )
        return served_by(engine_client, args, settings), speed

    def _open(self, served: Served, engine_client: Any, state: Any, measured: dict[str, Any]) -> None:
        self._door.served = served = replace(served, count=counting(state))
        # Around all that vLLM has put there by now, who lets every page call among them.
        self._app.middleware_stack = Gate(self._app.middleware_stack or self._app.build_middleware_stack(), self._door)
        prometheus_client.REGISTRY.register(OurMetrics(self._settings.model_name, self._door.running, PACE))
        life = Life(self._door, state, engine_client, measured, self._settings)
        self._life = asyncio.ensure_future(life.run())


def asking(engine_client: Any) -> Ask:
    """How the self-test asks vLLM."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    numbers = itertools.count()

    async def is_number(prompt: Sequence[int]) -> bool:
        """Whether the likeliest token after a prompt has a likelihood."""
        params = SamplingParams(max_tokens=1, temperature=0.0, logprobs=0, ignore_eos=True)
        name = f"llmservice-self-test-{next(numbers)}"
        found = [
            told.logprob
            async for output in engine_client.generate({"prompt_token_ids": list(prompt)}, params, name)
            for position in output.outputs[0].logprobs or ()
            for told in position.values()
        ]
        return not any(map(math.isnan, found))

    async def ask(prompt: Sequence[int], tokens: int, answers: int) -> AsyncGenerator[Came]:
        params = SamplingParams(
            n=answers,
            max_tokens=tokens,
            temperature=float(answers > 1),  # several greedy answers to one prompt are refused: they are the same
            ignore_eos=True,
            output_kind=RequestOutputKind.DELTA,
        )
        name = f"llmservice-self-test-{next(numbers)}"
        chosen: list[int] = []
        async with aclosing(engine_client.generate({"prompt_token_ids": list(prompt)}, params, name)) as outputs:
            async for output in outputs:
                if answers == 1 and len(chosen) < ALIKE:
                    chosen += output.outputs[0].token_ids
                    # Of logits that are no numbers vLLM takes always the same. Who asks for likelihoods has a GPU
                    # compile something.
                    if len(chosen) >= ALIKE and len(set(chosen)) == 1 and not await is_number(prompt):
                        yield Came(0, error="its logits are no numbers")
                        return
                came = sum(len(answer.token_ids) for answer in output.outputs)
                yield Came(came, output.num_cached_tokens or 0)

    return ask


async def told_by_workers(engine_client: Any, args: Namespace, accelerator: str) -> dict[str, Any]:
    """What all workers have of weights and cache, and GPUs that are not the planned ones, as reports spell it; nothing
    where they can't be asked."""
    if args.worker_extension_cls != WORKER:
        return {}
    try:
        told = await engine_client.collective_rpc("llmservice_memory", timeout=WORKER_SECONDS)
        names = await engine_client.collective_rpc("llmservice_gpu", timeout=WORKER_SECONDS)
    except Exception:  # whatever vLLM wraps it in: a load is not to fail for what is only told
        log.warning("vLLM's workers do not tell of their memory", exc_info=True)
        return {}
    lines = together(line for worker in told for line in map(HeldLine.of, worker) if line)
    return {
        "memory": [asdict(line) for line in lines],
        "other_gpus": others(accelerator, [name for name in names if name]),
    }


def tokens_of(engine_client: Any) -> HfTokenizer:
    """The model's tokenizer."""
    return HfTokenizer(engine_client.renderer.get_tokenizer(), int(engine_client.model_config.get_vocab_size()))


def pooled_by(pooler: VllmPooler, settings: RuntimeSettings) -> Served:
    """A model that makes vectors or scores."""
    metrics = EngineMetrics(settings.model_name)
    server = Server(settings.model_name, pooler.context_tokens, metrics, settings.model_aliases, settings.task)
    server.serve_pooled(pooler)
    return Served(server, pooler.tokenizer, max_answers=pooler.max_answers)


def sees(model: Any) -> bool:
    """Whether the model takes pictures, and the limits per prompt leave it some."""
    config = model.multimodal_config
    return config is not None and config.get_limit_per_prompt("image") > 0


def served_by(engine_client: Any, args: Namespace, settings: RuntimeSettings) -> Served:
    """What this engine serves."""
    from vllm.renderers.chat_utils import load_chat_template

    model = engine_client.model_config
    scheduler = engine_client.vllm_config.scheduler_config
    server = Server(
        settings.model_name,
        int(model.max_model_len),
        EngineMetrics(settings.model_name),
        settings.model_aliases,
        settings.task,
        may_see=sees(model),
    )
    tokenizer = tokens_of(engine_client)
    given = load_chat_template(args.chat_template)  # --chat-template is for all requests
    template, for_tools = (given, None) if given else (tokenizer.chat_template, tokenizer.tool_template)
    server.take_template(template, for_tools, tokenizer.bos_token, tokenizer.eos_token)
    own = args.tool_call_parser == PARSER
    thinks = may_think(template or "") if own else bool(args.structured_outputs_config.reasoning_parser)
    most = int(scheduler.max_num_queued_reqs or scheduler.max_num_seqs + settings.max_queued_requests)
    return Served(
        server,
        tokenizer,
        max_answers=most,
        own=own,
        thinks=thinks,
        calls=bool(args.tool_call_parser),
        behind=Behind(scheduler, most),
    )
