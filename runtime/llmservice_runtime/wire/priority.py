"""The one header by which a request says that it may wait: batch work, which live requests go before."""

from __future__ import annotations

from collections.abc import Mapping

from llmservice_runtime.wire.errors import bad_request, cut

HEADER = "X-LLMService-Priority"
LIVE, BATCH = "live", "batch"


def is_batch(headers: Mapping[str, str]) -> bool:
    """Whether a request goes behind live ones; ApiError 400 for a word that is none. Without the header it does not."""
    said = headers.get(HEADER, LIVE).strip().lower()
    if said not in (LIVE, BATCH):
        raise bad_request(f"The header {HEADER} is `{cut(said)}`; it may be `{BATCH}` or `{LIVE}`.", HEADER)
    return said == BATCH
