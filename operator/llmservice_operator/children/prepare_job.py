"""The Job that reads the model's headers, in the service's namespace with its credentials: a plan needs no more."""

from __future__ import annotations

from typing import Any

from llmservice_api.labels import PREPARE
from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.children.container import container, pod
from llmservice_operator.children.model_access import ModelAccess, model_access, prepare_arguments
from llmservice_operator.children.pod_template import job_part, merged_job
from llmservice_operator.children.prepare_resources import prepare_resources
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.owner import Json, Owner, digest
from llmservice_operator.facts.pod_fields import INSPECT
from llmservice_runtime.engines.registry import reads_gguf
from llmservice_runtime.prepare.run import MUST_BE_MENDED

TRIES = 6


def job_name(owner: Owner, spec: LLMServiceSpec, after: str = "") -> str:
    """Another model, account or way to reach it is another Job; nothing else is.

    `after` names the revision that makes it necessary to read the same once more.
    """
    parts, which = job_parts(owner, spec), _which(spec)
    parts |= {"which": which} if which else {}
    return f"{owner.name}-prepare-{digest([parts, after] if after else parts)}"


def model_digest(spec: LLMServiceSpec) -> str:
    """Which model is meant, and which of its weights: what was read of it stays true when only the Jobs' surroundings
    change. Where `engine.type` has a say, that stands behind a dash (`Frozen.same_model`)."""
    model, which = digest(spec.model.model_dump(mode="json", exclude_defaults=True)), _which(spec)
    return f"{model}-{which}" if which else model


def _which(spec: LLMServiceSpec) -> str:
    """Which weights are read of a repository that has several formats; empty = what Auto takes."""
    return {True: "gguf", False: "other", None: ""}[reads_gguf(spec.engine.asked)]


def job_parts(owner: Owner, spec: LLMServiceSpec) -> Json:
    """What a Job of the service depends on."""
    return spec.model_dump(mode="json", exclude_defaults=True, include={"model"}) | surroundings(owner, spec)


def surroundings(owner: Owner, spec: LLMServiceSpec) -> Json:
    """The same without what it reads."""
    parts = spec.model_dump(mode="json", exclude_defaults=True, include={"service_account_name", "prepare"})
    more = {"podTemplate": job_part(spec), "queue": owner.queue}
    return parts | {name: value for name, value in more.items() if value}


def prepare_job(
    owner: Owner, spec: LLMServiceSpec, config: OperatorConfig, account: str, name: str = "", revision: str = ""
) -> Json:
    """It mounts no cache: where a claim's volume is made is decided by what needs it, not by this.

    `revision` is the content to read; empty = what the spec names, or the source has by now.
    """
    access = model_access(owner, spec).unshared()
    arguments = prepare_arguments(spec, access, config, fetch=False, revision=revision or spec.model.revision or "")
    name = name or job_name(owner, spec)
    return job(owner, spec, config, account, name, step(INSPECT, arguments, access, spec, config), access)


def step(name: str, arguments: list[str], access: ModelAccess, spec: LLMServiceSpec, config: OperatorConfig) -> Json:
    """A container that talks to the model's source, with the installation's first image."""
    mounts = [*access.mounts(write=True), *access.secret_mounts()]
    resources = prepare_resources(spec, config)
    return container(name, config.images[0].image, arguments, config, volumeMounts=mounts, resources=resources)


def job(
    owner: Owner,
    spec: LLMServiceSpec,
    config: OperatorConfig,
    account: str,
    name: str,
    only: Json,
    access: ModelAccess,
    **place: Any,
) -> Json:
    """A Job of one container, on the nodes that `place` (fields of a pod) says. Only what may pass is tried again."""
    body = pod(account, access, config, [*access.volumes, *access.secret_volumes])
    template = merged_job(
        {
            "metadata": {"labels": owner.labels(PREPARE), "annotations": owner.annotations},
            "spec": {"restartPolicy": "Never", **body, "containers": [only]},
        },
        spec,
    )
    template["spec"] |= place
    ours = {"containerName": only["name"], "operator": "In", "values": [MUST_BE_MENDED]}
    mend = {"action": "FailJob", "onExitCodes": ours}
    disruption = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    body = {"backoffLimit": TRIES, "podFailurePolicy": {"rules": [mend, disruption]}, "template": template}
    return owner.child("batch/v1", "Job", name, PREPARE, spec=body)
