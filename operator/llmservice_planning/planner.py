"""Make a plan: spec + model facts + machine -> Plan | Refusal. Pure; one function for operator, CLI and local mode."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from llmservice_api.v1alpha1 import LLMServiceSpec, TaskChoice
from llmservice_planning.other_engine import another_engine
from llmservice_planning.plan import Fit, Plan, Refusal
from llmservice_planning.remedies import Stuck, Works, remedies
from llmservice_planning.words import memory, model_line
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.base.case import Case, Loading
from llmservice_runtime.engines.base.choice import Choice, NoChoice
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.estimate.adapters import AdapterRoom
from llmservice_runtime.estimate.budget import GPU, HOST, EngineMemory, total
from llmservice_runtime.estimate.fit import UNKNOWN_CONTEXT, Placement, Shortfall, Target, place
from llmservice_runtime.estimate.speed import speed
from llmservice_runtime.formats import qwen_reranker
from llmservice_runtime.formats.facts import ModelFacts, Task
from llmservice_runtime.machine.machine import Device, Machine
from llmservice_runtime.selection.choose import choose

NO_ROOM = AdapterRoom()
UNKNOWN_FIT = (
    "Whether it fits is not known: facts of the machine are missing. It is tried. Where it is the GPU that is not "
    "known, accelerator.memory says what each has."
)
SERVED: Mapping[TaskChoice, Task] = {
    choice: Task(choice.value) for choice in TaskChoice if choice is not TaskChoice.AUTO
}


def make_plan(
    spec: LLMServiceSpec, facts: ModelFacts, machine: Machine, revision: str, room: AdapterRoom = NO_ROOM
) -> Plan | Refusal:
    """What would run, with so much `room` for LoRA adapters, or why nothing can, with ways out that were each checked
    to work."""
    made = _decide(spec, facts, machine, revision, room)
    if isinstance(made, Plan | Refusal):
        return made
    choice, stuck = made
    ways = remedies(spec, facts, machine, stuck, _works(revision, room))
    return Refusal(
        failure=FailureClass.DOES_NOT_FIT,
        reason=" ".join((_shortfall(spec, facts, choice, stuck.short), *_told_of_none(spec, machine))),
        ways_out=tuple(way.text for way in ways),
        rejected=choice.rejected,
    )


def _decide(
    spec: LLMServiceSpec, facts: ModelFacts, machine: Machine, revision: str, room: AdapterRoom = NO_ROOM
) -> Plan | Refusal | tuple[Choice, Stuck]:
    if refusal := _contradiction(spec, facts):
        return refusal
    machine = machine.with_gpu_memory(spec.accelerator.memory_bytes)
    requested = spec.engine.asked
    choice = choose(facts, machine, requested, spec.accelerator.count, _loading(spec))
    if isinstance(choice, NoChoice):
        failure = FailureClass.BAD_ARGUMENT if requested else FailureClass.UNSUPPORTED_FORMAT
        decide = functools.partial(_decide, facts=facts, machine=machine, revision=revision, room=room)
        ways = (*another_engine(spec, facts, machine, choice.instead, decide, _works(revision, room)), *choice.ways_out)
        field = "spec.engine.type" if requested else "spec.model"
        if spec.engine.load_quantization and isinstance(
            choose(facts, machine, requested, spec.accelerator.count), Choice
        ):
            field, failure = "spec.engine.loadQuantization", FailureClass.BAD_ARGUMENT
        return Refusal(failure, choice.reason, ways, choice.rejected, field=field)
    memory = _memory(spec, Case(facts, machine, choice.device, choice.gpu, _loading(spec)), choice, room)
    if isinstance(memory, Refusal):
        return memory
    if refusal := _bad_context(spec, facts, memory) or _bad_count(spec, facts, machine, choice, memory):
        return refusal
    layout = memory.asked.layout if choice.gpu else None
    count = spec.accelerator.count or (layout.gpus if layout else None)
    context = spec.context_tokens or memory.asked.context_tokens
    target = Target(facts, memory, choice.device, machine, choice.gpu, count, context)
    placed = place(target)
    if isinstance(placed, Shortfall):
        return choice, Stuck(placed, definition(choice.engine), memory)
    return _plan(spec, facts, choice, target, placed, revision)


def _loading(spec: LLMServiceSpec) -> Loading:
    """Whether code may run is decided before: who may not set the field is refused by the installation."""
    return Loading(spec.engine.load_quantization or "", spec.model.trust_remote_code)


def _works(revision: str, room: AdapterRoom) -> Works:
    return lambda spec, facts, machine: isinstance(_decide(spec, facts, machine, revision, room), Plan)


def _plan(
    spec: LLMServiceSpec, facts: ModelFacts, choice: Choice, target: Target, placed: Placement, revision: str
) -> Plan:
    shape = placed.shape
    case = Case(facts, target.machine, choice.device, choice.gpu, _loading(spec))
    layers = -1 if shape.gpu_layers > facts.layer_count else shape.gpu_layers
    return Plan(
        engine=choice.engine,
        reason=choice.reason,
        rejected=choice.rejected,
        fit=placed.fit if facts.kv_known else Fit.UNKNOWN,
        accelerator=choice.gpu.product if choice.gpu else "CPU",
        accelerator_count=shape.gpus,
        tensor_parallel_size=shape.layout.tensor,
        pipeline_parallel_size=shape.layout.pipeline,
        gpu_layers=layers,
        context_tokens=shape.context_tokens,
        max_sequences=shape.sequences * shape.layout.copies,
        kv_tokens=0 if facts.pools else shape.kv_tokens * shape.layout.copies,
        memory=tuple(line for line in placed.lines if facts.kv_known or not line.is_cache),
        memory_available=target.available(GPU if choice.gpu else HOST),
        largest_context_tokens=placed.largest_context,
        revision=revision,
        model=model_line(facts),
        task=_task(spec, facts).value,
        args=definition(choice.engine).arguments(case, shape, _args(spec, choice, target.memory.room)),
        notes=(
            *choice.notes,
            *target.memory.notes,
            *_placement_notes(facts, target, placed),
            *_told_of_none(spec, target.machine),
        ),
        adapters=target.memory.room,
        speed=speed(target, shape),
        missing=choice.missing,
    )


def _contradiction(spec: LLMServiceSpec, facts: ModelFacts) -> Refusal | None:
    """What the spec asks of the model that it is not."""
    asked = SERVED.get(spec.task)
    if asked is not None and asked is not facts.task and (facts.pools or asked in (Task.EMBEDDING, Task.RERANK)):
        kind = f"{facts.architecture or 'the model'} is a model for {facts.task.value.lower()}"
        return Refusal(
            FailureClass.BAD_ARGUMENT,
            f"task is {asked.value}, but {kind}, as its files say.",
            (
                "Leave task out: it is then what the files say.",
                f"Use a model for {asked.value.lower()}.",
                *_said_otherwise(asked, facts),
            ),
            field="spec.task",
        )
    if spec.task is TaskChoice.CHAT and not facts.has_chat_template:
        return Refusal(
            FailureClass.BAD_ARGUMENT,
            "task is Chat, but the model brings no chat template.",
            ("Set task: Completion.", "Use the model's -Instruct or -Chat version."),
            field="spec.task",
        )
    return None


def _said_otherwise(asked: Task, facts: ModelFacts) -> tuple[str, ...]:
    """How files say what they may well be."""
    if asked is not Task.RERANK or not qwen_reranker.may_be_one((facts.architecture,)):
        return ()
    return (
        "If it is a Qwen3-Reranker under another name: its own repository has a part LogitScore in modules.json; or set"
        f" {qwen_reranker.FIELD}: true in config.json of a copy.",
    )


def _args(spec: LLMServiceSpec, choice: Choice, room: AdapterRoom) -> tuple[str, ...]:
    """What asks for room, and what the user says, which wins."""
    return (*definition(choice.engine).adapter_arguments(room), *spec.engine.args)


def _memory(spec: LLMServiceSpec, case: Case, choice: Choice, room: AdapterRoom) -> EngineMemory | Refusal:
    """What the engine takes with the user's arguments; those that it would refuse, or that can't be, are refused."""
    engine = definition(choice.engine)
    try:
        memory = engine.memory(_args(spec, choice, room)).converted(case.loading.quantization).with_room(room)
        engine.contradiction(case, spec.engine.args)
    except UserError as error:
        return Refusal(
            FailureClass.BAD_ARGUMENT, error.reason, (error.remedy,), choice.rejected, field="spec.engine.args"
        )
    try:
        engine.environment({variable.name: variable.value for variable in spec.engine.env})
    except UserError as error:
        return Refusal(
            FailureClass.BAD_ARGUMENT, error.reason, (error.remedy,), choice.rejected, field="spec.engine.env"
        )
    return memory


def _bad_context(spec: LLMServiceSpec, facts: ModelFacts, memory: EngineMemory) -> Refusal | None:
    """A context that the model was not made for, or that field and argument say differently."""
    field, asked = spec.context_tokens, memory.asked.context_tokens
    said = memory.asked.names.get("context_tokens", "")
    if field and asked and field != asked:
        return Refusal(
            FailureClass.BAD_ARGUMENT,
            f"engine.args has {said}, and contextTokens is {field:,}.",
            ("Leave one of them out.", f"Set contextTokens to {asked}."),
            field="spec.contextTokens",
        )
    tokens = field or asked
    if tokens and facts.context_tokens and tokens > facts.context_tokens and not memory.lifts_context:
        name = f"contextTokens is {tokens:,}" if field else f"engine.args has {said}"
        here = "contextTokens" if field else said.partition("=")[0]
        return Refusal(
            FailureClass.BAD_ARGUMENT,
            f"{name}, more than the {facts.context_tokens:,} the model was made for.",
            (f"Set {here} to at most {facts.context_tokens}.", f"Leave {here} out: it is then planned."),
            field="spec.contextTokens" if field else "spec.engine.args",
        )
    return None


def _bad_count(
    spec: LLMServiceSpec, facts: ModelFacts, machine: Machine, choice: Choice, memory: EngineMemory
) -> Refusal | None:
    """A number of GPUs that the machine does not have or the engine can't split the model over."""
    if choice.gpu is None:
        return None
    stated, layout = spec.accelerator.count, memory.asked.layout
    shares = f"engine.args has {memory.asked.names.get('layout', '')}"
    if stated and layout and stated != layout.gpus:
        return Refusal(
            FailureClass.BAD_ARGUMENT,
            f"{shares}, which is for {layout.gpus} GPUs, and accelerator.count is {stated}.",
            ("Leave one of them out: what is not given is planned.",),
            field="spec.accelerator.count",
        )
    count = stated or (layout.gpus if layout else 0)
    name = f"accelerator.count is {count}" if stated else f"{shares}, which is for {count} GPUs"
    here, other = ("accelerator.count", "it is planned") if stated else ("them", "the sizes are planned")
    if machine.exact and count > machine.gpu_count:
        have = f"{machine.gpu_count} × {choice.gpu.product}"
        ways = (f"Set accelerator.count to at most {machine.gpu_count}.",) if stated else ()
        return Refusal(
            FailureClass.BAD_ARGUMENT,
            f"{name}, but there is {have}.",
            (*ways, f"Leave {here} out: {other}."),
            field="spec.accelerator.count" if stated else "spec.engine.args",
        )
    if count and not memory.layouts(facts, count):
        ways = ()
        if stated and not layout:
            valid = [str(n) for n in range(1, max(8, count) + 1) if memory.layouts(facts, n)]
            ways = (f"Set accelerator.count to one of {', '.join(valid)}.",) if valid else ()
        return Refusal(
            FailureClass.BAD_ARGUMENT,
            f"{name}, but {memory.unsplit(facts, count)}.",
            (*ways, f"Leave {here} out: {other}."),
            field="spec.accelerator.count" if stated else "spec.engine.args",
        )
    return None


def _task(spec: LLMServiceSpec, facts: ModelFacts) -> Task:
    if spec.task is not TaskChoice.AUTO:
        return SERVED[spec.task]
    if facts.pools:
        return facts.task
    return Task.CHAT if facts.has_chat_template else Task.COMPLETION


def _placement_notes(facts: ModelFacts, target: Target, placed: Placement) -> tuple[str, ...]:
    shape, said = placed.shape, []
    if not facts.kv_known:
        said.append(
            "How much KV cache a token takes is not known: the headers don't tell layers, heads or their size. It is "
            f"not in the budget, and {shape.context_tokens:,} tokens were planned: set contextTokens to what fits."
        )
    if placed.fit is Fit.UNKNOWN:
        said.append(UNKNOWN_FIT)
    if target.context is None and not facts.context_tokens:
        said.append(f"The headers do not say how long the context may be; {UNKNOWN_CONTEXT:,} tokens were planned.")
    elif target.context is None and facts.kv_known and shape.context_tokens < facts.context_tokens:
        planned = (
            f"The context is {shape.context_tokens:,} of the {facts.context_tokens:,} tokens the model was made for"
        )
        if placed.largest_context > shape.context_tokens:
            said.append(
                f"{planned}, to leave half of the memory beside the weights to others. Up to "
                f"{placed.largest_context:,} fit: set contextTokens."
            )
        else:
            said.append(f"{planned}, for want of memory.")
    if _partial(facts, target, placed):
        said.append(
            f"{shape.gpu_layers} of {facts.layer_count} layers fit the GPU, the others run on the CPU: expect a "
            "fraction of the GPU's speed."
        )
    return tuple(said)


def _told_of_none(spec: LLMServiceSpec, machine: Machine) -> tuple[str, ...]:
    """That what is said of GPUs changes nothing, where there are none."""
    if spec.accelerator.memory is None or machine.gpus:
        return ()
    return (f"accelerator.memory ({spec.accelerator.memory}) changes nothing: {machine.no_gpu}.",)


def _partial(facts: ModelFacts, target: Target, placed: Placement) -> bool:
    """Whether layers are left on the host."""
    offloads = target.memory.offloads and target.device is not Device.CPU
    return offloads and placed.shape.gpu_layers <= facts.layer_count


def _shortfall(spec: LLMServiceSpec, facts: ModelFacts, choice: Choice, short: Shortfall) -> str:
    """`needs 17.2 GiB, 14.0 GiB may be used: 3.2 GiB short`, with the context it was asked with."""
    needed = total(short.lines, short.where)
    per = f"on each of {short.shape.gpus} × " if short.shape.gpus > 1 else "on "
    where = f"{per}{choice.gpu.product}" if choice.gpu and short.where == GPU else "of host memory"
    args = f" and engine.args {' '.join(spec.engine.args)}" if spec.engine.args else ""
    return (
        f"{model_line(facts)} with a context of {short.shape.context_tokens:,} tokens{args} needs {memory(needed)} "
        f"{where}, and {memory(needed - short.missing)} may be used: {memory(short.missing)} short."
    )
