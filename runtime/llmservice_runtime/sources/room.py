"""Room for a download in a cache that is full: models that nobody uses go, the longest unused first."""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llmservice_runtime.sources.kept import Kept, is_in_use, kept_models, prune, wanted_by

log = logging.getLogger(__name__)
MIB = 1 << 20
FRESH_SECONDS = 600.0
"""What was brought or used so lately may be about to start."""
REASONS = IN_USE, OF_OTHERS, KEPT, FRESH = (
    "in use",
    "of another service",
    "of a revision that may come back",
    f"used in the last {FRESH_SECONDS / 60:.0f} minutes",
)


@dataclass(frozen=True, slots=True)
class Room:
    """Who makes room: `service` is `namespace/name` where it has its model in the cache even without replicas.

    Spared are `keep` (revisions, as folders are called), the model that is being brought, what is in use or was a
    moment ago, and what another service has.
    """

    cache: Path
    service: str = ""
    keep: tuple[str, ...] = ()
    clock: Callable[[], float] = time.time

    def make(self, target: Path, needed: int) -> None:
        """Remove models until `needed` bytes are free in the cache, or nothing is left that may go."""

        def spared(kept: Kept) -> bool:
            enough = shutil.disk_usage(self.cache).free >= needed
            return enough or kept.folder == target or kept.commit in self.keep or self._others(kept)

        for kept, size in prune(kept_models(self.cache), self.clock() - FRESH_SECONDS, spared):
            log.warning("%s was removed to make room: %.0f MiB that nothing used.", kept.name, size / MIB)

    def stays(self, target: Path) -> str:
        """How many models there are that may not go, by why, as a sentence; empty = none. They are not named: where
        namespaces share a cache, whose they are is nobody else's business."""
        others = [kept for kept in kept_models(self.cache) if kept.folder != target]
        found = Counter(map(self._why, others))
        listed = ", ".join(f"{found[why]} {why}" for why in REASONS if found[why])
        return f" Models that stay there: {listed}." if listed else ""

    def _why(self, kept: Kept) -> str:
        if is_in_use(kept):
            return IN_USE
        if self._others(kept):
            return OF_OTHERS
        if kept.commit in self.keep:
            return KEPT
        return FRESH

    def _others(self, kept: Kept) -> bool:
        return any(service != self.service for service in wanted_by(kept))
