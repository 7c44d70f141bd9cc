"""The fields that only mean something in a cluster: resources, cache, rollout and the pod template."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from llmservice_api.live import LIVE
from llmservice_api.patterns import NODE_PATH, QUANTITY, SUBDOMAIN
from llmservice_api.rules import RULE_BROKEN, ApiModel, Rule, no_entries

Quantity = Annotated[str, StringConstraints(pattern=QUANTITY, min_length=1, max_length=32)]


class ResourceAmounts(ApiModel):
    """Amounts of CPU, memory and the node's disk."""

    cpu: Quantity | None = Field(default=None, description="Cores.")
    memory: Quantity | None = Field(default=None, description="Bytes of memory.")
    ephemeral_storage: Quantity | None = Field(
        default=None,
        alias="ephemeral-storage",
        description="Bytes of the node's disk: logs, temporary files, and a cache of type EmptyDir.",
    )

    def amounts(self) -> dict[str, str]:
        """Those that are said, by the names that pods have for them."""
        found: dict[str, str] = self.model_dump(by_alias=True, exclude_none=True)
        return found


class ResourcesSpec(ApiModel):
    """What one replica asks of its node, beside accelerators. Clusters only."""

    requests: ResourceAmounts = Field(
        default_factory=ResourceAmounts.omitted,
        description="What is reserved. Omitted = the limits, else the planned memory and half a core.",
    )
    limits: ResourceAmounts = Field(
        default_factory=ResourceAmounts.omitted,
        description="What may be used. The plan stays below the memory limit. Omitted = no limit.",
    )


class PrepareResources(ApiModel):
    """What a container asks for that reads the model's headers or downloads it."""

    requests: ResourceAmounts = Field(
        default_factory=ResourceAmounts.omitted,
        description="What is reserved. Omitted = the installation's, but no more than the limit: usually 0.1 cores and "
        "256 MiB.",
    )
    limits: ResourceAmounts = Field(
        default_factory=ResourceAmounts.omitted,
        description="What may be used. Omitted = the installation's, but no less than the request: usually 2 cores and "
        "512 MiB.",
    )


class PrepareSpec(ApiModel):
    """The Jobs that read and download the model, and the init container by which a replica downloads. Clusters only."""

    resources: PrepareResources = Field(
        default_factory=PrepareResources.omitted, description="What each of their containers asks of its node."
    )


class CacheType(StrEnum):
    """Where models are kept."""

    EMPTY_DIR = "EmptyDir"
    PERSISTENT_VOLUME_CLAIM = "PersistentVolumeClaim"
    HOST_PATH = "HostPath"


class AccessMode(StrEnum):
    """How a claim that is made can be mounted."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"


class ClaimSpec(ApiModel):
    """A PersistentVolumeClaim in the service's namespace: one that is there, or one that is made."""

    rules = (
        Rule(
            ".claimName",
            "has(self.claimName) != has(self.size)",
            lambda self: (self.claim_name is None) != (self.size is None),
            "it is not clear which claim is meant.",
            "Name one that is there in claimName, or give the size of one to be made.",
        ),
        Rule(
            ".storageClassName",
            "!has(self.claimName) || (!has(self.storageClassName) && !has(self.accessModes))",
            lambda self: self.claim_name is None or (self.storage_class_name is None and self.access_modes is None),
            "storageClassName and accessModes are of a claim to be made, and claimName names one that is there.",
            "Leave them out, or give size instead of claimName.",
        ),
    )

    claim_name: Annotated[str, StringConstraints(pattern=SUBDOMAIN, min_length=1, max_length=253)] | None = Field(
        default=None,
        description="Name of a claim that is there. Replicas on several nodes need one that several nodes can mount.",
    )
    size: Annotated[Quantity | None, LIVE] = Field(
        default=None,
        description="Size of a claim that is made as <name>-models. It goes with the service, not before.",
    )
    storage_class_name: Annotated[
        Annotated[str, StringConstraints(pattern=SUBDOMAIN, min_length=1, max_length=253)] | None, LIVE
    ] = Field(default=None, description="StorageClass of the claim that is made. Omitted = the cluster's default.")
    access_modes: Annotated[Annotated[list[AccessMode], Field(min_length=1, max_length=2)] | None, LIVE] = Field(
        default=None,
        description="Access modes of the claim that is made. Omitted = ReadWriteOnce, for one replica; more need "
        "ReadWriteMany.",
    )

    @property
    def one_node(self) -> bool:
        """Whether the claim that is made can be mounted on one node only."""
        return self.size is not None and AccessMode.READ_WRITE_MANY not in (self.access_modes or ())


class HostPathSpec(ApiModel):
    """A directory of the node that a replica runs on."""

    rules = (
        Rule(
            ".path",
            "!self.path.matches('/[.]{1,2}(/|$)')",
            lambda self: not {".", ".."} & set(self.path.split("/")),
            "the path goes through '.' or '..'.",
            "Write the path that it leads to.",
        ),
    )

    path: Annotated[str, StringConstraints(pattern=NODE_PATH, min_length=2, max_length=1024)] = Field(
        description="Absolute path of a directory that is on every node and that the pods' user can write. The "
        "installation says which ones services may use (hostPaths)."
    )


class PrunePolicy(StrEnum):
    """What becomes of models in a cache that nothing uses."""

    WHEN_FULL = "WhenFull"
    NEVER = "Never"


class CacheSpec(ApiModel):
    """Where downloaded models are kept. Clusters only; on one machine LLMSERVICE_CACHE_DIR says it."""

    rules = (
        Rule(
            ".persistentVolumeClaim",
            "(self.type == 'PersistentVolumeClaim') == has(self.persistentVolumeClaim)",
            lambda self: (self.type is CacheType.PERSISTENT_VOLUME_CLAIM) == (self.persistent_volume_claim is not None),
            "type and persistentVolumeClaim contradict each other.",
            "Set type: PersistentVolumeClaim and say which claim in persistentVolumeClaim, or neither.",
        ),
        Rule(
            ".hostPath",
            "(self.type == 'HostPath') == has(self.hostPath)",
            lambda self: (self.type is CacheType.HOST_PATH) == (self.host_path is not None),
            "type and hostPath contradict each other.",
            "Set type: HostPath and say which directory in hostPath.path, or neither.",
        ),
    )

    type: CacheType = Field(
        default=CacheType.EMPTY_DIR,
        description="EmptyDir: every replica downloads the model. PersistentVolumeClaim: it is downloaded once, before "
        "a replica starts, and stays. HostPath: it is downloaded once per node, by the first replica there, and stays.",
    )
    persistent_volume_claim: ClaimSpec | None = Field(
        default=None, description="The claim, when type is PersistentVolumeClaim."
    )
    host_path: HostPathSpec | None = Field(default=None, description="The directory, when type is HostPath.")
    prune: PrunePolicy = Field(
        default=PrunePolicy.WHEN_FULL,
        description="WhenFull: when a model has no room, those that nothing uses are removed, the longest unused "
        "first; never one that a replica runs or another service has. Never: nothing is removed; the download fails.",
    )


class UpgradePolicy(StrEnum):
    """What an upgrade of the operator changes."""

    PINNED = "Pinned"
    FOLLOW = "Follow"


class RolloutSpec(ApiModel):
    """When replicas are replaced. Clusters only."""

    upgrade_policy: Annotated[UpgradePolicy, LIVE] = Field(
        default=UpgradePolicy.PINNED,
        description="Pinned: replicas change when the spec does, never with the operator. Follow: an upgrade of the "
        "operator, or another image or environment of its installation, plans anew and rolls out.",
    )


class PodMetadata(ApiModel):
    """Labels and annotations of pods."""

    labels: dict[str, Annotated[str, StringConstraints(max_length=63)]] = Field(
        default_factory=no_entries, max_length=64, description="Labels, beside those of llmservice.dev."
    )
    annotations: dict[str, Annotated[str, StringConstraints(max_length=8192)]] = Field(
        default_factory=no_entries, max_length=64, description="Annotations, beside those of llmservice.dev."
    )


POD_TEMPLATE_LIMIT = 32_768
"""Bytes of a pod template as JSON: it is kept in every revision."""


class PodTemplate(ApiModel):
    """A partial PodTemplateSpec, merged last into the pods of replicas. Clusters only."""

    metadata: PodMetadata = Field(
        default_factory=PodMetadata.omitted,
        description="Labels and annotations of replicas and of the Jobs that prepare.",
    )
    spec: dict[str, Any] = Field(
        default_factory=no_entries,
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
        description="A partial PodSpec. Lists merge as in a strategic merge patch (containers, env and volumes by "
        "name, volumeMounts by mountPath), tolerations and envFrom are added, null removes. The engine's container is "
        "`runtime`. What the plan owns is refused with the field to use instead; what reaches beyond a pod of the "
        "namespace, and what is unknown, needs the installation's leave; what else is overridden stands in "
        "status.plan.notes. Pull secrets, security context, tolerations, node selection, volumes, and the runtime's "
        "env, envFrom, volumeMounts and security context also reach the Jobs that prepare.",
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        size = len(json.dumps(self.spec, default=str).encode())
        if size > POD_TEMPLATE_LIMIT:
            context = {
                "field": ".spec",
                "message": f"it has {size:,} bytes as JSON; at most {POD_TEMPLATE_LIMIT:,} are allowed.",
                "remedy": "Move data to a ConfigMap and mount it.",
            }
            raise PydanticCustomError(RULE_BROKEN, "{message} {remedy}", context)
        return self
