"""What `up` hands to the instance for one service: the manifest, and what was prepared for it, or why that failed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from llmservice_api.status import ModelStatus, PlanStatus
from llmservice_api.v1alpha1 import LLMService
from llmservice_cli.local.gpus import NO_GPU, GpuNeed
from llmservice_runtime.contract.adapters import Adapter
from llmservice_runtime.contract.failure import FailureRecord
from llmservice_runtime.contract.settings import RuntimeSettings


@dataclass(frozen=True, slots=True)
class Order:
    """Exactly one of `settings` and `failure` is set, or none while the service is being prepared."""

    service: LLMService
    base: str = ""
    """Folder that a relative file:// URI starts from."""
    settings: RuntimeSettings | None = None
    failure: FailureRecord | None = None
    plan: PlanStatus = dataclasses.field(default_factory=PlanStatus)
    revision: str | None = None
    model: ModelStatus | None = None
    """What was found out about the model's files, once they were read."""
    memory_bytes: int = 0
    """Host memory that one replica is planned to take."""
    gpus: GpuNeed = NO_GPU
    """And GPUs."""
    adapters: tuple[Adapter, ...] = ()
    """That replicas are told to load; another choice is no other replica."""
    not_loaded: tuple[tuple[str, str, str], ...] = ()
    """(name, reason, sentence) of the adapters that they are not told of."""

    @property
    def replicas(self) -> int:
        """How many run; 0 = the service is stopped."""
        return self.service.spec.replicas

    def scaled(self, replicas: int) -> Order:
        """The same with another number of replicas."""
        spec = self.service.spec.model_copy(update={"replicas": replicas})
        return dataclasses.replace(self, service=self.service.model_copy(update={"spec": spec}))

    @property
    def managed(self) -> bool:
        """Whether demand decides how many run."""
        scaling = self.service.spec.scaling
        return scaling is not None and scaling.decides

    @property
    def keeps(self) -> int | None:
        """Replicas that stay whatever other services need; None = all, because a person says how many there are."""
        scaling = self.service.spec.scaling
        return scaling.min_replicas if scaling is not None and scaling.decides else None

    @property
    def looked_at(self) -> bool:
        """Whether demand is to be told, and what it would decide."""
        scaling = self.service.spec.scaling
        return scaling is not None and scaling.managed

    def same_model(self, other: Order) -> bool:
        """Whether both ask for the same but for how many replicas: a plan made for one holds for the other."""
        return self._alike(other, replicas=0, scaling=None)

    def same_but_adapters(self, other: Order) -> bool:
        """As `same_model`, whatever adapters there are to be."""
        return self._alike(other, replicas=0, scaling=None, adapters=[])

    def _alike(self, other: Order, **apart: Any) -> bool:
        mine, theirs = (order.service.spec.model_copy(update=apart) for order in (self, other))
        relative = [mine.model.uri, *(adapter.uri for adapter in mine.adapters)]
        return mine == theirs and (self.base == other.base or not any(uri.startswith("file:") for uri in relative))

    @property
    def digest(self) -> str:
        """Equal for orders whose replicas would be the same processes."""
        text = self.settings.to_json() if self.settings else repr(self.failure)
        return hashlib.sha256(f"{self.revision}\n{text}".encode()).hexdigest()[:16]

    def to_body(self) -> dict[str, Any]:
        """As JSON data, for the control socket."""
        return {
            "service": self.service.to_manifest(),
            "base": self.base,
            "settings": json.loads(self.settings.to_json()) if self.settings else None,
            "failure": json.loads(self.failure.to_json()) if self.failure else None,
            "plan": self.plan.model_dump(mode="json"),
            "revision": self.revision,
            "model": self.model.model_dump(mode="json") if self.model else None,
            "memory_bytes": self.memory_bytes,
            "gpus": dataclasses.asdict(self.gpus),
            "adapters": [dataclasses.asdict(adapter) for adapter in self.adapters],
            "not_loaded": [list(one) for one in self.not_loaded],
        }

    @staticmethod
    def from_body(body: dict[str, Any]) -> Order:
        """The reverse of `to_body`; ValueError or KeyError when it is something else."""
        settings, failure, gpus = body["settings"], body["failure"], body.get("gpus") or dataclasses.asdict(NO_GPU)
        return Order(
            service=LLMService.model_validate(body["service"]),
            base=body["base"],
            settings=RuntimeSettings.from_json(json.dumps(settings)) if settings else None,
            failure=FailureRecord.from_json(json.dumps(failure)) if failure else None,
            plan=PlanStatus.model_validate(body["plan"]),
            revision=body["revision"],
            model=ModelStatus.model_validate(body["model"]) if body.get("model") else None,
            memory_bytes=body["memory_bytes"],
            gpus=GpuNeed(**{**gpus, "among": tuple(gpus["among"])}),
            adapters=tuple(Adapter(**adapter) for adapter in body["adapters"]),
            not_loaded=tuple((str(name), str(reason), str(said)) for name, reason, said in body["not_loaded"]),
        )
