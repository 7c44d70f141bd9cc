"""What clients may launch in a cluster, as the gateway's arguments say. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import ValidationError

from llmservice_api.sentences import explain, field_path
from llmservice_api.sources import SCHEMES
from llmservice_api.workload import CacheSpec
from llmservice_gateway.launching.wish import Json, Leave
from llmservice_runtime.contract.bounds import ANY
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.wire.errors import cut

_MORE = "To let them, add {} to the chart's gateway.launch.sources."


def leave(
    namespaces: Sequence[str], sources: Sequence[str], watched: Sequence[str] = (), cache: str = "", *, keys: bool
) -> Leave:
    """UserError where nobody would be asked whether he may (no `keys`), or where nothing could come of a launch.

    `watched` empty = all namespaces; `cache`: `spec.cache` of what is launched, in JSON.
    """
    if not keys:
        raise UserError(
            "--launch-namespaces lets requests run models, and without --keys-of anybody may send them.",
            "Ask for API keys, or leave it out.",
        )
    if not sources or (unknown := set(sources) - {*SCHEMES, ANY}):
        raise UserError(
            f"--launch-sources: {', '.join(sorted(unknown)) if sources else 'it'} names no source.",
            f"There are {', '.join(SCHEMES)}, and * for any.",
        )
    if watched and (others := ", ".join(sorted(set(namespaces) - set(watched)))):
        raise UserError(f"--launch-namespaces: {others} is not watched.", "Add it to --watch-namespaces.")
    return Leave(frozenset(sources), tuple(namespaces), more=_MORE, cache=_cache(cache))


def _cache(text: str) -> Json:
    if not text:
        return {}
    try:
        given: Json = json.loads(text)
        CacheSpec.model_validate(given)
    except ValidationError as error:
        location, reason, remedy = explain(error.errors(include_url=False)[0], CacheSpec)
        raise UserError(f"--launch-cache: {field_path(location) or 'all of it'}: {reason}", remedy) from None
    except ValueError as error:
        raise UserError(
            f"--launch-cache: {cut(text)!r} is no JSON: {error}.", "Write it as a service has it."
        ) from None
    return given
