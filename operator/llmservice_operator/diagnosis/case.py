"""One pod at one moment: what the checks look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from llmservice_operator.facts.pod_fields import CONTAINER
from llmservice_operator.facts.values import Json


@dataclass(frozen=True, slots=True)
class Case:
    """`gpu` is the resource it asks for, `gpu_exists` whether a known node has it.

    `events` are those about the pod and its claims, oldest first, as far as they were read; `what` is how sentences
    call the pod.
    """

    pod: Json
    now: datetime
    gpu: str = ""
    gpu_exists: bool = True
    events: Sequence[Json] = ()
    what: str = "replica"

    def see(self, command: str) -> str:
        """A command that shows more, to be pasted."""
        metadata = self.pod["metadata"]
        return f"See kubectl {command} -n {metadata.get('namespace', '')} {metadata.get('name', '')}"

    def log(self, container: str) -> str:
        """Where the words of a container before its end are."""
        status = self.pod.get("status", {})
        alone = len((*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))) == 1
        again = self.pod.get("spec", {}).get("restartPolicy") != "Never"
        return f"{self.see('logs')}{'' if alone else f' -c {container}'}{' --previous' if again else ''}."


def called(container: str) -> str:
    """How sentences call a container: by its name, unless it is the engine's."""
    return "The container" if container == CONTAINER else f"The container {container}"
