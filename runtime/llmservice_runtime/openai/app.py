"""The routes, and what happens around every handler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version

from aiohttp import web

from llmservice_runtime.openai.chat import chat_completions
from llmservice_runtime.openai.completions import completions
from llmservice_runtime.openai.drain import draining
from llmservice_runtime.openai.generation import as_api_error
from llmservice_runtime.openai.metrics import CONTENT_TYPE
from llmservice_runtime.openai.models import get_model, list_models
from llmservice_runtime.openai.pooled import ENDPOINTS, handler
from llmservice_runtime.openai.state import SERVER, Server
from llmservice_runtime.openai.tokens import detokenize, tokenize
from llmservice_runtime.wire import sse
from llmservice_runtime.wire.callers import protect
from llmservice_runtime.wire.errors import MAX_BODY_BYTES, ApiError, body_too_large, error_response, internal
from llmservice_runtime.wire.server import expect

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)


def make_app(server: Server) -> web.Application:
    """All endpoints, with and without the /v1 prefix."""
    app = web.Application(middlewares=[_errors], client_max_size=MAX_BODY_BYTES)
    if server.callers:
        protect(app, server.callers)
    app[SERVER] = server
    for prefix in ("/v1", ""):
        app.router.add_post(f"{prefix}/chat/completions", chat_completions, expect_handler=expect)
        app.router.add_post(f"{prefix}/completions", completions, expect_handler=expect)
        for path, endpoint in ENDPOINTS.items():
            app.router.add_post(prefix + path.removeprefix("/v1"), handler(endpoint), expect_handler=expect)
        app.router.add_post(f"{prefix}/tokenize", tokenize, expect_handler=expect)
        app.router.add_post(f"{prefix}/detokenize", detokenize, expect_handler=expect)
        app.router.add_get(f"{prefix}/models", list_models)
        app.router.add_get(f"{prefix}/models/{{name:.+}}", get_model)
    app.router.add_get("/health", _health)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/version", _version)
    return app


async def _health(http: web.Request) -> web.Response:
    """200 when a request made now would be served."""
    server = http.app[SERVER]
    server.ready()
    return error_response(draining()) if server.drain.draining else web.Response()


async def _metrics(http: web.Request) -> web.Response:
    return web.Response(body=http.app[SERVER].metrics.render(), headers={"Content-Type": CONTENT_TYPE})


async def _version(_: web.Request) -> web.Response:
    try:
        number = version("llmservice")
    except PackageNotFoundError:  # linked into an engine environment, not installed there
        number = "unknown"
    return web.Response(text=sse.dumps({"version": number}), content_type="application/json")


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure before the first byte becomes the one error body."""
    server = request.app[SERVER]
    try:
        return await handler(request)
    except asyncio.CancelledError:
        if not server.drain.expired:
            raise
        return error_response(draining())
    except web.HTTPException as error:
        return error_response(_routing(request, error))
    except ConnectionError:
        raise
    except Exception as error:
        known = as_api_error(error)
        if known is None:
            log.exception("%s %s failed", request.method, request.path)
            known = internal("This server failed to answer; its log says why.")
        if isinstance(error, ApiError) and error.code == "draining":
            # What the engine itself refuses, it counts itself.
            server.metrics.rejected("draining")
        return error_response(known)


def _routing(request: web.Request, error: web.HTTPException) -> ApiError:
    """aiohttp's own refusals: no such path, wrong method, body too large."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return ApiError(
            405,
            f"{request.method} is not allowed on {request.path}; use {allowed}.",
            code="method_not_allowed",
            headers={"Allow": allowed},
        )
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return body_too_large()
    if isinstance(error, web.HTTPNotFound):
        return ApiError(
            404, f"No such path: {request.path}. The API starts at /v1 (docs/api.md lists it).", code="not_found"
        )
    return ApiError(error.status, error.reason or "The request was refused.", code="http_error")
