"""What is answered to who may not launch or remove a model, or can't."""

from __future__ import annotations

from llmservice_gateway.errors import made_elsewhere
from llmservice_runtime.wire.errors import ApiError

_NO_RETRY = {"x-should-retry": "false"}


def not_allowed(method: str, path: str) -> ApiError:
    """501: this installation lets no client say which models there are."""
    error = made_elsewhere(method, path)
    message = (
        f"{error.message} To let clients launch and remove models, set the chart's `gateway.launch.namespaces`, on one "
        "machine start the instance with `llmservice up --allow-launch hf`."
    )
    return ApiError(501, message, code="launch_not_allowed", headers=_NO_RETRY)


def key_may_not(key: str, service: str) -> ApiError:
    """403: a key without the right, or for other services."""
    message = (
        f"The API key {key} may not launch or remove {service}. `llmservice keys create NAME --services PATTERN "
        "--launch` makes one that may."
    )
    return ApiError(403, message, code="launch_not_allowed", headers=_NO_RETRY)


def namespace_not_allowed(namespace: str, allowed: tuple[str, ...], field: str) -> ApiError:
    """403: nothing is launched there."""
    said = f"`{field}` asks for the namespace {namespace}, and models are launched in {', '.join(allowed)} alone."
    return ApiError(403, f"{said} Name one of these.", code="launch_not_allowed", param=field, headers=_NO_RETRY)


def not_launched(service: str) -> ApiError:
    """403: somebody else's."""
    message = (
        f"{service} was launched by no client of the gateway, so none removes it. Remove it by `kubectl delete`, on "
        "one machine by `llmservice down`, or let clients do it: give it the label `llmservice.dev/launched`."
    )
    return ApiError(403, message, code="not_launched", headers=_NO_RETRY)


def there_already(service: str, field: str) -> ApiError:
    """409: the name is taken."""
    message = f"There is a service {service} already. Remove it first, or give this one another name with `{field}`."
    return ApiError(409, message, code="already_there", param=field, headers=_NO_RETRY)


def went_away(service: str) -> ApiError:
    """409: somebody removed it while it was launched."""
    return ApiError(409, f"{service} was removed while it was launched.", code="cancelled", headers=_NO_RETRY)


def failed(service: str, code: str, why: str) -> ApiError:
    """422: it can't be served."""
    return ApiError(422, f"{service} can't be served ({code}): {why}", code=code, headers=_NO_RETRY)


def too_many(most: int) -> ApiError:
    """429."""
    said = f"{most} models are being launched already; retry when one of them is there."
    return ApiError(429, said, code="launches_busy", headers={"Retry-After": "30"})
