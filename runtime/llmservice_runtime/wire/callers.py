"""Who may call an endpoint of this machine: a web page that somebody has open may not, unless it was asked for.

A page reaches loopback ports in two ways. Its own name can be made to resolve to 127.0.0.1 (DNS rebinding): then
`Host` has that name. Or it sends what a browser lets any page send: then `Origin` has the page, or `Sec-Fetch-Site`
says so.
Programs send neither; so nothing else is asked of them.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware
from multidict import MultiMapping

from llmservice_runtime.contract.bounds import ANY, is_origin
from llmservice_runtime.contract.listening import is_loopback
from llmservice_runtime.wire.errors import ApiError, cut, error_response

EXPOSED = "Retry-After, X-Request-Id, x-should-retry"
_ALLOWED_ORIGIN = web.RequestKey("allowed_origin", str)
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Refusal = Callable[[web.Request, ApiError], web.StreamResponse]


@dataclass(frozen=True, slots=True)
class Callers:
    """`loopback` = the endpoint listens on this machine alone. `hosts` are names under which it is reached beside the
    machine's own, `origins` the origins whose pages may call it (`https://chat.example.com`); `*` in either = any.

    `host_setting` and `origin_setting` say how to allow one more; `{}` is where it stands.
    """

    loopback: bool = True
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    host_setting: str = "Call it as 127.0.0.1 or localhost."
    origin_setting: str = "Call the gateway, and allow the page there."

    @property
    def private(self) -> bool:
        """Whether programs of this machine alone call: no proxy under another name, no page of another site."""
        return self.loopback and not self.origins and all(map(is_loopback, self.hosts))

    def check(self, method: str, headers: MultiMapping[str]) -> str:
        """The origin that must be allowed by CORS headers, empty = none; ApiError 403 for a page that may not call."""
        host = ", ".join(headers.getall("Host", ()))
        if not self._is_ours(host):
            if not host:
                raise _refused("host_not_allowed", "The request has no Host header.", "Send one, as HTTP/1.1 does.")
            said = f"The request is for host {_shown(host)}, which is none of this endpoint's."
            raise _refused("host_not_allowed", said, self.host_setting.format(_name(host) or "NAME"))
        origin = ", ".join(headers.getall("Origin", ()))
        if origin and (ANY in self.origins or origin.lower() in self.origins):
            return origin
        if origin and not _same(origin, host):
            raise _refused(
                "origin_not_allowed",
                f"A web page of {_shown(origin)} may not call this endpoint.",
                self.origin_setting.format(origin if is_origin(origin) else "ORIGIN"),
            )
        site = headers.get("Sec-Fetch-Site", "none").lower()
        followed = method == "GET" and headers.get("Sec-Fetch-Mode", "").lower() == "navigate"
        if not origin and site not in ("none", "same-origin") and not followed and ANY not in self.origins:
            said = "A web page of another site may not call this endpoint."
            raise _refused("origin_not_allowed", said, self.origin_setting.format("ORIGIN"))
        return ""

    def _is_ours(self, host: str) -> bool:
        if ANY in self.hosts:
            return True
        name = _name(host)
        if name == "localhost" or name in self.hosts:
            return True
        if (on_loopback := _on_loopback(name)) is not None:
            return on_loopback or not self.loopback
        return name.endswith(".localhost") or (not self.loopback and name in _own_names())


@lru_cache(256)
def _on_loopback(name: str) -> bool | None:
    """Whether an address is this machine's own; None for what is none."""
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None
    return bool((getattr(address, "ipv4_mapped", None) or address).is_loopback)


def is_host(text: str) -> bool:
    """Whether this is a host's name or address, without a port."""
    match = _HOST.fullmatch(text.lower())
    return match is not None and match["name"] == text.lower()


def _refusal(_: web.Request, error: ApiError) -> web.StreamResponse:
    return error_response(error)


def protect(app: web.Application, callers: Callers, refusal: Refusal = _refusal) -> None:
    """Has `app` answer 403 to callers that may not, and preflights of those that may, whose pages may read all answers.

    Its middlewares so far see the refusals as answers, which `refusal` makes.
    """
    app.middlewares.append(_guard(callers, refusal))
    app.on_response_prepare.append(_tell_browsers)


def _guard(callers: Callers, refusal: Refusal) -> Middleware:
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            origin = callers.check(request.method, request.headers)
        except ApiError as error:
            return refusal(request, error)
        if origin:
            request[_ALLOWED_ORIGIN] = origin
            if is_preflight(request.method, request.headers):
                return web.Response(status=204, headers=preflight(request.headers))
        return await handler(request)

    return middleware


async def _tell_browsers(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in told(request.get(_ALLOWED_ORIGIN, "")).items():
        response.headers.add(name, value)


def told(origin: str) -> dict[str, str]:
    """Headers of every answer, which depends on who asks: the page whose origin was allowed may read it, errors too."""
    if not origin:
        return {"Vary": "Origin"}
    return {"Vary": "Origin", "Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": EXPOSED}


def is_preflight(method: str, headers: MultiMapping[str]) -> bool:
    """Whether a browser asks if a page may send a request."""
    return method == "OPTIONS" and "Access-Control-Request-Method" in headers


def preflight(headers: MultiMapping[str]) -> dict[str, str]:
    """The answer that it may."""
    allowed = {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": headers.get("Access-Control-Request-Headers", "*"),
        "Access-Control-Max-Age": "600",
    }
    if headers.get("Access-Control-Request-Private-Network") == "true":
        allowed["Access-Control-Allow-Private-Network"] = "true"
    return allowed


def _name(host: str) -> str:
    """The name in a Host header, in lower case, without the dot of an absolute one; empty when it is none."""
    match = _HOST.fullmatch(host.lower())
    return match["name"].removesuffix(".") if match else ""


def _same(origin: str, host: str) -> bool:
    """Whether a page of this endpoint itself calls it; TLS may end before it."""
    if not is_origin(origin) or origin == "null":
        return False
    parts = urlsplit(origin.lower())
    return parts.scheme in ("http", "https") and parts.netloc == host.lower()


def _own_names() -> tuple[str, ...]:
    """What others in the network call this machine."""
    full = socket.gethostname().lower()
    short = full.partition(".")[0]
    return full, short, f"{short}.local"


def _shown(text: str) -> str:
    return ascii(cut(text))


def _refused(code: str, said: str, remedy: str) -> ApiError:
    return ApiError(403, f"{said} {remedy}", code=code)
