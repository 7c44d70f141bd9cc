"""Resources of every container that reads a model's headers or downloads it: the spec's, else the installation's."""

from __future__ import annotations

from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.owner import Json
from llmservice_operator.facts.quantity import parse_quantity


def prepare_resources(spec: LLMServiceSpec, config: OperatorConfig) -> Json:
    """Requests and limits. What the spec says of one bounds what the installation says of the other."""
    asked, capped = spec.prepare.resources.requests.amounts(), spec.prepare.resources.limits.amounts()
    requests, limits = dict(config.prepare_requests) | asked, dict(config.prepare_limits) | capped
    for name in requests.keys() & limits.keys():
        if parse_quantity(requests[name]) > parse_quantity(limits[name]):
            if name not in asked:
                requests[name] = limits[name]
            elif name not in capped:
                limits[name] = requests[name]
    return {kind: amounts for kind, amounts in (("requests", requests), ("limits", limits)) if amounts}
