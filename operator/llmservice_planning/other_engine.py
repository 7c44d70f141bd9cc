"""The way out of an engine that was asked for and can't run the model: the one that can, and what else that takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from llmservice_api.v1alpha1 import EngineTypeChoice, LLMServiceSpec
from llmservice_planning.explain import device
from llmservice_planning.plan import Plan, Refusal
from llmservice_planning.remedies import Stuck, Works, remedies
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.base.choice import Choice
from llmservice_runtime.engines.registry import label
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.machine.machine import Machine

Decide = Callable[[LLMServiceSpec], Plan | Refusal | tuple[Choice, Stuck]]


def another_engine(
    spec: LLMServiceSpec,
    facts: ModelFacts,
    machine: Machine,
    engines: Sequence[EngineType],
    decide: Decide,
    works: Works,
) -> Iterator[str]:
    """One way at most: the first of `engines` (they have no objection) that leads to a plan.

    engine.args are the arguments of one engine: where another one refuses them they have to go too. What does not fit
    on the other engine either is told with the step that makes it fit.
    """
    for engine in engines:
        chosen_anyway = ", or leave it out" if engine is engines[0] else ""
        for args, how in ((spec.engine.args, chosen_anyway), ([], " and leave engine.args out")):
            changes = {"type": EngineTypeChoice(engine.value), "args": args}
            other = spec.model_copy(update={"engine": spec.engine.model_copy(update=changes)})
            made, way = decide(other), f"Set engine.type to {engine.value}{how}"
            if isinstance(made, Plan):
                yield f"{way}: {label(engine)} runs this model on {device(made)}."
                return
            if isinstance(made, tuple) and (steps := remedies(other, facts, machine, made[1], works)):
                yield f"{way}, for {label(engine)}. Beside that: {steps[0].text}"
                return
