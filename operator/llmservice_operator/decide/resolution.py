"""Which content of the model: that of the plan that is kept, until there is a reason to ask the source anew.

A plan keeps the revision that was read once, and so does every other plan for the same spec.model. When the spec names
no revision that fixes the content, the source is read again when spec.model was edited since, and when a download says
that the source has something else now. What was read then is another plan for the same spec.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.children.fetch_job import fetch_name
from llmservice_operator.children.model_access import ModelAccess
from llmservice_operator.children.prepare_job import job_name, model_digest
from llmservice_operator.children.reading import read_back
from llmservice_operator.children.revision import kept_revision
from llmservice_operator.decide.preparation import RETRY_SECONDS, Preparation, inspection_of, preparation
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.frozen import Frozen, thaw
from llmservice_operator.facts.live import Live, revision_of, seconds_since
from llmservice_operator.facts.owner import Json, Owner
from llmservice_operator.facts.pod_fields import FETCH
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.prepare.report import Prepared

_GONE = (FailureClass.MODEL_CHANGED, FailureClass.MODEL_NOT_FOUND)
"""What a download says when the source no longer has the revision that it asked for."""
_NOT_TO_BE_HAD = (*_GONE, FailureClass.HUB_UNREACHABLE)
_EDITED = "spec.model was edited since it was read"
_READ_LESS = "an earlier release read less of its headers than is planned with"


@dataclass(frozen=True, slots=True)
class Resolution:
    """`kept` is the plan that is there for this spec; `job` the Job that reads the headers, `made` what came of it.

    `again` says why the source is read another time (a clause); empty when it is not. `known` = what was read is kept
    in a plan or by itself, so that the Job need not be there.
    """

    kept: Frozen | None
    job: str
    made: Preparation
    again: str = ""
    known: bool = False
    revision: str = ""
    """What the Job is to read, where it must be the content that was read before."""
    before: str = ""
    """The Job whose findings it renews: they are kept until a plan is made."""

    @property
    def settled(self) -> Frozen | None:
        """The kept plan, where nothing better is to be had: the source was not asked, has the same, or is away."""
        if self.kept is None or not self.again:
            return self.kept
        found = self.made.prepared
        same = found is not None and found.revision == self.kept.resolved_revision
        return self.kept if same or _away(self.made) else None


def resolution(
    owner: Owner, spec: LLMServiceSpec, access: ModelAccess, live: Live, config: OperatorConfig, now: datetime
) -> Resolution:
    """What is known of the model's content, and what is asked."""
    return _renewed(_resolution(owner, spec, access, live, config, now), owner, spec, live, now)


def _renewed(found: Resolution, owner: Owner, spec: LLMServiceSpec, live: Live, now: datetime) -> Resolution:
    """The same, where it is to be planned with facts that an earlier release read less of: the headers are read again.

    It is the same content that is read, and a plan in force asks for nothing. Where it is not to be had, what is known
    is planned with, and so it is where the runtime's image is of the earlier release.
    """
    old = found.made.prepared
    if found.kept is not None or found.again or old is None or not old.lacking:
        return found
    job = job_name(owner, spec, after=f"less {old.revision}")
    kept = read_back(live.readings.get(job))
    made = inspection_of(live, job, kept, now)
    renewed = Resolution(None, job, made, _READ_LESS, kept is not None, old.revision, found.job)
    problem = made.problem
    if problem is None or problem.reason not in _NOT_TO_BE_HAD:
        return renewed
    said = f"It was read by an earlier release, and can't be read anew: {problem.message}"
    made = dataclasses.replace(made, prepared=old, problem=None, done=True, beside=said)
    return dataclasses.replace(renewed, made=made, again="")


def _resolution(
    owner: Owner, spec: LLMServiceSpec, access: ModelAccess, live: Live, config: OperatorConfig, now: datetime
) -> Resolution:
    model, plain = model_digest(spec), job_name(owner, spec)
    plans = [thaw(revision) for revision in live.revisions.values()]
    same = max((plan for plan in plans if plan.same_model(model, plain)), key=lambda plan: plan.number, default=None)
    kept = kept_revision(owner, spec, config, live.revisions)
    if kept is not None and same is not None and _superseded(kept, same):
        kept = None
    content = [plan for plan in plans if plan.about(model, plain) and _same_content(plan, same)]
    newest = max(content, key=lambda plan: plan.number, default=kept)
    if kept is None and newest is None and same is not None:
        return _other_weights(owner, spec, live, same, now)
    known = _prepared(newest) or read_back(live.readings.get(plain))
    plain_one = Resolution(kept, plain, inspection_of(live, plain, known, now), known=known is not None)
    last = kept or (newest if _prepared(newest) else None)
    if last is None or spec.model.revision == last.resolved_revision:
        return plain_one
    gone = kept is not None and _gone(owner, spec, access, kept, live, now)
    if gone and last.again and (rest := _rest(last, live, now)):
        return dataclasses.replace(plain_one, made=dataclasses.replace(plain_one.made, retry_in=rest))
    if not gone and not _edited(last, live, model, plain):
        return plain_one
    again = f"the source no longer has {last.resolved_revision or 'it'}" if gone else _EDITED
    job = job_name(owner, spec, after=max(plans, key=lambda plan: plan.number).name)
    found = read_back(live.readings.get(job))
    made = inspection_of(live, job, found, now)
    if kept is None and _away(made):  # the Job is left where no plan comes of it: it would be made anew at once
        known_one = dataclasses.replace(plain_one.made, retry_in=made.retry_in)
        return Resolution(None, job, known_one, before=plain)
    if gone and made.prepared is not None and made.prepared.revision == last.resolved_revision:
        # The source can't make up its mind: the download is tried again, and so is this.
        wait = max(0.0, RETRY_SECONDS - seconds_since(_read_at(live, job), now))
        made = dataclasses.replace(made, retry_in=wait)
    return Resolution(kept, job, made, again, known=found is not None)


def _other_weights(owner: Owner, spec: LLMServiceSpec, live: Live, same: Frozen, now: datetime) -> Resolution:
    """The same content as a plan's, read for an engine that may take other files of it; what is there now, where the
    source no longer has that."""
    revision = same.resolved_revision
    job = before = job_name(owner, spec, after=f"as {revision}")
    kept = read_back(live.readings.get(job))
    made = inspection_of(live, job, kept, now)
    if made.problem is not None and made.problem.reason in _GONE:
        job, revision = job_name(owner, spec, after=f"instead of {revision}"), ""
        kept = read_back(live.readings.get(job))
        made = inspection_of(live, job, kept, now)
    return Resolution(None, job, made, known=kept is not None, revision=revision, before=before)


def _same_content(plan: Frozen, other: Frozen | None) -> bool:
    return other is None or plan.resolved_revision == other.resolved_revision


def _read_at(live: Live, job: str) -> str | None:
    """When a Job was done."""
    if (kept := live.readings.get(job)) is not None:
        at: str | None = kept["metadata"].get("creationTimestamp")
    else:
        at = live.jobs[job].get("status", {}).get("completionTime")
    return at


def _prepared(plan: Frozen | None) -> Prepared | None:
    """What was read of the model, as a plan keeps it."""
    try:
        return Prepared.from_json(plan.prepared) if plan is not None else None
    except ValueError:
        return None  # of another release: it is read again


def _away(made: Preparation) -> bool:
    return made.problem is not None and made.problem.reason == FailureClass.HUB_UNREACHABLE


def _superseded(kept: Frozen, newest: Frozen) -> bool:
    """Whether other content was found since, for another spec of the same model."""
    return newest.number > kept.number and not _same_content(newest, kept)


def _rest(kept: Frozen, live: Live, now: datetime) -> float:
    """Seconds until a source that changes under every download is read once more: it would roll without an end."""
    made = live.revisions.get(kept.name, {}).get("metadata", {}).get("creationTimestamp")
    return max(0.0, RETRY_SECONDS - seconds_since(made, now))


def _edited(last: Frozen, live: Live, model: str, job: str) -> bool:
    """Whether another model ran since: an edit that nothing came of changes nothing."""
    running = live.running()
    if running is None or not running.job or running.number <= last.number:
        return False
    return not running.same_model(model, job)


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
