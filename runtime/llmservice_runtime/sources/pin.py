"""Sources without revisions of their own: `spec.model.revision` can pin the digest of what they hold."""

from __future__ import annotations

from llmservice_runtime.sources.errors import Origin


def check_pin(origin: Origin, wanted: str | None, digest: str) -> None:
    """SourceError when a revision was asked for and the content is another one."""
    if wanted is not None and wanted != digest:
        raise origin.bad(
            f"spec.model.revision is {wanted}, but the content there is now {digest}.",
            "This source has no branches: leave revision out, or pin the digest that `llmservice plan` shows.",
        )
