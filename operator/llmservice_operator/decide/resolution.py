"""Which content of the model: that of the plan that is kept, until there is a reason to ask the source anew.

A plan keeps the revision that was read once. When the spec names no revision that fixes the content, the source is read
again when spec.model was edited since, and when a download says that the source has something else now. What was read
then is another plan for the same spec.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.children.fetch_job import fetch_name
from llmservice_operator.children.model_access import ModelAccess
from llmservice_operator.children.prepare_job import job_name
from llmservice_operator.children.revision import kept_revision
from llmservice_operator.decide.preparation import RETRY_SECONDS, Preparation, inspection_of, preparation
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.frozen import Frozen, thaw
from llmservice_operator.facts.live import Live, revision_of, seconds_since
from llmservice_operator.facts.owner import Json, Owner
from llmservice_operator.facts.pod_fields import FETCH
from llmservice_runtime.contract.failure import FailureClass, FailureRecord

_GONE = (FailureClass.MODEL_CHANGED, FailureClass.MODEL_NOT_FOUND)
"""What a download says when the source no longer has the revision that it asked for."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """`kept` is the plan that is there for this spec; `job` the Job that reads the headers, `made` what came of it.

    `again` says why the source is read another time (a clause); empty when it is not.
    """

    kept: Frozen | None
    job: str
    made: Preparation
    again: str = ""

    @property
    def settled(self) -> Frozen | None:
        """The kept plan, where nothing better is to be had: the source was not asked, has the same, or is away."""
        if self.kept is None or not self.again:
            return self.kept
        found, problem = self.made.prepared, self.made.problem
        same = found is not None and found.revision == self.kept.resolved_revision
        away = problem is not None and problem.reason == FailureClass.HUB_UNREACHABLE
        return self.kept if same or away else None


def resolution(
    owner: Owner, spec: LLMServiceSpec, access: ModelAccess, live: Live, config: OperatorConfig, now: datetime
) -> Resolution:
    """What is known of the model's content, and what is asked."""
    kept, plain = kept_revision(owner, spec, config, live.revisions), job_name(owner, spec)
    if kept is not None and _superseded(kept, live):
        kept = None
    if kept is None or spec.model.revision == kept.resolved_revision:
        return Resolution(kept, plain, inspection_of(live, plain, now))
    gone = _gone(owner, spec, access, kept, live, now)
    if gone and kept.again and (rest := _rest(kept, live, now)):
        return Resolution(kept, plain, dataclasses.replace(inspection_of(live, plain, now), retry_in=rest))
    again = f"the source no longer has {kept.resolved_revision or 'it'}" if gone else _edited(kept, live)
    if not again:
        return Resolution(kept, plain, inspection_of(live, plain, now))
    newest = max(live.revisions.values(), key=lambda revision: int(revision["revision"]))
    job = job_name(owner, spec, after=newest["metadata"]["name"])
    made = preparation(live, job, now)
    if gone and made.prepared is not None and made.prepared.revision == kept.resolved_revision:
        # The source can't make up its mind: the download is tried again, and so is this.
        ended = live.jobs[job].get("status", {}).get("completionTime")
        made = dataclasses.replace(made, retry_in=max(0.0, RETRY_SECONDS - seconds_since(ended, now)))
    return Resolution(kept, job, made, again)


def _superseded(kept: Frozen, live: Live) -> bool:
    """Whether other content was found since, for another spec of the same model."""
    plans = (thaw(revision) for revision in live.revisions.values())
    newest = max((plan for plan in plans if plan.job == kept.job), key=lambda plan: plan.number, default=kept)
    return newest.number > kept.number and newest.resolved_revision != kept.resolved_revision


def _rest(kept: Frozen, live: Live, now: datetime) -> float:
    """Seconds until a source that changes under every download is read once more: it would roll without an end."""
    made = live.revisions.get(kept.name, {}).get("metadata", {}).get("creationTimestamp")
    return max(0.0, RETRY_SECONDS - seconds_since(made, now))


def _edited(kept: Frozen, live: Live) -> str:
    """Whether another model ran since: an edit that nothing came of changes nothing."""
    running = live.running()
    if running is None or not running.job or running.number <= kept.number or running.job == kept.job:
        return ""
    return "spec.model was edited since it was read"


def _gone(owner: Owner, spec: LLMServiceSpec, access: ModelAccess, kept: Frozen, live: Live, now: datetime) -> bool:
    """Whether a download of the kept plan failed because the source has something else now."""
    if access.shared:
        problem = preparation(live, fetch_name(owner, spec, kept), now).problem
        return problem is not None and problem.reason in _GONE
    mine = [pod for pod in live.replicas if revision_of(pod) == kept.name]
    records = (_download_failure(container) for pod in mine for container in _downloads(pod))
    return any(record is not None and record.failure in _GONE for record in records)


def _downloads(pod: Json) -> Iterator[Json]:
    return (found for found in pod.get("status", {}).get("initContainerStatuses", ()) if found["name"] == FETCH)


def _download_failure(container: Json) -> FailureRecord | None:
    """How it ended last, also while it is tried again."""
    states = (container.get(name, {}).get("terminated") for name in ("state", "lastState"))
    ended: Json = next((state for state in states if state), {})
    try:
        return FailureRecord.from_json(ended.get("message", ""))
    except ValueError:
        return None
