"""Sources without revisions of their own: a revision there is the digest of what they hold."""

from __future__ import annotations

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.sources.errors import Origin, SourceError


def check_pin(origin: Origin, wanted: str | None, digest: str) -> None:
    """SourceError (ModelChanged) when a revision was asked for and the content is another one."""
    if wanted is not None and wanted != digest:
        raise changed(origin, wanted, digest)


def changed(origin: Origin, wanted: str, now: str) -> SourceError:
    """`wanted` may stand in spec.model.revision, or be what the source held when it was planned with."""
    return origin.bad(
        f"the content there is now {now}, not {wanted}.",
        f"If spec.model.revision is {wanted}, write {now} there or leave it out: this source has no branches. If it is "
        "left out, the model is read anew by a cluster at once, by one machine with the next `llmservice up`.",
        FailureClass.MODEL_CHANGED,
    )
