"""How an instance meets its clients, and what it may take: fixed when it starts, whatever joins it later."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmservice_gateway.app import Gateway
from llmservice_gateway.journal import Write
from llmservice_gateway.proxy import Limits
from llmservice_runtime.contract.listening import is_loopback
from llmservice_runtime.wire.callers import Callers


@dataclass(frozen=True, slots=True)
class Front:
    """`hosts` and `origins` as in Callers; `answer_seconds` as in Limits; `memory_bytes` is what all replicas may have
    together, None = what the machine has."""

    host: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    answer_seconds: float | None = None
    memory_bytes: int | None = None
    console: bool = True
    """Browsers get a page at `/`."""
    launch: tuple[str, ...] = ()
    """Clients may launch models from these sources, and remove them; empty = they may not."""

    def gateway(self, access: Write | None = None) -> Gateway:
        """A gateway that keeps to it, and writes the lines of its access log to `access`."""
        callers = Callers(
            loopback=is_loopback(self.host),
            hosts=frozenset(name.lower().removesuffix(".") for name in (*self.hosts, self.host)),
            origins=frozenset(origin.lower() for origin in self.origins),
            host_setting="To be reached under it, start the instance with `llmservice up --allow-host {}`.",
            origin_setting="To let it, start the instance with `llmservice up --allow-origin {}`.",
        )
        return Gateway(Limits(answer_seconds=self.answer_seconds), callers, access, console=self.console)

    def to_json(self) -> str:
        """Text that `from_json` reads back."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> Front:
        """The reverse of `to_json`."""
        return Front.of(json.loads(text))

    @staticmethod
    def of(body: Mapping[str, Any]) -> Front:
        """From what JSON has of its fields; those of another release are left out, and what it does not say is as it is
        by default."""
        said: dict[str, Any] = {
            field.name: body[field.name] for field in dataclasses.fields(Front) if field.name in body
        }
        said |= {name: tuple(said[name]) for name in ("hosts", "origins", "launch") if name in said}
        return Front(**said)
