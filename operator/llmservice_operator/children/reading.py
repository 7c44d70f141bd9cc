"""What a Job read of a model, kept where no plan keeps it: a ControllerRevision that holds nothing else."""

from __future__ import annotations

from llmservice_api.labels import PREPARE
from llmservice_operator.facts.owner import Json, Owner
from llmservice_runtime.prepare.report import Prepared


def reading(owner: Owner, job: str, prepared: Prepared) -> Json:
    """The object, under the name of its `job`; at most the 4 KiB of a report, and its data can't be changed."""
    data = {"prepared": prepared.to_json()}
    return owner.child("apps/v1", "ControllerRevision", job, PREPARE, revision=0, data=data)


def read_back(kept: Json | None) -> Prepared | None:
    """What it holds; None without one, and of one that another release wrote in a way that this one can't read."""
    try:
        return Prepared.from_json(kept["data"]["prepared"]) if kept is not None else None
    except ValueError:
        return None
