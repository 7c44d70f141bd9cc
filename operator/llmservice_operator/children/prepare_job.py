"""The Job that reads the model's headers and fills a shared cache, in the service's namespace with its credentials."""

from __future__ import annotations

from typing import Any

from llmservice_api.labels import PREPARE
from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.children.container import container, pod_security, volumes
from llmservice_operator.children.model_access import model_access, prepare_arguments
from llmservice_operator.children.owner import Json, Owner, digest
from llmservice_operator.core.config import OperatorConfig
from llmservice_runtime.prepare.run import MUST_BE_MENDED

INSPECT = "inspect"
"""Container that reports the facts."""
FETCH = "fetch"
TRIES = 6


def job_name(owner: Owner, spec: LLMServiceSpec) -> str:
    """Another model, account or cache is another Job; nothing else is."""
    parts = spec.model_dump(mode="json", exclude_defaults=True, include={"model", "service_account_name", "cache"})
    return f"{owner.name}-prepare-{digest(parts)}"


def prepare_job(owner: Owner, spec: LLMServiceSpec, config: OperatorConfig, account: str) -> Json:
    """Headers first, so that planning need not wait for the download; only what may pass by itself is tried again."""
    access, image = model_access(spec), config.images[0].image

    def step(name: str, fetch: bool) -> Json:
        arguments = prepare_arguments(
            spec, access, fetch=fetch, private=config.private_sources, revision=spec.model.revision or ""
        )
        mounts = [*access.mounts(write=True), *access.secret_mounts()]
        resources = {"requests": {"cpu": "100m", "memory": "256Mi"}}
        return container(name, image, arguments, config, volumeMounts=mounts, resources=resources)

    inspect = step(INSPECT, fetch=False)
    steps: dict[str, Any] = {"containers": [inspect]}
    if access.shared:
        steps = {"initContainers": [inspect], "containers": [step(FETCH, fetch=True)]}
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(access),
        "volumes": volumes(*access.volumes, *access.secret_volumes),
        **steps,
    }
    mend = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [MUST_BE_MENDED]}}
    disruption = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    return owner.child(
        "batch/v1",
        "Job",
        job_name(owner, spec),
        PREPARE,
        spec={
            "backoffLimit": TRIES,
            "podFailurePolicy": {"rules": [mend, disruption]},
            "template": {"metadata": {"labels": owner.labels(PREPARE)}, "spec": pod},
        },
    )
