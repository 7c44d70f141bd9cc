"""What every container of a service has: few rights, a read-only root, the installation's environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmservice_operator.children.model_access import ModelAccess
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.paths import CA_FOLDER, TERMINATION_LOG

Json = dict[str, Any]

COMMAND = "llmservice-runtime"
RUNTIME_USER = 65532
"""User that the runtime image runs as, unless podTemplate says another."""


def container(name: str, image: str, arguments: Sequence[str], config: OperatorConfig, **more: Any) -> Json:
    """A container of the runtime image; `more` are its other fields. Temporary files go to a volume of the pod."""
    environment = {"HOME": "/tmp", **_trust(config), **dict(config.environment)}
    env = [{"name": name, "value": value} for name, value in environment.items()]
    ca = [{"name": "ca", "mountPath": CA_FOLDER, "readOnly": True}] if config.ca_bundle else []
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": config.image_pull_policy,
        "command": [COMMAND],
        "args": list(arguments),
        "terminationMessagePath": TERMINATION_LOG,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **more,
        "env": [*env, *more.get("env", ())],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *ca, *more.get("volumeMounts", ())],
    }


def _trust(config: OperatorConfig) -> dict[str, str]:
    """Variables by which the sources' libraries find the bundle."""
    if config.ca_bundle is None:
        return {}
    return dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), f"{CA_FOLDER}/{config.ca_bundle.key}")


def _pod_security(access: ModelAccess, config: OperatorConfig) -> Json:
    """The pod's security context, as the restricted Pod Security Standard asks for it."""
    claimed = any("persistentVolumeClaim" in volume for volume in access.volumes)
    found: Json = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if claimed and config.file_group:
        found |= {"fsGroup": config.file_group, "fsGroupChangePolicy": "OnRootMismatch"}
    return found


def pod(account: str, access: ModelAccess, config: OperatorConfig, volumes: Sequence[Json]) -> Json:
    """What every pod of a service has, around its containers; `volumes` beside room for temporary files."""
    found: Json = {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _pod_security(access, config),
        "volumes": [{"name": "tmp", "emptyDir": {}}, *volumes],
    }
    if config.image_pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in config.image_pull_secrets]
    if config.ca_bundle:
        found["volumes"].append({"name": "ca", "configMap": {"name": config.ca_bundle.name}})
    return found
