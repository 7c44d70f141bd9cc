"""The Job that reads an adapter's headers, in the service's namespace with the adapter's own credentials."""

from __future__ import annotations

from llmservice_api.adapters import AdapterSpec
from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.children.adapter_mounts import secret_folder
from llmservice_operator.children.model_access import ModelAccess, reaching
from llmservice_operator.children.prepare_job import job, step, surroundings
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.owner import Json, Owner, digest
from llmservice_operator.facts.paths import CACHE_PATH, TERMINATION_LOG
from llmservice_operator.facts.pod_fields import ADAPTER


def adapter_job_name(owner: Owner, spec: LLMServiceSpec, adapter: AdapterSpec) -> str:
    """Another source or Secret, or another way to reach it, is another Job."""
    source = adapter.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
    return f"{owner.name}-adapter-{digest([source, surroundings(owner, spec)])}"


def adapter_job(owner: Owner, spec: LLMServiceSpec, adapter: AdapterSpec, config: OperatorConfig, account: str) -> Json:
    """It fetches nothing: replicas do."""
    access = _access(adapter)
    arguments = ["adapter", f"--name={adapter.name}", f"--uri={adapter.uri}", f"--cache={CACHE_PATH}", "--inspect"]
    arguments += [f"--revision={adapter.revision}"] if adapter.revision else []
    arguments += [f"--secret-folder={secret_folder(adapter.secret_ref.name)}"] if adapter.secret_ref else []
    arguments += [f"--report={TERMINATION_LOG}", *reaching(config)]
    name, only = adapter_job_name(owner, spec, adapter), step(ADAPTER, arguments, access, spec, config)
    return job(owner, spec, config, account, name, only, access)


def _access(adapter: AdapterSpec) -> ModelAccess:
    secret = adapter.secret_ref
    credentials = {"name": "credentials", "secret": {"secretName": secret.name}} if secret else None
    cache = {"name": "cache", "emptyDir": {}}
    return ModelAccess(adapter.uri, True, False, cache, None, credentials)
