"""How requests reach a service's replicas: through the installation's gateway alone, or directly as well."""

from __future__ import annotations

from llmservice_api.conditions import Reason
from llmservice_api.v1alpha1 import EndpointAccess, LLMServiceSpec
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.problem import Problem
from llmservice_operator.facts.values import Json


def reached(said: EndpointAccess | None, config: OperatorConfig) -> EndpointAccess:
    """What `said` comes to here."""
    if config.gateway is None:
        return EndpointAccess.DIRECT
    return said or config.gateway.access


def access_of(spec: Json, config: OperatorConfig) -> EndpointAccess:
    """Of a spec as the API server has it, which need not be one that can be acted upon."""
    endpoint = spec.get("endpoint")
    said = endpoint.get("access") if isinstance(endpoint, dict) else None
    return reached(EndpointAccess(said) if said in list(EndpointAccess) else None, config)


def unreachable(spec: LLMServiceSpec, config: OperatorConfig) -> Problem | None:
    """Why requests could not reach it as it is asked for."""
    said = spec.endpoint.access
    if said is EndpointAccess.GATEWAY and config.gateway is None:
        return Problem(
            Reason.INVALID,
            "spec.endpoint.access: Gateway, and this installation has no gateway. Leave it out, or have the chart's "
            "gateway.enabled set.",
        )
    scaling = spec.scaling
    to_none = scaling is not None and scaling.managed and not scaling.min_replicas
    if to_none and reached(said, config) is EndpointAccess.DIRECT:
        why = "has no gateway" if config.gateway is None else "gives services direct access unless they say otherwise"
        return Problem(
            Reason.INVALID,
            f"spec.scaling.minReplicas is 0, and this installation {why}: nobody would notice a request while no "
            "replica runs. Raise minReplicas, or use endpoint.access: Gateway"
            + (" and have the chart's gateway.enabled set." if config.gateway is None else "."),
        )
    return None
