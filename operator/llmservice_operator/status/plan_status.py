"""The plan in force as status shows it, with what the user should know of it."""

from __future__ import annotations

from collections.abc import Iterator

from llmservice_api.labels import SETTINGS
from llmservice_api.loads import planned_memory, predicted_speed, rejected_engines
from llmservice_operator.children.revision import installation_digest
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.frozen import Frozen
from llmservice_operator.facts.values import Json
from llmservice_runtime.contract.settings import RuntimeSettings

LIMIT = 4096
"""Characters of a text in status."""
MOST = 32
"""Notes."""


def plan_status(in_force: Frozen, config: OperatorConfig) -> Json:
    """`status.plan`."""
    said: Json = {"engine": in_force.engine, "reason": in_force.reason[:LIMIT], "summary": in_force.summary[:LIMIT]}
    if in_force.image:
        said["image"] = in_force.image
    said |= _numbers(in_force)
    if notes := [*in_force.notes, *_newer(in_force, config)]:
        said["notes"] = [note[:LIMIT] for note in notes[:MOST]]
    if rejected := _rejected(in_force.plan):
        said["rejected"] = rejected
    kept = in_force.plan.get("speed")
    if isinstance(kept, dict) and (speed := predicted_speed(kept)):
        said["speed"] = speed.model_dump(by_alias=True, exclude_none=True)
    return said


def _rejected(plan: Json) -> list[Json]:
    """As another release may have kept it."""
    try:
        found = rejected_engines((str(one["engine"]), str(one["reason"])) for one in plan.get("rejected", ()))
    except (KeyError, TypeError, ValueError):
        return []
    return [one.model_dump(by_alias=True) for one in found]


def _numbers(in_force: Frozen) -> Json:
    """What its replicas were told, for gateways and people; nothing where another release told them."""
    try:
        told = RuntimeSettings.from_json(in_force.template["metadata"]["annotations"][SETTINGS])
    except (KeyError, ValueError):
        return {}
    memory = [line.model_dump(by_alias=True) for line in planned_memory(told.planned_memory)]
    return {
        "task": told.task,
        "contextTokens": told.context_tokens,
        "maxSequences": told.max_sequences,
        "kvTokens": told.kv_tokens,
        "progressSeconds": round(told.progress_seconds),
    } | ({"memory": memory} if memory else {})


def _newer(in_force: Frozen, config: OperatorConfig) -> Iterator[str]:
    """Whether the installation has changed since the plan was made: a pinned service is told, and left as it is."""
    if not in_force.installation or in_force.installation == installation_digest(config):
        return
    known = [image.image for image in config.images]
    what = "other settings" if in_force.image in known else f"other images ({', '.join(known)})"
    yield (
        f"The installation has {what} now. This plan stays as it is until the spec changes; "
        "rollout.upgradePolicy: Follow takes them over."
    )
