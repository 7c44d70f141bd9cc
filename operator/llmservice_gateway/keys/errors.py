"""What is answered to who has no key, a wrong one, or asks for too much. Bodies and codes are OpenAI's."""

from __future__ import annotations

import math

from llmservice_gateway.keys.limits import Refused
from llmservice_runtime.wire.errors import ApiError, retry_headers, unavailable

WRONG_KEY = "invalid_api_key"
_CHALLENGE = {"WWW-Authenticate": "Bearer", "x-should-retry": "false"}


def key_required() -> ApiError:
    """401: it shows none."""
    message = (
        "This gateway asks for an API key, and the request has none. Send it as `Authorization: Bearer KEY`; "
        "whoever runs the gateway makes one with `llmservice keys create`."
    )
    return ApiError(401, message, code="api_key_required", headers=_CHALLENGE)


def key_unknown() -> ApiError:
    """401: nobody's, revoked, or at its end. What was shown is not repeated."""
    message = "The API key is not one of this gateway's: it is wrong, was revoked, or was replaced by another one."
    return ApiError(401, message, code=WRONG_KEY, headers=_CHALLENGE)


def keys_unread() -> ApiError:
    """503: whether a key is right can't be said yet."""
    return unavailable("This gateway has not read its API keys yet; retry.", code="keys_unread", retry_after=5)


def over_limit(name: str, refused: Refused) -> ApiError:
    """429 of a key's own limit."""
    message = (
        f"The API key {name} may use {refused.per_minute} {refused.what} a minute, and this gateway's part of them is "
        f"used up; retry in {math.ceil(refused.seconds)} s."
    )
    headers = retry_headers(math.ceil(refused.seconds))
    return ApiError(429, message, code="rate_limit_exceeded", kind=refused.what, headers=headers)
