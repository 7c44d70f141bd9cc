"""How a container reaches the model: which URI, which volumes, and whether it has to be downloaded."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_api.workload import CacheType, PrunePolicy
from llmservice_operator.children.cache_claim import claim_name
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.owner import Owner
from llmservice_operator.facts.paths import CACHE_PATH, CLAIM_PATH, COMPILED_PATH, SECRETS_PATH, TERMINATION_LOG
from llmservice_runtime.contract.cache import COMPILED_FOLDER

Json = dict[str, Any]

_EMPTY: Json = {"name": "cache", "emptyDir": {}}


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """`uri` as a container sees it; `remote` = downloaded; `shared` = once, into a claim, before replicas start."""

    uri: str
    remote: bool
    shared: bool
    cache_volume: Json | None
    model_volume: Json | None
    secret_volume: Json | None

    @property
    def own_download(self) -> bool:
        """Whether every replica brings the model for itself."""
        return self.remote and not self.shared

    @property
    def volumes(self) -> list[Json]:
        """Of every pod that reads the model's files."""
        return [volume for volume in (self.cache_volume, self.model_volume) if volume]

    @property
    def secret_volumes(self) -> list[Json]:
        """Of every pod that talks to the model's source."""
        return [self.secret_volume] if self.secret_volume else []

    def unshared(self) -> ModelAccess:
        """The same with a cache of its own, that goes with the pod."""
        return dataclasses.replace(self, shared=False, cache_volume=_EMPTY) if self.cache_volume else self

    def mounts(self, write: bool) -> list[Json]:
        """Mounts of the files."""
        cache = {"name": "cache", "mountPath": CACHE_PATH} | ({} if write else {"readOnly": True})
        model = {"name": "model", "mountPath": CLAIM_PATH, "readOnly": True}
        return [*([cache] if self.cache_volume else []), *([model] if self.model_volume else [])]

    def compiled_mounts(self) -> list[Json]:
        """The part of the cache where engines keep what they compile, the one that replicas write; without a cache
        that goes with the pod."""
        mount = {"name": "cache", "mountPath": COMPILED_PATH, "subPath": COMPILED_FOLDER}
        return [mount] if self.cache_volume else []

    def secret_mounts(self) -> list[Json]:
        """Mount of the credentials."""
        if self.secret_volume is None:
            return []
        name = self.secret_volume["secret"]["secretName"]
        return [{"name": "credentials", "mountPath": f"{SECRETS_PATH}/{name}", "readOnly": True}]


def model_access(owner: Owner, spec: LLMServiceSpec) -> ModelAccess:
    """file:// is a path inside the image, pvc:// one inside a claim; everything else is downloaded into the cache."""
    uri, secret = spec.model.uri, spec.model.secret_ref
    credentials = {"name": "credentials", "secret": {"secretName": secret.name}} if secret else None
    if uri.startswith("file://"):
        return ModelAccess(uri, False, False, None, None, credentials)
    if uri.startswith("pvc://"):
        claim, _, path = uri.removeprefix("pvc://").partition("/")
        volume = {"name": "model", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        return ModelAccess(f"file://{CLAIM_PATH}/{path}", False, False, None, volume, credentials)
    shared = spec.cache.type is CacheType.PERSISTENT_VOLUME_CLAIM
    return ModelAccess(uri, True, shared, _cache_volume(owner, spec), None, credentials)


def _cache_volume(owner: Owner, spec: LLMServiceSpec) -> Json:
    """A node's directory must be there: one that the kubelet makes could be written by root alone."""
    if spec.cache.type is CacheType.PERSISTENT_VOLUME_CLAIM:
        return {"name": "cache", "persistentVolumeClaim": {"claimName": claim_name(owner, spec)}}
    if spec.cache.host_path is not None:
        return {"name": "cache", "hostPath": {"path": spec.cache.host_path.path, "type": "Directory"}}
    return _EMPTY


def prepare_arguments(
    spec: LLMServiceSpec, access: ModelAccess, config: OperatorConfig, *, fetch: bool, revision: str
) -> list[str]:
    """Arguments of `llmservice-runtime prepare`. A proxy inside the network is the installation's to name."""
    arguments = ["prepare", f"--uri={access.uri}", f"--cache={CACHE_PATH}", f"--report={TERMINATION_LOG}"]
    arguments += [f"--revision={revision}"] if revision else []
    arguments += [f"--include={pattern}" for pattern in spec.model.include]
    arguments += [f"--expected-format={spec.model.expected_format.value}"] if spec.model.expected_format else []
    arguments += [f"--engine={spec.engine.asked}"] if spec.engine.asked else []
    if spec.model.secret_ref:
        arguments += [f"--secrets={SECRETS_PATH}", f"--secret={spec.model.secret_ref.name}"]
    arguments += ["--make-room"] if fetch and _prunes(spec) else []
    arguments += reaching(config)
    return arguments + (["--fetch"] if fetch else [])


def reaching(config: OperatorConfig) -> list[str]:
    """Arguments that say what inside the network may be reached."""
    return ["--allow-private"] if config.private_sources else [f"--proxy={url}" for url in config.proxies]


def _prunes(spec: LLMServiceSpec) -> bool:
    """Whether models that nothing uses may go: a cache of the pod's own never has any."""
    return spec.cache.type is not CacheType.EMPTY_DIR and spec.cache.prune is PrunePolicy.WHEN_FULL
