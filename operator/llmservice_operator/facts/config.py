"""What the operator's installation decides: images and who may talk to replicas."""

from __future__ import annotations

from dataclasses import dataclass

from llmservice_api.v1alpha1 import EndpointAccess
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.machine.machine import Device


@dataclass(frozen=True, slots=True)
class RuntimeImage:
    """One runtime image: the engines in it, and the devices they were built for. Pin it by digest."""

    image: str
    engines: tuple[EngineType, ...]
    devices: tuple[Device, ...] = (Device.CPU,)


@dataclass(frozen=True, slots=True)
class ConfigMapKey:
    """One entry of a ConfigMap."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Monitoring:
    """How the Prometheus operator is told of replicas. `labels` = (name, value) that its selector asks for."""

    interval_seconds: int = 30
    labels: tuple[tuple[str, str], ...] = ()
    namespaces: tuple[str, ...] = ()
    """Where there are PodMonitors; empty = in all that are looked at."""

    def covers(self, namespace: str) -> bool:
        """Whether services there get one."""
        return not self.namespaces or namespace in self.namespaces


@dataclass(frozen=True, slots=True)
class PrometheusServer:
    """Where the numbers of replicas are read instead of at the replicas themselves."""

    url: str
    """Of its HTTP API, without /api/v1."""
    ca_file: str = ""
    """PEM certificates to trust beside the usual ones."""
    token_file: str = ""
    """A bearer token, read anew for each request."""
    labels: tuple[tuple[str, str], ...] = ()
    """(name, value) that the series have, beside namespace and pod."""
    scrape_seconds: float = 30.0
    """How often it asks replicas: what it has is believed for three times that."""


@dataclass(frozen=True, slots=True)
class Allow:
    """What of its namespace a service may use, as patterns with `*`; by default everything, as a pod may."""

    service_accounts: tuple[str, ...] = ("*",)
    """Accounts that a service may name; one that is made for it is always allowed."""
    secrets: tuple[str, ...] = ("*",)
    images: tuple[str, ...] = ("*",)
    """Images of engine.image and of podTemplate; the installation's own are always allowed."""
    sidecars: bool = True
    """Whether podTemplate may add containers."""
    remote_code: bool = False
    """Whether model.trustRemoteCode may be set: code of a model's repository then runs in replicas."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The installation's gateway, in the operator's namespace. `labels` = (name, value) of its pods and Leases."""

    service: str
    """Name of its Service, on port 80."""
    labels: tuple[tuple[str, str], ...]
    access: EndpointAccess = EndpointAccess.GATEWAY
    """Of services that don't say it."""
    keys: bool = False
    """It asks for API keys."""


@dataclass(frozen=True, slots=True)
class OperatorConfig:
    """`images` in the order of preference; the first also reads headers and fills caches.

    `gateway_namespace` and `prometheus_namespace` may reach replicas beside the service's own namespace and the
    operator's; empty = nobody. `cluster_domain` ends the URL in status.
    """

    images: tuple[RuntimeImage, ...]
    operator_namespace: str
    gateway_namespace: str = ""
    prometheus_namespace: str = ""
    cluster_domain: str = "cluster.local"
    gateway: Gateway | None = None
    """None = it has none of its own."""
    image_pull_policy: str = "IfNotPresent"
    private_sources: bool = False
    """Whether models may come from addresses inside the network (a store in the cluster)."""
    environment: tuple[tuple[str, str], ...] = ()
    """(name, value) for the prepare Job and the runtime: proxy, CA and HF_ENDPOINT settings."""
    image_pull_secrets: tuple[str, ...] = ()
    """Secrets that every pod of a service pulls images with; they must be in its namespace."""
    ca_bundle: ConfigMapKey | None = None
    """A PEM bundle that is trusted beside the usual ones; its ConfigMap must be in the service's namespace."""
    host_paths: tuple[str, ...] = ()
    """Directories of nodes that services may use, as a cache or by podTemplate; no others, and none below them."""
    file_group: int = 10001
    """Group that owns files on a claim, and that pods belong to; 0 = the cluster chooses one, or there is none."""
    node_access: bool = False
    """Whether podTemplate may have every field, whatever it reaches beyond the pod (`facts.pod_rules`)."""
    pod_fields: tuple[str, ...] = ()
    """Fields that podTemplate may have although they reach beyond the pod, or are unknown: `volumes.nfs`."""
    allow: Allow = Allow()
    not_passed_on: tuple[str, ...] = ()
    """Patterns of labels and annotations that children of an LLMService don't get, beside those of known tools."""
    prepare_requests: tuple[tuple[str, str], ...] = (("cpu", "100m"), ("memory", "256Mi"))
    """(resource, amount) of each container that reads headers or downloads. Measured: 50 to 130 MiB, whatever the
    model; a file that is being written fills what is left of a limit and gives it back."""
    prepare_limits: tuple[tuple[str, str], ...] = (("cpu", "2"), ("memory", "512Mi"))
    """A quota on limits counts only pods that have some."""
    gpu_memory: tuple[tuple[str, int], ...] = ()
    """(product as a node's label has it, bytes of one): wins over what the label says of memory and over the catalogue.
    Letters of either case, and whatever stands between words, are alike."""
    gpu_bandwidth: tuple[tuple[str, int], ...] = ()
    """(product, bytes that one reads of its memory in a second), likewise."""
    monitoring: Monitoring | None = None
    """A PodMonitor for every service; None = not asked for, or the cluster has no such kind."""
    prometheus: PrometheusServer | None = None
    """None = replicas are asked themselves how much they have to do."""
    release: str = ""
    """The operator's version: services that follow upgrades are planned anew with another one."""

    @property
    def demand_namespace(self) -> str:
        """Where gateways tell, by their Leases, what services are asked for; empty = there is no gateway."""
        return self.operator_namespace if self.gateway is not None else ""

    @property
    def has_gateway(self) -> bool:
        """Whether there is one, where requests wait while no replica runs."""
        return bool(self.demand_namespace)

    @property
    def proxies(self) -> list[str]:
        """URLs of the proxies that the environment names, each once."""
        named = [(name.lower(), value) for name, value in self.environment if value]
        urls = [value for name, value in named if name.endswith("_proxy") and name != "no_proxy"]
        return list(dict.fromkeys(url if "://" in url else f"http://{url}" for url in urls))
