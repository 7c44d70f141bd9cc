"""What is asked of Prometheus, and what its answers say of replicas. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmservice_operator.demand.replicas import Work
from llmservice_operator.facts.config import PrometheusServer
from llmservice_runtime.contract import metrics as names

Pod = tuple[str, str]
"""(namespace, name)."""
RUNNING, WAITING, KV_USED, AGE = "running", "waiting", "kv_used", "age"
BELIEVED = 3
"""Scrapes: what is older says nothing of now."""


def queries(server: PrometheusServer) -> dict[str, str]:
    """By what they ask for. Each gives one series for each pod, whatever else the scrape has put on it; gauges as they
    are, so that an idle replica reads 0 and nothing is divided."""
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in (*server.labels,))
    some = f'{{namespace!="",pod!=""{"," if labels else ""}{labels}}}'
    return {
        RUNNING: f"sum by (namespace, pod) ({names.REQUESTS_RUNNING}{some})",
        WAITING: f"sum by (namespace, pod) ({names.REQUESTS_WAITING}{some})",
        KV_USED: f"avg by (namespace, pod) ({names.KV_CACHE_USAGE}{some})",
        AGE: f"max by (namespace, pod) (time() - timestamp({names.REQUESTS_RUNNING}{some}))",
    }


@dataclass(frozen=True, slots=True)
class Answers:
    """By pod; what is no number is kept as it is, so that nobody takes it for one."""

    values: Mapping[str, Mapping[Pod, float]]

    def of(self, pod: Pod, now: float, scrape_seconds: float) -> Work | None:
        """What a pod has to do; None where something of it is missing."""
        running, waiting, age = (self.values[name].get(pod) for name in (RUNNING, WAITING, AGE))
        if running is None or waiting is None or age is None:
            return None
        at = now - age if math.isfinite(age) else -math.inf
        return Work(running, waiting, self.values[KV_USED].get(pod), at, BELIEVED * scrape_seconds)


def vector(body: Any) -> dict[Pod, float]:
    """An answer of /api/v1/query. Raises ValueError, which says what is wrong, also where some of it is missing."""
    if not isinstance(body, dict):
        raise ValueError("it is no object")
    if body.get("status") != "success":
        raise ValueError(str(body.get("error") or "it says neither success nor why")[:300])
    if body.get("warnings"):
        raise ValueError(f"it answers in part: {str(body['warnings'])[:300]}")
    data = body.get("data")
    if not isinstance(data, dict) or data.get("resultType") != "vector" or not isinstance(data.get("result"), list):
        raise ValueError("it is no vector")
    found = {}
    for series in data["result"]:
        try:
            labels, (_, text) = series["metric"], series["value"]
            found[str(labels["namespace"]), str(labels["pod"])] = float(text)
        except (KeyError, TypeError, ValueError):
            raise ValueError("a series has no namespace, pod or value") from None
    return found


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
