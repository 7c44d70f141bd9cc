"""Which web pages may call an API from a browser (CORS): none, unless their origins are named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from aiohttp import web
from aiohttp.typedefs import Middleware

ANY = "*"
EXPOSED = "Retry-After, X-Request-Id, x-should-retry"
MAX_AGE_SECONDS = 600

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Prepare = Callable[[web.Request, web.StreamResponse], Awaitable[None]]


def allow(origins: Collection[str]) -> tuple[Middleware, Prepare]:
    """For `middlewares` (answers preflights) and `on_response_prepare` (lets a page of these origins read answers).

    `origins` as browsers send them (`https://chat.example.com`); `*` = any. Credentials are never allowed: keys go in
    a header that the page sets itself.
    """
    known = {origin.lower() for origin in origins}

    def allowed(request: web.Request) -> str:
        origin = request.headers.get("Origin", "")
        return origin if origin and (ANY in known or origin.lower() in known) else ""

    @web.middleware
    async def preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not (asked and allowed(request)):
            return await handler(request)
        headers = {
            "Access-Control-Allow-Methods": "GET, POST",
            "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", "*"),
            "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
        }
        return web.Response(status=204, headers=headers)

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        if known:
            response.headers["Vary"] = "Origin"
        if origin := allowed(request):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = EXPOSED

    return preflights, prepare
