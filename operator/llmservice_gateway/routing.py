"""Which service a model name means, and what is known of its replicas: pure functions over an immutable table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmservice_gateway.places import Capacity, Speed

UNKNOWN, UNMEASURED = Capacity(), Speed()
LATEST = ":latest"
ANYTHING = ("tgi", "dummy")
"""What clients of TGI and Hugging Face name as the model of a server that has one."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A ready replica. `name` is never reused, so that counts of an old one don't stick to a new one."""

    name: str
    url: str
    """Of the engine's data port, without a path: `http://127.0.0.1:40213`."""
    waiting: int = 0
    """Requests in its queue, as it last said."""
    adapters: frozenset[str] = frozenset()
    """Names of those that it has loaded, as it last said."""


@dataclass(frozen=True, slots=True)
class Unready:
    """Why no replica is ready: a condition reason, a sentence, what to do, and when to ask again (seconds)."""

    reason: str
    message: str
    remedy: str = ""
    retry_after: int = 10
    final: bool = False
    """Waiting does not help: someone has to change something."""
    held: bool = True
    """Requests wait for it, at most as long as they may; else they are told at once. A final one is always told."""
    since: float = 0.0
    """Unix time from which on it was so; 0 = that is not known."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """One that a service declares. `problem`: why no replica will have it (a sentence); empty = it comes."""

    name: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a service's model. Empty, or 0: it isn't."""

    task: str = ""
    """Chat, Completion, Embedding or Rerank."""
    uri: str = ""
    revision: str = ""
    engine: str = ""
    format: str = ""
    """GGUF or Safetensors."""
    architecture: str = ""
    parameters: int = 0
    quantization: str = ""
    """`Q4_K_M`, `FP8`; of unquantized weights their type."""
    file_bytes: int = 0
    sees: bool = False
    """Chats take pictures, by this engine."""
    abilities: frozenset[str] | None = None
    """Of its chat template (`Thinking`, `Tools`); None = nobody looked."""


UNTOLD = About()


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

    capacity: Capacity = UNKNOWN
    """Of each replica."""
    speed: Speed = UNMEASURED
    """Likewise."""
    max_held: int = 100
    """Requests that may wait for a replica; more are refused. 0 = none waits."""
    adapters: tuple[Adapter, ...] = ()
    """In the order of their names."""
    about: About = UNTOLD

    @property
    def full_name(self) -> str:
        """The canonical model name."""
        return f"{self.namespace}/{self.name}"

    def adapter(self, name: str) -> Adapter | None:
        """The one that it declares under this name."""
        return next((adapter for adapter in self.adapters if adapter.name == name), None)

    def having(self, adapter: str) -> tuple[Replica, ...]:
        """Replicas that answer for an adapter; empty = for the model itself."""
        return tuple(one for one in self.replicas if adapter in one.adapters) if adapter else self.replicas


@dataclass(frozen=True, slots=True)
class Meant:
    """What a model name means: a service, and which of its adapters; empty = the model itself."""

    backend: Backend
    adapter: str = ""

    @property
    def full_name(self) -> str:
        """The canonical model name."""
        return f"{self.backend.full_name}:{self.adapter}" if self.adapter else self.backend.full_name

    @property
    def uid(self) -> str:
        """The same for clients of Xinference, whose names have no slash."""
        return self.full_name.replace("/", ".", 1)


class UnknownModelError(LookupError):
    """No service has this name."""


class UnknownAdapterError(LookupError):
    """The service that a name means has no such adapter."""

    def __init__(self, backend: Backend, adapter: str) -> None:
        super().__init__(adapter)
        self.backend = backend
        self.adapter = adapter


class AmbiguousModelError(LookupError):
    """A bare name that several namespaces use; `candidates` are the full names."""

    def __init__(self, model: str, candidates: tuple[str, ...]) -> None:
        super().__init__(model)
        self.candidates = candidates


@dataclass(frozen=True, slots=True)
class Table:
    """All services by full name, at one moment. A change is a new table, so that a request never sees half of one."""

    backends: Mapping[str, Backend] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names -> full names, also of adapters, as whoever runs the gateway gives them. They win over bare names, so
    no service can take one by its own name."""
    _found: dict[str, Meant] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What names were found to mean: no more than there are names. Most requests have one of a few."""

    def only(self, backend: Backend) -> Table:
        """What is left of it below this service's own URL."""
        name = backend.full_name
        return Table({name: backend}, {alias: led for alias, led in self.aliases.items() if service_in(led) == name})

    def meant(self, model: str) -> Meant:
        """As `resolve`, and `NAME:adapter` where NAME is any of these names. The tag `latest`, which Ollama's clients
        put behind names, is an adapter's name or says nothing.

        Raises UnknownModelError, AmbiguousModelError or UnknownAdapterError.
        """
        found = self._found.get(model)
        if found is None:
            found = self._found[model] = self._or_latest(model)
        return found

    def _or_latest(self, model: str) -> Meant:
        try:
            return self._meant(model)
        except (UnknownModelError, UnknownAdapterError):
            if not model.endswith(LATEST):
                raise
            return self._meant(model.removesuffix(LATEST))

    def _meant(self, model: str) -> Meant:
        led = self.aliases.get(model, model)
        name, colon, adapter = led.rpartition(":")
        if model in self.backends or not colon:
            return Meant(self.resolve(model))
        try:
            backend = self.resolve(name)
        except UnknownModelError:
            raise UnknownModelError(model) from None
        except AmbiguousModelError as error:
            raise AmbiguousModelError(model, tuple(f"{found}:{adapter}" for found in error.candidates)) from None
        if backend.adapter(adapter) is None:
            raise UnknownAdapterError(backend, adapter)
        return Meant(backend, adapter)

    def shown(self, *, aliases: bool = True) -> list[tuple[str, Meant]]:
        """Full names, and `aliases` that lead somewhere, with what they lead to; adapters after their service."""
        found: dict[str, Meant] = {}
        for name, backend in self.backends.items():
            found[name] = Meant(backend)
            found |= {meant.full_name: meant for each in backend.adapters if (meant := Meant(backend, each.name))}
        led = {alias: found[name] for alias, name in self.aliases.items() if name in found} if aliases else {}
        return sorted({**led, **found}.items(), key=lambda shown: shown[0].split(":"))

    def means(self, model: str, backend: Backend) -> bool:
        """Whether `model`, of a request to this service, is a name of it that no engine knows."""
        if model in ANYTHING:
            return True
        try:
            return self.only(backend).meant(model) == Meant(backend)
        except LookupError:
            return False

    def resolve(self, model: str) -> Backend:
        """The service `model` means: `namespace/name`, an alias, a bare name that is unique, or `namespace.name`, as
        Xinference's clients have it.

        Raises UnknownModelError or AmbiguousModelError.
        """
        try:
            return self._named(model)
        except UnknownModelError:
            if "/" in model or "." not in model:
                raise
            return self._named(model.replace(".", "/", 1))

    def _named(self, model: str) -> Backend:
        if backend := self.backends.get(model):
            return backend
        if model in self.aliases:
            if backend := self.backends.get(self.aliases[model]):
                return backend
            raise UnknownModelError(model)
        found = [backend for backend in self.backends.values() if backend.name == model]
        if not found:
            raise UnknownModelError(model)
        if len(found) > 1:
            raise AmbiguousModelError(model, tuple(sorted(backend.full_name for backend in found)))
        return found[0]


def service_in(name: str) -> str:
    """The service of a full name, which may be an adapter's."""
    return name.partition(":")[0]
