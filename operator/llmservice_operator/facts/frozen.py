"""The plan in force, as a ControllerRevision keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmservice_operator.facts.owner import Json


@dataclass(frozen=True, slots=True)
class Frozen:
    """A plan with the pod template it became; `number` orders revisions by when they were made."""

    name: str
    number: int
    engine: str
    reason: str
    summary: str
    fit: str
    resolved_revision: str
    resource: str
    image: str
    notes: list[str]
    installation: str
    """Digest of the installation that it was planned with."""
    job: str
    """Name of the Job that reads the headers for the same spec."""
    prepared: str
    """The model's facts as the Job reported them: another plan for the same model needs no other look at it."""
    progress_seconds: int
    template: Json
    plan: Json
    """The whole plan, for people."""
    again: str = ""
    """Why the model was read another time for it (a clause); empty when it was not."""
    model: str = ""
    """Digest of spec.model and of which of its weights `prepared` is about; empty in plans of an earlier release."""

    def about(self, model: str, job: str) -> bool:
        """Whether it is a plan for a model, given by its digest; plans of an earlier release only know their `job`."""
        return self.model == model if self.model else self.job == job

    def same_model(self, model: str, job: str) -> bool:
        """Whether it is a plan for the same spec.model, be it other weights of it for another engine."""
        return self.about(model, job) or (self.model != "" and self.model.split("-")[0] == model.split("-")[0])

    @property
    def which(self) -> str:
        """Which weights were read because an engine was named; empty = what Auto takes."""
        return self.model.partition("-")[2]


KEPT: dict[str, type[Any]] = {
    "engine": str,
    "reason": str,
    "summary": str,
    "fit": str,
    "resolved_revision": str,
    "resource": str,
    "image": str,
    "notes": list,
    "installation": str,
    "job": str,
    "prepared": str,
    "progress_seconds": int,
    "template": dict,
    "plan": dict,
    "again": str,
    "model": str,
}
"""What of it is kept, and the type of each."""


def thaw(revision: Mapping[str, Any]) -> Frozen:
    """What a live ControllerRevision keeps, written by this release or another: the template is what counts."""
    data = revision.get("data", {})
    return Frozen(
        name=revision["metadata"]["name"],
        number=int(revision.get("revision", 0)),
        **{name: data.get(name, kind()) for name, kind in KEPT.items()},
    )
