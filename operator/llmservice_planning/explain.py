"""A plan in words: the same for the command line, status and Events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llmservice_planning.plan import MemoryLine, Plan, Refusal, RejectedEngine
from llmservice_planning.words import memory, per_second
from llmservice_runtime.contract.bounds import POOLED
from llmservice_runtime.contract.plain import plain
from llmservice_runtime.engines.registry import label


def summary(plan: Plan) -> str:
    """One line, as in status: `llama.cpp on CPU, context 32,768 tokens, 16 at a time, 7.1 of 21.0 GiB`."""
    where = device(plan)
    return (
        f"{label(plan.engine)} on {where}, context {plan.context_tokens:,} tokens, {plan.max_sequences} at a time, "
        f"{memory(used(plan))} of {memory(plan.memory_available)}"
    )


def text(name: str, plan: Plan, wide: bool = False) -> str:
    """The whole plan; `wide` adds the memory budget line by line."""
    writes = plan.task not in POOLED
    shared = f", sharing {plan.kv_tokens:,} tokens of KV cache" if plan.kv_tokens else ""
    rows = [
        ("model", plan.model),
        ("revision", plan.revision or "(the source has none)"),
        ("task", plan.task),
        ("engine", f"{label(plan.engine)}. {plan.reason}"),
        ("where", device(plan)),
        (
            "context",
            f"{plan.context_tokens:,} tokens {'for prompt and answer' if writes else 'of a text'}{_room(plan)}",
        ),
        ("sequences" if writes else "requests", f"{plan.max_sequences} at a time{shared}"),
        *(
            (("adapters", f"room for {plan.adapters.count}, up to rank {plan.adapters.rank}"),)
            if plan.adapters.count
            else ()
        ),
        ("memory", f"{memory(used(plan))} of the {memory(plan.memory_available)} that may be used{_per_gpu(plan)}"),
        *((("speed", said),) if (said := speed(plan)) else ()),
        ("fit", plan.fit.value),
    ]
    if plan.args:
        rows.append(("arguments", " ".join(plan.args)))
    if plan.missing:
        rows.append(("missing", f"{label(plan.engine)} is not installed here. {plan.missing}"))
    parts = [f"{name} will run.\n" if not plan.missing else f"{name} can't start yet.\n", _table(rows)]
    parts += _section("memory budget", budget_lines(plan.memory, plan.accelerator_count)) if wide else []
    parts += _section("other engines", rejected_lines(plan.rejected))
    parts += _section("notes", plan.notes)
    return "\n".join(parts)


def refusal_text(name: str, refusal: Refusal) -> str:
    """Why nothing can run, and numbered ways out."""
    parts = [f"{name} can't run: {plain(refusal.reason)}"]
    parts += _section("ways out", [f"{number}. {way}" for number, way in enumerate(refusal.ways_out, 1)])
    parts += _section("other engines", rejected_lines(refusal.rejected))
    return "\n".join(parts)


def refusal_remedy(refusal: Refusal) -> str:
    """The ways out as one line: `(1) ... (2) ...`."""
    return " ".join(f"({number}) {way}" for number, way in enumerate(refusal.ways_out, 1))


def device(plan: Plan) -> str:
    """`CPU`, `2 × L4`, `T4 (20 of the layers)`."""
    if plan.accelerator_count == 0:
        return "CPU"
    layers = f" ({plan.gpu_layers} layers, the others on the CPU)" if plan.gpu_layers > 0 else ""
    return f"{plan.accelerator_count} × {plan.accelerator}{layers}{_stages(plan)}"


def speed(plan: Plan) -> str:
    """`one answer at most 19 tokens per second (16 with a full context); 256 together at most 1,430, with usual
    contexts`; empty for vectors and scores."""
    told = plan.speed
    if told.tokens_per_second is None:
        return f"not known: {told.unknown}" if told.unknown else ""
    said = f"one answer at most {per_second(told.tokens_per_second)} tokens per second"
    if told.full_tokens_per_second:
        said += f" ({per_second(told.full_tokens_per_second)} with a full context)"
    if told.together_tokens_per_second and plan.max_sequences > 1:
        together = per_second(told.together_tokens_per_second)
        said += f"; {plan.max_sequences} together at most {together}, with usual contexts"
    return said


def _stages(plan: Plan) -> str:
    """How GPUs share it, where it is not every layer by all of them."""
    if plan.pipeline_parallel_size == 1:
        return ""
    of = f" of {plan.tensor_parallel_size} GPUs" if plan.tensor_parallel_size > 1 else ""
    return f" (a pipeline of {plan.pipeline_parallel_size} stages{of})"


def used(plan: Plan) -> int:
    """Bytes per device: of each GPU, or of the host when there is none."""
    where = "GPU" if plan.accelerator_count else "Host"
    return sum(line.bytes for line in plan.memory if line.where == where)


def budget_lines(lines: Sequence[MemoryLine], gpus: int) -> list[str]:
    """The memory budget as a table, with a sum per place."""
    out = []
    for where, title in (("GPU", f"each of {gpus} GPUs" if gpus > 1 else "GPU"), ("Host", "host")):
        mine = [line for line in lines if line.where == where]
        if mine:
            out += [f"{title:<10} {line.name:<34} {memory(line.bytes):>10}" for line in mine]
            out.append(f"{title:<10} {'sum':<34} {memory(sum(line.bytes for line in mine)):>10}")
    return out


def rejected_lines(rejected: Iterable[RejectedEngine]) -> list[str]:
    """`vLLM: <reason>` for each."""
    return [f"{label(engine.engine)}: {engine.reason}" for engine in rejected]


def _room(plan: Plan) -> str:
    more = plan.largest_context_tokens > plan.context_tokens
    return f" (up to {plan.largest_context_tokens:,} would fit)" if more else ""


def _per_gpu(plan: Plan) -> str:
    return " on each GPU" if plan.accelerator_count > 1 else ""


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"  {name:<10} {plain(value)}" for name, value in rows)


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"  {title}", *(f"    {plain(line)}" for line in lines)] if lines else []
