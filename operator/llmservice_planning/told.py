"""What status says of a model's files and of its plan, in a cluster and on one machine alike."""

from __future__ import annotations

import dataclasses

from llmservice_api.loads import planned_memory, predicted_speed, rejected_engines
from llmservice_api.status import ModelStatus, PlanStatus
from llmservice_planning.explain import summary
from llmservice_planning.plan import Plan
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.formats.facts import ModelFacts

MOST_NOTES, LONGEST = 32, 4096
"""Notes, and characters of a text."""


def model_status(facts: ModelFacts, revision: str | None) -> ModelStatus:
    """Of the model that is served; what its headers don't say is left out."""
    return ModelStatus(
        resolved_revision=revision or None,
        format=facts.format.value,
        architecture=facts.architecture or None,
        parameters=facts.parameters or None,
        quantization=(facts.quantization.name if facts.quantization else facts.dtype) or None,
        file_bytes=facts.file_bytes or None,
        abilities=None if facts.abilities is None else list(facts.abilities),
    )


def plan_status(plan: Plan, settings: RuntimeSettings) -> PlanStatus:
    """Of a plan and what replicas are told of it, on one machine."""
    return PlanStatus(
        engine=plan.engine.value,
        reason=plan.reason[:LONGEST],
        summary=summary(plan)[:LONGEST],
        task=plan.task,
        context_tokens=plan.context_tokens,
        max_sequences=plan.max_sequences,
        kv_tokens=plan.kv_tokens,
        notes=[note[:LONGEST] for note in plan.notes[:MOST_NOTES]],
        rejected=rejected_engines((one.engine.value, one.reason) for one in plan.rejected),
        memory=planned_memory(settings.planned_memory),
        speed=predicted_speed(dataclasses.asdict(plan.speed)),
    )
