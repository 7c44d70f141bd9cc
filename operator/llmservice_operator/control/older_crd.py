"""A CustomResourceDefinition that is older than this operator, as where somebody brings the two one after the other.

The server takes no status with a field that the schema does not have. It names it: status is written without it, and
the operator says that the CRD is to be brought up to it. The field is tried again every now and then.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

from llmservice_api.crd import CRD_NAME
from llmservice_kube.errors import ApiError
from llmservice_operator.control.health import Health
from llmservice_operator.facts.values import Json

AGAIN_SECONDS = 60.0
"""Until a field is tried again."""
TOLD_SECONDS = 1500.0
"""How long it counts as a problem: every service is looked at in less."""
PROBLEM = "crd"
_UNDECLARED = re.compile(r"\.status((?:\.\w+)+): field not declared in schema")


class OlderCrd:
    """The fields of a status that the CRD is known not to have."""

    def __init__(self, health: Health, clock: Callable[[], float]) -> None:
        self._health = health
        self._clock = clock
        self._lacks: dict[tuple[str, ...], float] = {}
        """Until when each field is left out."""

    def takes(self, status: Json) -> Json:
        """The part of a status that the CRD has, as far as is known."""
        now = self._clock()
        lacking = [path for path, until in self._lacks.items() if now < until]
        if not lacking:
            return status
        result = copy.deepcopy(status)
        for *parents, name in lacking:
            holder = result
            for part in parents:
                holder = holder.get(part, {})
            holder.pop(name, None)
        return result

    def learn(self, error: ApiError, status: Json) -> bool:
        """Whether a status was refused for fields that the CRD does not have: what it takes is less than `status`."""
        paths = [tuple(path.split(".")[1:]) for path in _UNDECLARED.findall(error.message)]
        self._lacks |= dict.fromkeys(paths, self._clock() + AGAIN_SECONDS)
        if not paths or self.takes(status) == status:
            return False
        fields = ", ".join(sorted("status." + ".".join(path) for path in self._lacks))
        self._health.problem(
            PROBLEM,
            f"the CustomResourceDefinition {CRD_NAME} is older than this operator, so {fields} can't be written. "
            "Update it: kubectl apply --server-side -f crds/",
            TOLD_SECONDS,
        )
        return True

    def wrote(self, status: Json) -> None:
        """The server took a status: it has all that this one has."""
        for path in [path for path in self._lacks if _has(status, path)]:
            del self._lacks[path]
        if not self._lacks:
            self._health.solved(PROBLEM)


def _has(status: Json, path: tuple[str, ...]) -> bool:
    found: object = status
    for part in path:
        if not isinstance(found, dict) or part not in found:
            return False
        found = found[part]
    return True
