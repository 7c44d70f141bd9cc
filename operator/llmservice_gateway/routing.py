"""Which service a model name means and which of its replicas answers: pure functions over an immutable table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Replica:
    """A ready replica. `name` is never reused, so that counts of an old one don't stick to a new one."""

    name: str
    url: str
    """Of the engine's data port, without a path: `http://127.0.0.1:40213`."""


@dataclass(frozen=True, slots=True)
class Unready:
    """Why no replica is ready: a condition reason, a sentence, what to do, and when to ask again (seconds)."""

    reason: str
    message: str
    remedy: str = ""
    retry_after: int = 10
    final: bool = False
    """Waiting does not help: someone has to change something."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One service as clients see it. `replicas` are the ready ones; without any, `unready` says why."""

    namespace: str
    name: str
    replicas: tuple[Replica, ...] = ()
    unready: Unready = Unready("Starting", "The service is starting.")
    created: int = 0
    """Unix time, for /v1/models."""
    context_tokens: int = 0
    """Longest prompt plus answer; 0 = not known yet."""
    silent_seconds: float = 0.0
    """How long a replica may say nothing before it counts as lost, where that is more than the gateway's own bound."""

    @property
    def full_name(self) -> str:
        """The canonical model name."""
        return f"{self.namespace}/{self.name}"


class UnknownModelError(LookupError):
    """No service has this name."""


class AmbiguousModelError(LookupError):
    """A bare name that several namespaces use; `candidates` are the full names."""

    def __init__(self, model: str, candidates: tuple[str, ...]) -> None:
        super().__init__(model)
        self.candidates = candidates


@dataclass(frozen=True, slots=True)
class Table:
    """All services by full name, at one moment. A change is a new table, so that a request never sees half of one."""

    backends: Mapping[str, Backend] = field(default_factory=dict)

    def resolve(self, model: str) -> Backend:
        """The service `model` means: `namespace/name`, or a bare name that is unique.

        Raises UnknownModelError or AmbiguousModelError.
        """
        if backend := self.backends.get(model):
            return backend
        found = [backend for backend in self.backends.values() if backend.name == model]
        if not found:
            raise UnknownModelError(model)
        if len(found) > 1:
            raise AmbiguousModelError(model, tuple(sorted(backend.full_name for backend in found)))
        return found[0]


def pick(replicas: Sequence[Replica], in_flight: Mapping[str, int], avoid: Collection[str] = ()) -> Replica | None:
    """The replica with the fewest requests in flight that is not in `avoid`; the first of equals, whose prefix cache is
    the warmest. None when there is none."""
    left = [replica for replica in replicas if replica.name not in avoid]
    return min(left, key=lambda replica: in_flight.get(replica.name, 0), default=None)
