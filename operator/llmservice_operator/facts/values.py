"""What goes into a reconcile and what comes out: the contract between the core and its shell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmservice_api.adapters_told import AdapterTold
from llmservice_operator.facts.nodes import NodeKind
from llmservice_scaling.told import ScalingTold

Json = dict[str, Any]
"""An object as the API server spells it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A write that the API server refused. The shell passes it on to the next `reconcile`, until the write succeeds.

    `reason` is NameConflict (an object of that name is there and belongs to someone else: it is never touched),
    Contested (somebody undoes what is written, or wants another thing all the time, so it is written rarely; `message`
    says who and what to do),
    else Kubernetes' own word (`Forbidden`, `Invalid`); `message` the server's sentence.
    """

    kind: str
    name: str
    reason: str
    message: str


NAME_CONFLICT = "NameConflict"
CONTESTED = "Contested"


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything one reconcile may know."""

    service: Json
    """The LLMService."""
    children: tuple[Json, ...] = ()
    """All live objects with the service's name label: Deployment, Jobs, pods, ControllerRevisions, ..."""
    nodes: tuple[NodeKind, ...] | None = None
    """Kinds of nodes (`core.nodes.node_kinds`); None = nodes may not be read: fit is then Unknown."""
    refused: tuple[Refused, ...] = ()
    events: tuple[Json, ...] = ()
    """Events about children that wait (`core.waiting.unclear`): the only place where some reasons are told."""
    services: tuple[str, ...] = ()
    """Names of all LLMServices in its namespace, itself included; empty = not looked at."""
    loads: Mapping[str, Json] = field(default_factory=dict)
    """uid of a replica's pod -> what it measured while it loaded, as far as it was asked."""
    scaling: ScalingTold | None = None
    """What was decided by demand; None = nothing yet, or demand decides nothing."""
    adapters: Mapping[str, tuple[AdapterTold, ...]] = field(default_factory=dict)
    """uid of a replica's pod -> what it says of each adapter that it is to load, as far as it was asked."""


@dataclass(frozen=True, slots=True)
class Delete:
    """An object to delete, if it still is the one with this uid."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Poke:
    """An annotation for a pod, if it still is the one with this uid: its kubelet looks at its volumes then."""

    pod: str
    uid: str
    annotation: str
    value: str


@dataclass(frozen=True, slots=True)
class Note:
    """An Event to post: `type` is Normal or Warning."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to write, in this order; what already is as wanted is not written (the shell's diff decides).

    `apply` are whole objects as we want our fields, complete with namespace, labels and ownerReferences. Objects that
    are not in it are left alone: only `delete` removes. `status` is the whole status (None = leave it), with times kept
    where nothing changed: equal to the live one means no write. `requeue_after` in seconds; None = events suffice.
    """

    apply: tuple[Json, ...] = ()
    delete: tuple[Delete, ...] = ()
    status: Json | None = None
    notes: tuple[Note, ...] = field(default=())
    requeue_after: float | None = None
    pokes: tuple[Poke, ...] = ()
    """Best effort, after `apply`."""
