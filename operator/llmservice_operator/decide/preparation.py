"""How far a Job is that prepares a model: what it reported, what went wrong, and when to try it again."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime

from llmservice_api.conditions import Reason
from llmservice_operator.diagnosis.case import Case
from llmservice_operator.diagnosis.held_up import SWITCH_OFF, container_status, goes_on, held_up
from llmservice_operator.diagnosis.pods import ending, pod_problem
from llmservice_operator.diagnosis.refusal import JOB, way_out, without_pod
from llmservice_operator.facts.live import Live, condition, holds, seconds_since
from llmservice_operator.facts.pod_fields import ADAPTER, FETCH, INSPECT
from llmservice_operator.facts.problem import Problem
from llmservice_operator.facts.values import Json
from llmservice_operator.facts.waiting import last
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.prepare.report import Prepared
from llmservice_runtime.prepare.run import TRY_AGAIN

OWN = (INSPECT, FETCH, ADAPTER)
"""Containers of ours in these Jobs: others that are put beside them decide nothing."""
RETRY_SECONDS = 300
"""After a Job failed: a Secret may have been corrected, a hub may be back, and no event would tell."""
PASSING_SECONDS = 30
"""The same where only a container that goes on keeps the Job from trying again what may pass by itself."""
END_SECONDS = 30
"""What else runs in a Job's pod may take so long to end after our container."""
NO_POD_SECONDS = 30
REPORT_SECONDS = 10
"""A Job may be seen to be done this much earlier than its pod, which has the report: they come by two watches."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """How far a Job is. `done` = our container succeeded. `lost` = done, but its report is gone with its pod.

    `retry_in` = seconds until a failed Job is made anew. `end_in` = seconds until a Job that is done and goes on,
    because of a container that is not ours (`beside`, as a sentence), is ended.
    """

    prepared: Prepared | None = None
    problem: Problem | None = None
    done: bool = False
    lost: bool = False
    retry_in: float | None = None
    end_in: float | None = None
    beside: str = ""


def preparation(live: Live, name: str, now: datetime) -> Preparation:
    """Of the Job called `name`, which need not exist."""
    job = live.jobs.get(name)
    if job is None or "deletionTimestamp" in job["metadata"]:
        return Preparation()
    pods = live.pods_of_job(name)
    succeeded = next((pod for pod in reversed(pods) if _succeeded(pod)), None)
    prepared, no_report = _report(succeeded) if succeeded is not None else (None, None)
    if no_report:
        return Preparation(problem=no_report)
    if holds(job, "Complete"):
        ended = job["status"].get("completionTime")
        coming = ended is not None and seconds_since(ended, now) < REPORT_SECONDS
        return Preparation(prepared, done=True, lost=prepared is None and not coming)
    if succeeded is not None:
        wait = max(0.0, END_SECONDS - _ended_for(succeeded, now))
        return Preparation(prepared, done=True, end_in=wait, beside="" if wait else _beside(succeeded))
    problem = _problem(live, pods, now)
    failed = condition(job, "Failed")
    if failed is not None and failed["status"] == "True":
        waited = seconds_since(failed.get("lastTransitionTime"), now)
        said = Problem(FailureClass.CRASHED, f"The Job {name} failed: {failed.get('message', '')}")
        return Preparation(problem=problem or said, retry_in=max(0.0, RETRY_SECONDS - waited))
    if problem is not None and pods and goes_on(pods[-1], own_name(pods[-1])) and (code := _exit_code(pods[-1])):
        wait = PASSING_SECONDS if code == TRY_AGAIN else RETRY_SECONDS
        return Preparation(problem=problem, retry_in=max(0.0, wait - _ended_for(pods[-1], now)))
    return Preparation(problem=problem or _no_pod(live, job, pods, now))


def inspection_of(live: Live, name: str, known: Prepared | None, now: datetime) -> Preparation:
    """Of the Job called `name` that reads headers, which it need not do where they are `known`."""
    found = preparation(live, name, now)
    if known is None:
        return found
    return dataclasses.replace(found, prepared=known, problem=None, done=True, lost=False, retry_in=None)


def _report(pod: Json) -> tuple[Prepared | None, Problem | None]:
    """What a pod reported that read headers; a problem when its report can't be read."""
    ended = _own_end(pod)
    if ended is None or own_name(pod) != INSPECT:
        return None, None
    try:
        return Prepared.from_json(ended.get("message", "")), None
    except ValueError as error:
        return None, unreadable(error)


def unreadable(error: ValueError) -> Problem:
    """A report that is none."""
    text = f"The runtime image's report can't be read ({error}). Use images of the operator's release."
    return Problem(FailureClass.CRASHED, text)


def reported(live: Live, job: str) -> str:
    """What our container reported in the newest pod of a Job that succeeded; empty when none did."""
    pod = next((pod for pod in reversed(live.pods_of_job(job)) if _succeeded(pod)), None)
    ended = _own_end(pod) if pod is not None else None
    return str(ended.get("message", "")) if ended is not None else ""


def _problem(live: Live, pods: tuple[Json, ...], now: datetime) -> Problem | None:
    """Of the newest pod that has one: while a failure is tried again, it is still what is known.

    While our container runs, nothing that became of others is a problem: it will say itself what it lacks.
    """
    for pod in reversed(pods):
        own = container_status(pod, own_name(pod))
        case = Case(pod, now, events=live.events_of(pod), what="pod that prepares the model")
        if own is not None and "running" in own.get("state", {}):
            alone = {**pod.get("status", {}), "containerStatuses": [own], "initContainerStatuses": []}
            case = dataclasses.replace(case, pod={**pod, "status": alone})
        ended = _own_end(pod)
        if own is not None and ended is not None and (problem := ending(case, own, ended)):
            return problem
        if problem := pod_problem(case) or held_up(case, own_name(pod)):
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
        way = way_out(said, JOB)
        return Problem(Reason.WRITE_REFUSED, f"The Job {name} can't make its pod: {without_pod(said)}. {way}")
    return Problem(
        Reason.WRITE_REFUSED,
        f"The Job {name} can't make its pod: a quota or an admission rule refuses it, or there is no ServiceAccount. "
        f"See kubectl describe job {name}.",
    )


def own_name(pod: Json) -> str:
    """Which of our containers a Job's pod has."""
    names = {container["name"] for container in pod.get("status", {}).get("containerStatuses", ())}
    return next((name for name in OWN if name in names), INSPECT)


def _own_end(pod: Json) -> Json | None:
    """How our container ended; None while it has not."""
    own = container_status(pod, own_name(pod))
    return own.get("state", {}).get("terminated") if own is not None else None


def _exit_code(pod: Json) -> int | None:
    ended = _own_end(pod)
    return int(ended["exitCode"]) if ended is not None else None


def _succeeded(pod: Json) -> bool:
    return _exit_code(pod) == 0


def _ended_for(pod: Json, now: datetime) -> float:
    """Seconds since our container ended."""
    return seconds_since((_own_end(pod) or {}).get("finishedAt"), now)


def _beside(pod: Json) -> str:
    """What goes on in the pod, as a sentence; empty when nothing does."""
    if not (name := goes_on(pod, own_name(pod))):
        return ""
    return f"The container {name} of the pod {pod['metadata']['name']} goes on after its work is done: {SWITCH_OFF}."
