"""Which directories of its nodes an installation lends to services: who may write an LLMService may not make pods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from llmservice_api.conditions import Reason
from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.core.config import OperatorConfig
from llmservice_operator.core.problem import Problem


def not_lent(spec: LLMServiceSpec, config: OperatorConfig) -> Problem | None:
    """The first directory that the spec names and the installation does not; None when there is none."""
    found = next(((field, path) for field, path in _named(spec) if path not in config.host_paths), None)
    if found is None:
        return None
    field, path = found
    lent = f"It lends {', '.join(config.host_paths)}." if config.host_paths else "It lends none."
    return Problem(
        Reason.INVALID,
        f"{field}: {path} is no directory of the nodes that this installation lends to services. {lent} Have it added "
        "to the chart's runtime.hostPaths, or keep the model on a PersistentVolumeClaim.",
    )


def _named(spec: LLMServiceSpec) -> Iterator[tuple[str, str]]:
    """(field, path) of every directory of the node that the spec names, the cache first."""
    if spec.cache.host_path is not None:
        yield "spec.cache.hostPath.path", spec.cache.host_path.path
    volumes = spec.pod_template.spec.get("volumes") if spec.pod_template else None
    for volume in volumes if isinstance(volumes, list) else ():
        if isinstance(volume, Mapping) and isinstance(volume.get("hostPath"), Mapping):
            name, path = volume.get("name", ""), volume["hostPath"].get("path", "")
            yield f"spec.podTemplate.spec.volumes[{name}].hostPath.path", str(path)
