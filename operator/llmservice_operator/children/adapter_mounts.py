"""What a replica's pod has for adapters: the file that says which, and the Secrets that open their sources.

All of it may be missing without keeping a replica from its model.
"""

from __future__ import annotations

import dataclasses

from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.frozen import Frozen
from llmservice_operator.facts.owner import Json, Owner
from llmservice_operator.facts.paths import (
    ADAPTERS_CACHE,
    ADAPTERS_FILE,
    ADAPTERS_FOLDER,
    ADAPTERS_GUARD,
    SECRETS_PATH,
)
from llmservice_operator.facts.pod_fields import ADAPTER_SECRETS, ADAPTERS
from llmservice_runtime.contract.settings import RuntimeSettings


def map_name(owner: Owner) -> str:
    """Of the ConfigMap that says which adapters replicas load."""
    return f"{owner.name}-adapters"


def secret_folder(name: str) -> str:
    """Where a replica has an adapter's Secret."""
    return f"{SECRETS_PATH}/{name}"


def with_adapters(settings: RuntimeSettings, config: OperatorConfig) -> RuntimeSettings:
    """The settings of a replica that has room for adapters, with where they are; others as they are."""
    if not settings.adapter_count:
        return settings
    return dataclasses.replace(
        settings,
        adapters_file=f"{ADAPTERS_FOLDER}/{ADAPTERS_FILE}",
        adapters_cache=ADAPTERS_CACHE,
        adapters_guard=ADAPTERS_GUARD,
        adapters_private=config.private_sources,
        adapters_proxies=() if config.private_sources else tuple(config.proxies),
    )


def adapter_volumes(owner: Owner, spec: LLMServiceSpec) -> list[Json]:
    """Of a pod with room for adapters."""
    wanted: Json = {"name": ADAPTERS, "configMap": {"name": map_name(owner), "optional": True}}
    return [wanted, *({"name": name, "secret": {"secretName": of, "optional": True}} for name, of in _secrets(spec))]


def adapter_mounts(spec: LLMServiceSpec) -> list[Json]:
    """Of its engine's container."""
    wanted = {"name": ADAPTERS, "mountPath": ADAPTERS_FOLDER, "readOnly": True}
    return [
        wanted,
        *({"name": name, "mountPath": secret_folder(of), "readOnly": True} for name, of in _secrets(spec)),
    ]


def mounted_secrets(frozen: Frozen) -> frozenset[str]:
    """Secrets that the replicas of a plan have for adapters."""
    volumes = frozen.template.get("spec", {}).get("volumes", ())
    secrets = (volume.get("secret") for volume in volumes if volume["name"] in ADAPTER_SECRETS)
    return frozenset(str(secret.get("secretName")) for secret in secrets if isinstance(secret, dict))


def mounts_map(frozen: Frozen) -> bool:
    """Whether the replicas of a plan read which adapters to load."""
    return any(volume["name"] == ADAPTERS for volume in frozen.template.get("spec", {}).get("volumes", ()))


def _secrets(spec: LLMServiceSpec) -> list[tuple[str, str]]:
    """(volume, Secret), each Secret once."""
    names = sorted({adapter.secret_ref.name for adapter in spec.adapters if adapter.secret_ref})
    return list(zip(ADAPTER_SECRETS, names, strict=False))
