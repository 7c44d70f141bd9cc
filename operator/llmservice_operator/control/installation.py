"""The installation's file: which images there are, what is watched, who may talk to replicas."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel

from llmservice_api.patterns import GPU_MEMORY, NODE_PATH, gpu_memory
from llmservice_api.v1alpha1 import EndpointAccess
from llmservice_api.workload import ResourceAmounts
from llmservice_operator.control.work import Scope
from llmservice_operator.facts.config import (
    Allow,
    ConfigMapKey,
    Gateway,
    Monitoring,
    OperatorConfig,
    PrometheusServer,
    RuntimeImage,
)
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.validation import said
from llmservice_runtime.machine.machine import Device

_Namespace = Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$", max_length=63)]

_Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]

_Pattern = Annotated[str, Field(pattern=r"^[-A-Za-z0-9._:/@*]+$", max_length=512)]


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, data: Any) -> Any:
        """null is the default: Helm writes it for values that a release before this one did not have."""
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


class ImageEntry(_Model):
    """One runtime image, best pinned by digest."""

    image: Annotated[str, Field(min_length=1)]
    engines: Annotated[tuple[EngineType, ...], Field(min_length=1)]
    devices: Annotated[tuple[Device, ...], Field(min_length=1)] = (Device.CPU,)


class CaBundle(_Model):
    """Where the certificates of an own authority are."""

    config_map: _Name
    key: Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)] = "ca.crt"


class ResourcesEntry(_Model):
    """What a container asks for that reads or downloads a model, unless the service says it."""

    requests: ResourceAmounts = ResourceAmounts(cpu="100m", memory="256Mi")
    limits: ResourceAmounts = ResourceAmounts(cpu="2", memory="512Mi")


class AllowEntry(_Model):
    """What of its namespace a service may use; `*` in a pattern stands for any text."""

    service_accounts: tuple[_Pattern, ...] = ("*",)
    secrets: tuple[_Pattern, ...] = ("*",)
    images: tuple[_Pattern, ...] = ("*",)
    sidecars: bool = True
    remote_code: bool = False


class MonitoringEntry(_Model):
    """PodMonitors for the Prometheus operator."""

    enabled: bool = False
    interval_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels that its podMonitorSelector asks for."""

    def told(self) -> Monitoring | None:
        """The core's part of it."""
        return Monitoring(self.interval_seconds, tuple(sorted(self.labels.items()))) if self.enabled else None


class GatewayEntry(_Model):
    """The gateway that the chart brings; without a Service there is none."""

    service: _Namespace = ""
    """Name of its Service, in the operator's namespace."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Of its pods and Leases."""
    access: EndpointAccess | None = None
    """How services are reached that don't say it; None = as the installation began (`control.access`)."""
    keys: bool = False
    """Whether it asks for API keys: the first one is made where there are none (`control.first_key`)."""

    @field_validator("access", mode="before")
    @classmethod
    def _unsaid(cls, said: Any) -> Any:
        return said or None

    def told(self) -> Gateway | None:
        """The core's part of it."""
        labels = tuple(sorted(self.labels.items()))
        return Gateway(self.service, labels, keys=self.keys) if self.service else None


class PrometheusEntry(_Model):
    """Where the numbers of replicas are read instead of at the replicas."""

    url: Annotated[str, Field(pattern=r"^(https?://[^/@?#]+(/[^@?#]*)?)?$", max_length=2048)] = ""
    """Empty = replicas are asked themselves."""
    ca_file: str = ""
    token_file: str = ""
    labels: dict[Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")], Annotated[str, Field(max_length=512)]] = (
        Field(default_factory=dict)
    )
    """That the series have, beside namespace and pod."""
    scrape_seconds: Annotated[int, Field(ge=1, le=3600)] = 30

    def told(self) -> PrometheusServer | None:
        """The core's part of it."""
        if not self.url:
            return None
        labels = tuple(sorted(self.labels.items()))
        return PrometheusServer(self.url, self.ca_file, self.token_file, labels, self.scrape_seconds)


class Installation(_Model):
    """The file's content; Helm writes it from its values."""

    images: Annotated[tuple[ImageEntry, ...], Field(min_length=1)]
    name: Annotated[str, Field(max_length=63)] = ""
    """The Helm release's name; empty = not told apart from others in the same namespace."""
    namespaces: tuple[_Namespace, ...] = ()
    """Namespaces that are watched; empty = all."""
    read_nodes: bool = False
    """Whether node facts are read for planning; without them fit is Unknown and the scheduler decides."""
    gateway: GatewayEntry = GatewayEntry()
    gateway_namespace: _Namespace = ""
    prometheus_namespace: _Namespace = ""
    cluster_domain: str = "cluster.local"
    image_pull_policy: Annotated[str, Field(pattern="^(Always|IfNotPresent|Never)$")] = "IfNotPresent"
    private_sources: bool = False
    """Whether models may come from addresses inside the network."""
    environment: dict[str, str] = Field(default_factory=dict)
    image_pull_secrets: tuple[_Name, ...] = ()
    """Secrets for the images of every service's pods; they must be in the service's namespace."""
    ca_bundle: CaBundle | None = None
    """A ConfigMap with certificates to trust; it must be in the service's namespace."""
    host_paths: tuple[Annotated[str, Field(pattern=NODE_PATH, max_length=1024)], ...] = ()
    """Directories of nodes that services may use. What a service writes into one could lead elsewhere, so what lies
    below is not lent with it, and none may lie below another."""
    file_group: Annotated[int, Field(ge=0, le=2**31 - 1)] = 10001
    """Group that owns files on claims; 0 = none is asked for: the cluster chooses one, as OpenShift does."""
    node_access: bool = False
    """Whether podTemplate may have every field, whatever it reaches beyond the pod."""
    pod_fields: tuple[Annotated[str, Field(pattern=r"^[A-Za-z][-A-Za-z0-9._/]*$", max_length=253)], ...] = ()
    """Fields of podTemplate that are lent one by one: volumes.nfs, nodeName, ..."""
    allow: AllowEntry = AllowEntry()
    """What of its namespace a service may use."""
    not_passed_on: tuple[Annotated[str, Field(pattern=r"^[-A-Za-z0-9._/*]+$", max_length=317)], ...] = ()
    """Labels and annotations, with `*` for any text, that children of an LLMService don't get."""

    gpu_memory: dict[Annotated[str, Field(min_length=1, max_length=128)], Annotated[str, Field(pattern=GPU_MEMORY)]] = (
        Field(default_factory=dict)
    )
    """Product of a GPU, as a node's label has it, -> what one has; for those that the catalogue lacks."""
    gpu_bandwidth: dict[
        Annotated[str, Field(min_length=1, max_length=128)], Annotated[str, Field(pattern=GPU_MEMORY)]
    ] = Field(default_factory=dict)
    """The same -> bytes that one reads of its memory in a second."""
    prepare_resources: ResourcesEntry = ResourcesEntry()
    monitoring: MonitoringEntry = MonitoringEntry()
    prometheus: PrometheusEntry = PrometheusEntry()

    @field_validator("host_paths")
    @classmethod
    def _apart(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            if {".", ".."} & set(path.split("/")):
                raise ValueError(f"{path} goes through '.' or '..'")
            if above := next((other for other in paths if path.startswith(f"{other}/")), None):
                raise ValueError(f"{path} lies below {above}: who may write there decides where it leads")
        return paths

    def scope(self) -> Scope:
        """What is looked at."""
        return Scope(self.namespaces, self.read_nodes)

    def operator_config(self, operator_namespace: str) -> OperatorConfig:
        """The part that the core knows."""
        return OperatorConfig(
            images=tuple(RuntimeImage(entry.image, entry.engines, entry.devices) for entry in self.images),
            operator_namespace=operator_namespace,
            gateway=self.gateway.told(),
            gateway_namespace=self.gateway_namespace,
            prometheus_namespace=self.prometheus_namespace,
            cluster_domain=self.cluster_domain,
            image_pull_policy=self.image_pull_policy,
            private_sources=self.private_sources,
            environment=tuple(sorted(self.environment.items())),
            image_pull_secrets=self.image_pull_secrets,
            host_paths=self.host_paths,
            file_group=self.file_group,
            node_access=self.node_access,
            pod_fields=self.pod_fields,
            not_passed_on=self.not_passed_on,
            allow=Allow(**self.allow.model_dump()),
            ca_bundle=ConfigMapKey(self.ca_bundle.config_map, self.ca_bundle.key) if self.ca_bundle else None,
            prepare_requests=tuple(sorted(self.prepare_resources.requests.amounts().items())),
            prepare_limits=tuple(sorted(self.prepare_resources.limits.amounts().items())),
            gpu_memory=tuple((product, gpu_memory(size)) for product, size in sorted(self.gpu_memory.items())),
            gpu_bandwidth=tuple((product, gpu_memory(size)) for product, size in sorted(self.gpu_bandwidth.items())),
            monitoring=self.monitoring.told(),
            prometheus=self.prometheus.told(),
            release=_release(),
        )


def _release() -> str:
    try:
        return version("llmservice")
    except PackageNotFoundError:
        return ""  # run from a checkout


def read_installation(path: Path) -> Installation:
    """Raises UserError, naming the field, when the file can't be read or says something unknown."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Installation.model_validate(data)
    except (OSError, yaml.YAMLError) as error:
        raise UserError(
            f"The installation's file {path} can't be read: {error}.", "Check the path and the YAML."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(f"{path}: {field}: {said(first)}.", "Correct the chart's values.") from error
