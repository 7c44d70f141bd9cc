"""What launches models: this machine's instance, or a cluster's API server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from llmservice_gateway.launching.wish import Leave, Wish
from llmservice_runtime.wire.errors import ApiError

May = Callable[[str], None]
"""Raises ApiError where whoever asks has no right to launch or remove a service of this name."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A launch of a service. `made` is what the one that it made is known by; empty = there was one that is as good."""

    service: str
    made: str = ""


@dataclass(frozen=True, slots=True)
class Download:
    """Bytes of a model. `done` None = nobody tells how many of them are here."""

    done: int | None
    total: int


class Launcher(Protocol):
    """Services are told by their full names."""

    leave: Leave

    async def launch(self, wish: Wish, may: May) -> Begun:
        """Begin. ApiError when it can't be, or `may` has something against the name that it gets."""
        ...

    async def give_up(self, begun: Begun) -> None:
        """It came to nothing: end it, and remove what it made, and nothing else."""
        ...

    def download(self, service: str) -> Download | None:
        """What is brought for it now; None = nothing, or nobody knows."""
        ...

    def failure(self, service: str) -> ApiError | None:
        """Why it came to nothing, where the service itself does not say."""
        ...

    def launched(self, service: str) -> bool:
        """Whether a client may remove it: one launched it, or somebody said so (`labels.LAUNCHED`)."""
        ...

    async def remove(self, service: str, *, files: bool) -> None:
        """Drain and remove it, also while it is being launched; `files`: what was brought for it alone goes too."""
        ...
