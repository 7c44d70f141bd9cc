"""How far a Job is that prepares a model: what it reported, what went wrong, and when to try it again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from llmservice_api.conditions import Reason
from llmservice_operator.children.prepare_job import INSPECT
from llmservice_operator.diagnosis.pods import Case, ending, pod_problem
from llmservice_operator.diagnosis.refusal import way_out
from llmservice_operator.facts.live import Live, condition, holds, seconds_since
from llmservice_operator.facts.problem import Problem
from llmservice_operator.facts.values import Json
from llmservice_operator.facts.waiting import last
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.prepare.report import Prepared

RETRY_SECONDS = 300
"""After a Job failed: a Secret may have been corrected, a hub may be back, and no event would tell."""
NO_POD_SECONDS = 30
REPORT_SECONDS = 10
"""A Job may be seen to be done this much earlier than its pod, which has the report: they come by two watches."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """How far a Job is. `done` = it succeeded. `lost` = done, but its report is gone with its pod.

    `retry_in` = seconds until a failed Job is made anew.
    """

    prepared: Prepared | None = None
    problem: Problem | None = None
    done: bool = False
    lost: bool = False
    retry_in: float | None = None


def preparation(live: Live, name: str, now: datetime) -> Preparation:
    """Of the Job called `name`, which need not exist."""
    job = live.jobs.get(name)
    if job is None or "deletionTimestamp" in job["metadata"]:
        return Preparation()
    pods = live.pods_of_job(name)
    prepared, unreadable = _report(pods)
    if holds(job, "Complete"):
        if unreadable:
            return Preparation(problem=unreadable)
        ended = job["status"].get("completionTime")
        coming = ended is not None and seconds_since(ended, now) < REPORT_SECONDS
        return Preparation(prepared, done=True, lost=prepared is None and not coming)
    problem = _problem(live, pods, now)
    failed = condition(job, "Failed")
    if failed is not None and failed["status"] == "True":
        waited = seconds_since(failed.get("lastTransitionTime"), now)
        said = Problem(FailureClass.CRASHED, f"The Job {name} failed: {failed.get('message', '')}")
        return Preparation(prepared, problem or said, retry_in=max(0.0, RETRY_SECONDS - waited))
    return Preparation(prepared, problem or _no_pod(live, job, pods, now))


def inspection_of(live: Live, name: str, now: datetime) -> Preparation:
    """Of the Job called `name` that reads headers; what it once reported is kept in the plans that were made of it."""
    found = preparation(live, name, now)
    if found.prepared is not None:
        return found
    kept = [revision for revision in live.revisions.values() if revision.get("data", {}).get("job") == name]
    if not kept:
        return found
    newest = max(kept, key=lambda revision: int(revision.get("revision", 0)))
    try:
        return Preparation(Prepared.from_json(newest["data"].get("prepared", "")), done=True)
    except ValueError:
        return found  # of another release: it is read again


def _report(pods: tuple[Json, ...]) -> tuple[Prepared | None, Problem | None]:
    """What the newest pod that got so far reported; a problem when its report can't be read."""
    for pod in reversed(pods):
        for ended in _ends(pod):
            if ended["exitCode"] == 0 and ended["name"] == INSPECT:
                try:
                    return Prepared.from_json(ended.get("message", "")), None
                except ValueError as error:
                    text = f"The runtime image's report can't be read ({error}). Use images of the operator's release."
                    return None, Problem(FailureClass.CRASHED, text)
    return None, None


def _problem(live: Live, pods: tuple[Json, ...], now: datetime) -> Problem | None:
    """Of the newest pod that has one: while a failure is tried again, it is still what is known."""
    for pod in reversed(pods):
        case = Case(pod, now, events=live.events_of(pod), what="pod that prepares the model")
        for ended in _ends(pod):
            if ended["exitCode"] and (problem := ending(case, {"name": ended["name"]}, ended)):
                return problem
        if problem := pod_problem(case):
            return problem
    return None


def _no_pod(live: Live, job: Json, pods: tuple[Json, ...], now: datetime) -> Problem | None:
    if job["spec"].get("suspend"):
        return Problem(Reason.WAITING, f"A queue holds the Job {job['metadata']['name']} back until it admits it.")
    said = last(live.events_of(job), "FailedCreate").removeprefix("Error creating: ")
    if pods or (not said and seconds_since(job["metadata"].get("creationTimestamp"), now) < NO_POD_SECONDS):
        return None
    name = job["metadata"]["name"]
    if said:
        return Problem(Reason.WRITE_REFUSED, f"The Job {name} can't make its pod: {said}. {way_out(said)}")
    return Problem(
        Reason.WRITE_REFUSED,
        f"The Job {name} can't make its pod: a quota or an admission rule refuses it, or there is no ServiceAccount. "
        f"See kubectl describe job {name}.",
    )


def _ends(pod: Json) -> list[Json]:
    """The containers of a pod that ended, with their names."""
    status = pod.get("status", {})
    containers = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    return [
        {**ended, "name": container["name"]}
        for container in containers
        if (ended := container.get("state", {}).get("terminated"))
    ]
