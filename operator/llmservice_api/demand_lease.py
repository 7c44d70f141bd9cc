"""What a gateway tells of the work that services are asked for: an annotation of its Lease. Pure.

Each replica of the gateway renews a Lease of its own name in the gateway's namespace. One that is renewed no longer
says nothing of now, and counts as no gateway.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pydantic_core import from_json, to_json

from llmservice_api.labels import DEATHS, DEMAND, GATEWAY

LEASE_SECONDS = 15
"""A Lease that was not renewed for so long is of a gateway that is gone."""
MOST_BYTES = 200 << 10
"""Of the annotation; all annotations of an object may have 256 KiB, and deaths_lease has its part of them."""
MOST_NUMBER = 1 << 53
"""Whoever would tell of more tells of so much: an engine may count what it likes, and no Lease is unreadable for it."""
OMITTED = ""
"""In place of a service's name: how many were left out."""

_FIELDS = {
    "held": "held",
    "in_flight": "inFlight",
    "waiting_tokens": "waitingTokens",
    "in_flight_tokens": "inFlightTokens",
    "arrivals": "arrivals",
    "arrived_tokens": "arrivedTokens",
    "answered_tokens": "answeredTokens",
}
_MEASURED = {"mean_requests": "meanRequests", "oldest_seconds": "oldestSeconds"}


@dataclass(frozen=True, slots=True)
class ServiceDemand:
    """One service at one gateway, when it told. What only grows counts from the Lease's acquireTime."""

    held: int = 0
    """Requests that wait at the gateway: for a replica to be ready, or for room at one."""
    in_flight: int = 0
    """Requests that replicas have."""
    waiting_tokens: int = 0
    """Of the prompts of held requests and of streams that have not begun, as far as their bytes tell."""
    in_flight_tokens: int = 0
    """What the requests in flight will hold in the KV cache, prompts and answers."""
    arrivals: int = 0
    """Requests that came; only grows."""
    arrived_tokens: int = 0
    """Of the prompts of these, as far as their bytes told; only grows."""
    answered_tokens: int = 0
    """That replicas generated, as far as they counted; only grows."""
    mean_requests: float = 0.0
    """Held and in flight, on the mean of the last seconds."""
    oldest_seconds: float = 0.0
    """How long the request that waits longest has waited."""

    @property
    def busy(self) -> bool:
        """Whether anything waits or is answered."""
        return bool(self.held or self.in_flight)

    @property
    def timeless(self) -> ServiceDemand:
        """Without what changes by itself as time passes."""
        return replace(self, mean_requests=0.0, oldest_seconds=0.0)


@dataclass(frozen=True, slots=True)
class Told:
    """What one Lease says. A service that it does not name is asked for nothing there, unless some were omitted."""

    services: Mapping[str, ServiceDemand] = field(default_factory=dict)
    """By `namespace/name`."""
    omitted: int = 0
    """Services that had no room."""


def encode(services: Mapping[str, ServiceDemand], most_bytes: int = MOST_BYTES) -> str:
    """The annotation: compact JSON, zeros left out. What has no room is left out, those with most held last."""
    size, parts = len('{"":{"omitted":0000000000}}'), list[bytes]()
    for name, demand in sorted(services.items(), key=_urgency):
        part = to_json(name) + b":" + to_json(_fields(demand))
        size += len(part) + 1
        if size > most_bytes:
            parts.append(to_json(OMITTED) + b":" + to_json({"omitted": len(services) - len(parts)}))
            break
        parts.append(part)
    return (b"{" + b",".join(parts) + b"}").decode()


def decode(text: str) -> Told:
    """What `encode` wrote. Raises ValueError, which says what is wrong: then nothing of it is to be believed."""
    if len(text) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES >> 10} KiB")
    found = from_json(text)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    rest = found.pop(OMITTED, {})
    if not isinstance(rest, dict):
        raise ValueError("what it says was omitted is no JSON object")
    omitted = int(_number("", rest, "omitted"))
    return Told({name: _demand(name, fields) for name, fields in found.items()}, omitted)


def lease(
    namespace: str,
    name: str,
    text: str,
    *,
    now: datetime,
    began: datetime,
    labels: Mapping[str, str] | None = None,
    owner: Mapping[str, Any] | None = None,
    deaths: str = "{}",
) -> dict[str, Any]:
    """The Lease of the gateway replica `name`, a pod's name. `owner`: a reference, with which the Lease goes. `deaths`:
    as deaths_lease has it."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "labels": {**(labels or {}), **GATEWAY},
        "annotations": {DEMAND: text, DEATHS: deaths},
    }
    if owner:
        metadata["ownerReferences"] = [dict(owner)]
    spec = {
        "holderIdentity": name,
        "leaseDurationSeconds": LEASE_SECONDS,
        "acquireTime": _micro(began),
        "renewTime": _micro(now),
    }
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def _micro(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _urgency(item: tuple[str, ServiceDemand]) -> tuple[int, int, str]:
    name, demand = item
    return -demand.held, -demand.in_flight, name


def _fields(demand: ServiceDemand) -> dict[str, int | float]:
    return {name: value for name, value in _values(demand) if value}


def _values(demand: ServiceDemand) -> Iterator[tuple[str, int | float]]:
    for attribute, name in (_FIELDS | _MEASURED).items():
        value = min(getattr(demand, attribute), MOST_NUMBER)
        yield name, round(value, 1) if isinstance(value, float) else value


def _demand(name: str, fields: Any) -> ServiceDemand:
    namespace, _, service = name.partition("/")
    if not namespace or not service or "/" in service:
        raise ValueError(f"{name[:80]!r} is no namespace/name")
    if not isinstance(fields, dict):
        raise ValueError(f"what it says of {name} is no JSON object")
    counts = {attribute: int(_number(name, fields, said)) for attribute, said in _FIELDS.items()}
    mean, oldest = (float(_number(name, fields, said)) for said in _MEASURED.values())
    return ServiceDemand(**counts, mean_requests=mean, oldest_seconds=oldest)


def _number(name: str, fields: Mapping[str, Any], field: str) -> int | float:
    value = fields.get(field, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{field} of {name!r} is no number")
    if not 0 <= value <= MOST_NUMBER:
        raise ValueError(f"{field} of {name!r} is out of bounds")
    return value
