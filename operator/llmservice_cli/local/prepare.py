"""From a manifest to something that can be started: resolve, plan, download. Blocks; the progress is shown."""

from __future__ import annotations

from collections.abc import Callable

from llmservice_api.local_mode import cluster_only
from llmservice_api.manifest import Manifest
from llmservice_api.v1alpha1 import PlanStatus
from llmservice_cli.engine_builds import builds_here
from llmservice_cli.local.order import Order
from llmservice_cli.models import fetch_model
from llmservice_cli.places import Places
from llmservice_cli.plans import plan_services, without
from llmservice_operator.planning.explain import refusal_remedy, refusal_text, summary, text
from llmservice_operator.planning.plan import Refusal
from llmservice_operator.planning.to_settings import runtime_settings
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.estimate.probe import read_machine
from llmservice_runtime.sources.progress import Progress

PHASE = "Preparing"
"""`phase` of failures that happen before a runtime exists."""


class Preparation:
    """Prepares one service after the other: what the first is planned to take, the next does not get."""

    def __init__(self, places: Places, say: Callable[[str], None], progress: Progress) -> None:
        self._places = places
        self._say = say
        self._progress = progress
        self._machine = read_machine(builds_here())

    def prepare(self, manifest: Manifest) -> Order:
        """An order with settings, or with the failure that prevents them; nothing is raised that a user can mend."""
        try:
            return self._prepare(manifest)
        except UserError as error:
            return _failed(manifest, FailureRecord(error.failure, error.reason, error.remedy, PHASE))

    def _prepare(self, manifest: Manifest) -> Order:
        name = manifest.service.full_name
        (planned,) = plan_services([manifest], self._machine, self._places)
        plan = planned.plan
        if isinstance(plan, Refusal):
            self._say(refusal_text(name, plan))
            return _failed(manifest, FailureRecord(plan.failure, plan.reason, refusal_remedy(plan), PHASE))
        self._say(text(name, plan))
        for sentence in cluster_only(manifest.service.spec):
            self._say(f"{name}: {sentence}")
        if plan.missing:
            message = f"The planned engine {plan.engine.value} is not installed on this machine."
            return _failed(manifest, FailureRecord(FailureClass.ENGINE_NOT_INSTALLED, message, plan.missing, PHASE))
        self._machine = without(self._machine, plan, max(1, manifest.service.spec.replicas))
        path = fetch_model(planned.model, self._places, self._progress)
        return Order(
            manifest.service,
            str(manifest.base),
            settings=runtime_settings(plan, manifest.service, str(path)),
            plan=PlanStatus(engine=plan.engine.value, reason=plan.reason, summary=summary(plan)),
            revision=planned.model.files.revision or None,
        )


def _failed(manifest: Manifest, failure: FailureRecord) -> Order:
    return Order(manifest.service, str(manifest.base), failure=failure)
