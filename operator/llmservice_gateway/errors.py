"""What the gateway itself answers when a request can't be passed on. The body is the one every engine uses."""

from __future__ import annotations

from llmservice_gateway.routing import Adapter, AmbiguousModelError, Backend, Table, UnknownAdapterError, Unready
from llmservice_gateway.suspects import DEATHS, SECONDS
from llmservice_runtime.contract.plain import plain
from llmservice_runtime.wire.errors import MAX_RETRY_AFTER, ApiError, cut, queue_full, unavailable

CODES = {"Loading": "loading", "Draining": "draining"}
"""Reasons for which an engine has a code of its own; the others are told in the words of a service's conditions."""


def model_not_found(model: str, table: Table) -> ApiError:
    """404 that lists what is served."""
    names = sorted(table.backends)
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    served = f"Served here: {shown}." if names else "No service is served here."
    return ApiError(404, f"The model `{cut(model)}` does not exist. {served}", code="model_not_found", param="model")


def adapter_not_found(error: UnknownAdapterError) -> ApiError:
    """404 that lists the service's adapters."""
    names = [adapter.name for adapter in error.backend.adapters]
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    served = f"It has: {shown}." if names else "It has none."
    said = f"{error.backend.full_name} has no adapter `{cut(error.adapter)}`. {served}"
    return ApiError(404, said, code="model_not_found", param="model")


def adapter_failed(backend: Backend, adapter: Adapter) -> ApiError:
    """503 with what is wrong with an adapter: waiting does not help, and the service's other names answer."""
    said = f"{backend.full_name}:{adapter.name} is not served: {adapter.problem}"
    error = unavailable(said, code="adapter_failed", retry_after=MAX_RETRY_AFTER)
    error.headers["x-should-retry"] = "false"
    return error


def adapter_not_loaded(backend: Backend, adapter: str, seconds: float) -> ApiError:
    """503: replicas were ready, and none had loaded the adapter."""
    said = f"No replica of {backend.full_name} has loaded its adapter {adapter} within {seconds:.0f} s; retry."
    return unavailable(said, code="adapter_not_loaded", retry_after=30)


def model_gone(model: str) -> ApiError:
    """404: it was there when the request came. Others are not listed: not every client may know of all."""
    return ApiError(404, f"The model `{cut(model)}` does not exist any more.", code="model_not_found", param="model")


def model_ambiguous(model: str, error: AmbiguousModelError) -> ApiError:
    """404: a bare name must be unique."""
    message = (
        f"The model name `{cut(model)}` means several services: {', '.join(error.candidates)}. Use one of these names."
    )
    return ApiError(404, message, code="model_ambiguous", param="model")


def not_ready(backend: Backend) -> ApiError:
    """503 with the reason and the remedy. A final failure tells clients not to retry by themselves."""
    why: Unready = backend.unready
    message = f"{backend.full_name} is not ready ({why.reason}): {why.message} {why.remedy}".strip()
    error = unavailable(
        message, code=CODES.get(why.reason, why.reason), retry_after=MAX_RETRY_AFTER if why.final else why.retry_after
    )
    if why.final:
        error.headers["x-should-retry"] = "false"
    return error


def held_too_long(backend: Backend, seconds: float) -> ApiError:
    """503: there were replicas all the time, and none had room."""
    message = f"No replica of {backend.full_name} had room for this request within {seconds:.0f} s; retry."
    return unavailable(message, code="held_too_long", retry_after=30)


def too_many_held(backend: Backend, seconds: int) -> ApiError:
    """429: as many requests wait as may. `seconds`: until those have their places, by the latest answers."""
    message = (
        f"{backend.max_held} requests wait for a replica of {backend.full_name} already, which is as many as may "
        "(`endpoint.maxQueuedRequests`); retry."
    )
    return queue_full(message, seconds)


def too_much_held(limit: int) -> ApiError:
    """429: the bodies of requests that have not been answered fill what the gateway keeps for them."""
    message = f"Bodies of waiting requests take {limit >> 20} MiB, as much as this gateway keeps for them; retry."
    return queue_full(message, 10)


def body_too_slow(silent_seconds: float, seconds: float) -> ApiError:
    """408: its client stands still, or sends too slowly."""
    said = f"within {seconds:.0f} s, and never pauses for {silent_seconds:.0f} s"
    return ApiError(408, f"The body did not come in time: it comes {said}.", code="body_too_slow")


def gateway_draining() -> ApiError:
    """503: the gateway is going away."""
    return unavailable("The gateway is shutting down and takes no new requests.", code="draining", retry_after=5)


def replica_lost(backend: Backend) -> ApiError:
    """503: every replica that was asked broke, or fell silent, before its first byte."""
    message = f"The replica of {backend.full_name} ended or fell silent before it answered; retry."
    return unavailable(message, code="replica_lost", retry_after=5)


def quarantined(service: str) -> ApiError:
    """422: replicas die with this request; it gets no other one."""
    message = (
        f"{DEATHS} replicas of {service} died while they had this request, so it is given to no other one "
        f"for {SECONDS / 60:.0f} minutes. The replicas' logs say what happened; change the request, or ask again then."
    )
    return ApiError(422, message, code="request_quarantined", headers={"x-should-retry": "false"})


def answer_timeout(backend: Backend, seconds: float) -> ApiError:
    """504: the replica lives, but the answer did not begin (a stream) or end (a whole one) in time. Not retried: the
    next one would take as long."""
    message = (
        f"{backend.full_name} did not answer within {seconds:.0f} s. Ask for less (`max_tokens`) or for a stream, or "
        "raise the gateway's bound (`llmservice up --answer-seconds`)."
    )
    return ApiError(504, message, code="answer_timeout", kind="server_error", headers={"x-should-retry": "false"})


def answer_too_large(service: str, limit: int) -> ApiError:
    """502: a whole answer is kept until all of it is there."""
    message = (
        f"The answer of {service} has more than {limit >> 20} MiB. Ask for less, for fewer `logprobs`, or for a stream."
    )
    return ApiError(502, message, code="answer_too_large", kind="server_error", headers={"x-should-retry": "false"})


def no_room_for_answer(limit: int) -> ApiError:
    """503: large answers of others fill what the gateway keeps for them."""
    message = (
        f"Large answers take {limit >> 20} MiB, as much as this gateway keeps for them; retry, or ask for a stream."
    )
    return unavailable(message, code="no_room_for_answer", retry_after=10)


def replica_error(service: str, status: int, body: bytes) -> ApiError:
    """What a replica said that is no answer, and no error as OpenAI's; its status, where it is one of an error."""
    said = " ".join(plain(body.decode(errors="replace")).split())
    message = f"The replica of {service} answered {status}" + (f": {cut(said, 300)}" if said else ", and said no more.")
    refuses = 400 <= status < 500
    return ApiError(
        status if 400 <= status < 600 else 502,
        message,
        code="replica_error",
        kind="invalid_request_error" if refuses else "server_error",
    )


def context_too_small(backend: Backend, field: str, tokens: int) -> ApiError:
    """400: a client asks for a longer context than the service was planned for."""
    message = (
        f"`{field}` is {tokens}, and {backend.full_name} has a context of {backend.context_tokens} tokens. Ask for no "
        "more, or raise `spec.contextTokens` of the service."
    )
    return ApiError(400, message, code="context_too_small", param=field)


def no_route(method: str, path: str) -> ApiError:
    """404 for a path that nobody serves."""
    message = (
        f"There is no {method} {path}. Routes: /v1/models, /v1/chat/completions, /v1/completions, /v1/responses, "
        "/v1/messages, /v1/messages/count_tokens, /v1/embeddings, /v1/rerank, /v1/score, /tokenize, /detokenize, and "
        "the same under /NAMESPACE/NAME/v1; Ollama's /api/...; TGI's /NAMESPACE/NAME/generate, /generate_stream."
    )
    return ApiError(404, message, code="not_found")


def made_elsewhere(method: str, path: str) -> ApiError:
    """501: which models there are is not a client's to say."""
    message = (
        f"{method} {path} changes which models there are, and this gateway only serves them. A model is an LLMService: "
        "make, change and remove it by `kubectl apply` and `kubectl delete`, on one machine by `llmservice run MODEL`, "
        "`llmservice up -f FILE` and `llmservice down`."
    )
    return ApiError(501, message, code="made_elsewhere", headers={"x-should-retry": "false"})


def nothing_stored() -> ApiError:
    """404: a route of servers that keep responses."""
    message = (
        "No response is stored here, so none can be read, changed or counted; keep what POST /v1/responses answers."
    )
    return ApiError(404, message, code="not_found")


def method_not_allowed(method: str, path: str, allowed: str) -> ApiError:
    """405."""
    return ApiError(
        405, f"{path} does not take {method}; use {allowed}.", code="method_not_allowed", headers={"Allow": allowed}
    )
