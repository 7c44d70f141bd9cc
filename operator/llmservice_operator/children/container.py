"""What every container of a service has: few rights, a read-only root, the installation's environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmservice_operator.children.model_access import TERMINATION_LOG, ModelAccess
from llmservice_operator.core.config import OperatorConfig

Json = dict[str, Any]

COMMAND = "llmservice-runtime"
FILE_GROUP = 10001
"""Group that owns files on a claim; replicas and the Job belong to it."""


def container(name: str, image: str, arguments: Sequence[str], config: OperatorConfig, **more: Any) -> Json:
    """A container of the runtime image; `more` are its other fields. Temporary files go to a volume of the pod."""
    env = [{"name": "HOME", "value": "/tmp"}, *({"name": n, "value": v} for n, v in config.environment)]
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
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *more.get("volumeMounts", ())],
    }


def pod_security(access: ModelAccess) -> Json:
    """The pod's security context, as the restricted Pod Security Standard asks for it."""
    claimed = any("persistentVolumeClaim" in volume for volume in access.volumes)
    group = {"fsGroup": FILE_GROUP, "fsGroupChangePolicy": "OnRootMismatch"} if claimed else {}
    return {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **group}


def volumes(*more: Json) -> list[Json]:
    """Volumes of a pod: room for temporary files, and `more`."""
    return [{"name": "tmp", "emptyDir": {}}, *more]
