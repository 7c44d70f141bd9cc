"""Make a plan: spec + model facts + machine -> Plan | Refusal. Pure; one function for operator, CLI and local mode."""

from __future__ import annotations

from llmservice_api.v1alpha1 import EngineTypeChoice, LLMServiceSpec, TaskChoice
from llmservice_planning.plan import Fit, Plan, Refusal
from llmservice_planning.remedies import Stuck, remedies
from llmservice_planning.words import memory, model_line
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.base.case import Case
from llmservice_runtime.engines.base.choice import Choice, NoChoice
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.estimate.budget import GPU, HOST, EngineMemory, total
from llmservice_runtime.estimate.fit import UNKNOWN_CONTEXT, Placement, Shortfall, Target, place
from llmservice_runtime.formats.facts import ModelFacts, Task
from llmservice_runtime.machine.machine import Device, Machine
from llmservice_runtime.selection.choose import choose

SERVED = {TaskChoice.CHAT: Task.CHAT, TaskChoice.COMPLETION: Task.COMPLETION}


def make_plan(spec: LLMServiceSpec, facts: ModelFacts, machine: Machine, revision: str) -> Plan | Refusal:
    """What would run, or why nothing can, with ways out that were each checked to work."""
    made = _decide(spec, facts, machine, revision)
    if isinstance(made, Plan | Refusal):
        return made
    choice, stuck = made
    ways = remedies(spec, facts, machine, stuck, lambda s, f, m: isinstance(_decide(s, f, m, revision), Plan))
    return Refusal(
        failure=FailureClass.DOES_NOT_FIT,
        reason=_shortfall(facts, choice, stuck.short),
        ways_out=tuple(way.text for way in ways),
        rejected=choice.rejected,
    )


def _decide(
    spec: LLMServiceSpec, facts: ModelFacts, machine: Machine, revision: str
) -> Plan | Refusal | tuple[Choice, Stuck]:
    if refusal := _contradiction(spec, facts):
        return refusal
    requested = None if spec.engine.type is EngineTypeChoice.AUTO else EngineType(spec.engine.type.value)
    choice = choose(facts, machine, requested, spec.accelerator.count)
    if isinstance(choice, NoChoice):
        failure = FailureClass.BAD_ARGUMENT if requested else FailureClass.UNSUPPORTED_FORMAT
        return Refusal(failure, choice.reason, choice.ways_out, choice.rejected)
    memory = _memory(spec, choice)
    if isinstance(memory, Refusal):
        return memory
    if refusal := _bad_count(spec, facts, machine, choice, memory):
        return refusal
    count = spec.accelerator.count or None
    target = Target(facts, memory, choice.device, machine, choice.gpu, count, spec.context_tokens)
    placed = place(target)
    if isinstance(placed, Shortfall):
        return choice, Stuck(placed, definition(choice.engine), memory)
    return _plan(spec, facts, choice, target, placed, revision)


def _plan(
    spec: LLMServiceSpec, facts: ModelFacts, choice: Choice, target: Target, placed: Placement, revision: str
) -> Plan:
    shape = placed.shape
    case = Case(facts, target.machine, choice.device, choice.gpu)
    layers = -1 if shape.gpu_layers > facts.layer_count else shape.gpu_layers
    return Plan(
        engine=choice.engine,
        reason=choice.reason,
        rejected=choice.rejected,
        fit=placed.fit if facts.kv_known else Fit.UNKNOWN,
        accelerator=choice.gpu.product if choice.gpu else "CPU",
        accelerator_count=shape.gpus,
        tensor_parallel_size=max(1, shape.gpus) if target.memory.tensor_parallel else 1,
        gpu_layers=layers,
        context_tokens=shape.context_tokens,
        max_sequences=shape.sequences,
        kv_tokens=shape.kv_tokens,
        memory=tuple(line for line in placed.lines if facts.kv_known or not line.is_cache),
        memory_available=target.available(GPU if choice.gpu else HOST),
        largest_context_tokens=placed.largest_context,
        revision=revision,
        model=model_line(facts),
        task=_task(spec, facts).value,
        args=(*definition(choice.engine).arguments(case, shape), *spec.engine.args),
        notes=(*choice.notes, *_placement_notes(facts, target, placed)),
        missing=choice.missing,
    )


def _contradiction(spec: LLMServiceSpec, facts: ModelFacts) -> Refusal | None:
    """What the spec asks of the model that it is not."""
    if facts.task in (Task.EMBEDDING, Task.RERANK):
        return Refusal(
            FailureClass.UNSUPPORTED_FORMAT,
            f"{facts.architecture} is a model for {facts.task.value.lower()}; this release serves chat and completion.",
            ("Use a model that generates text (architecture *ForCausalLM).",),
        )
    if spec.task is TaskChoice.CHAT and not facts.has_chat_template:
        return Refusal(
            FailureClass.BAD_ARGUMENT,
            "task is Chat, but the model brings no chat template.",
            ("Set task: Completion.", "Use the model's -Instruct or -Chat version."),
        )
    if spec.context_tokens and facts.context_tokens and spec.context_tokens > facts.context_tokens:
        return Refusal(
            FailureClass.BAD_ARGUMENT,
            f"contextTokens is {spec.context_tokens:,}, more than the {facts.context_tokens:,} the model was made for.",
            (f"Set contextTokens to at most {facts.context_tokens}.", "Leave contextTokens out: it is then planned."),
        )
    return None


def _memory(spec: LLMServiceSpec, choice: Choice) -> EngineMemory | Refusal:
    """What the engine takes with the user's arguments; arguments that it would refuse are refused here."""
    try:
        return definition(choice.engine).memory(spec.engine.args)
    except UserError as error:
        return Refusal(FailureClass.BAD_ARGUMENT, error.reason, (error.remedy,), choice.rejected)


def _bad_count(
    spec: LLMServiceSpec, facts: ModelFacts, machine: Machine, choice: Choice, memory: EngineMemory
) -> Refusal | None:
    """A number of GPUs that the machine does not have or the engine can't split the model over."""
    count = spec.accelerator.count
    if not count or choice.gpu is None:
        return None
    if machine.exact and count > machine.gpu_count:
        have = f"{machine.gpu_count} × {choice.gpu.product}"
        return Refusal(
            FailureClass.BAD_ARGUMENT,
            f"accelerator.count is {count}, but there is {have}.",
            (f"Set accelerator.count to at most {machine.gpu_count}.", "Leave accelerator.count out: it is planned."),
        )
    if not memory.splits(facts, count):
        valid = [str(n) for n in range(1, max(8, count) + 1) if memory.splits(facts, n)]
        heads = f"{facts.attention_heads} attention heads"
        return Refusal(
            FailureClass.BAD_ARGUMENT,
            f"accelerator.count is {count}, and {heads} can't be divided over that many GPUs.",
            (f"Set accelerator.count to one of {', '.join(valid)}.", "Leave accelerator.count out: it is planned."),
        )
    return None


def _task(spec: LLMServiceSpec, facts: ModelFacts) -> Task:
    if spec.task is not TaskChoice.AUTO:
        return SERVED[spec.task]
    return Task.CHAT if facts.has_chat_template else Task.COMPLETION


def _placement_notes(facts: ModelFacts, target: Target, placed: Placement) -> tuple[str, ...]:
    shape, said = placed.shape, []
    if not facts.kv_known:
        said.append(
            "How much KV cache a token takes is not known: the headers don't tell layers, heads or their size. It is "
            f"not in the budget, and {shape.context_tokens:,} tokens were planned: set contextTokens to what fits."
        )
    if placed.fit is Fit.UNKNOWN:
        said.append("Whether it fits is not known: facts of the machine are missing. It is tried.")
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


def _partial(facts: ModelFacts, target: Target, placed: Placement) -> bool:
    """Whether layers are left on the host."""
    offloads = target.memory.offloads and target.device is not Device.CPU
    return offloads and placed.shape.gpu_layers <= facts.layer_count


def _shortfall(facts: ModelFacts, choice: Choice, short: Shortfall) -> str:
    """`needs 17.2 GiB, 14.0 GiB may be used: 3.2 GiB short`, with the context it was asked with."""
    needed = total(short.lines, short.where)
    per = f"on each of {short.shape.gpus} × " if short.shape.gpus > 1 else "on "
    where = f"{per}{choice.gpu.product}" if choice.gpu and short.where == GPU else "of host memory"
    return (
        f"{model_line(facts)} with a context of {short.shape.context_tokens:,} tokens needs {memory(needed)} {where}, "
        f"and {memory(needed - short.missing)} may be used: {memory(short.missing)} short."
    )
