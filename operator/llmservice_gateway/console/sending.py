"""How the console's answers are sent: which headers, compressed or not, or not at all where a browser has them."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cached_property

from aiohttp import web

from llmservice_console.assets import SMALL, Asset

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""What the page may load and do: nothing of others, no script or style that stands in a text, in nobody's frame."""
_ALWAYS = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
PAGE_HEADERS = {
    **_ALWAYS,
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",
    "Vary": "Accept",
}
ASSET_HEADERS = {**_ALWAYS, "Cache-Control": "public, max-age=31536000, immutable"}
API_HEADERS = {**_ALWAYS, "Cache-Control": "private, no-cache"}


@dataclass(frozen=True)
class Answer:
    """JSON that is sent to several."""

    body: bytes

    @cached_property
    def etag(self) -> str:
        """Its hash."""
        return hashlib.blake2b(self.body, digest_size=12).hexdigest()

    @cached_property
    def packed(self) -> bytes | None:
        """Through gzip, quickly."""
        return gzip.compress(self.body, compresslevel=1, mtime=0) if len(self.body) >= SMALL else None

    kind: str = "application/json"


def sent(request: web.Request, what: Asset | Answer, headers: dict[str, str]) -> web.Response:
    """The answer to a GET: 304 where the browser has it."""
    tag = f'"{what.etag}"'
    headers = {**headers, "ETag": tag}
    if _has(request.headers.get("If-None-Match", ""), tag):
        return web.Response(status=304, headers=headers)
    vary = [headers["Vary"]] if "Vary" in headers else []
    headers["Vary"] = ", ".join([*vary, "Accept-Encoding"])
    body, packed = what.body, what.packed
    if packed is not None and _takes_gzip(request.headers.get("Accept-Encoding", "")):
        body, headers["Content-Encoding"] = packed, "gzip"
    return web.Response(body=body, headers={**headers, "Content-Type": what.kind})


def _takes_gzip(said: str) -> bool:
    """Whether Accept-Encoding names it, or whatever there is, and not with `q=0`."""
    weights = {}
    for one in said.lower().split(","):
        name, _, rest = one.partition(";")
        weight = rest.partition("q=")[2].strip()
        weights[name.strip()] = weight.strip("0.") != "" if weight else True
    return weights.get("gzip", weights.get("*", False))


def _has(said: str, tag: str) -> bool:
    """Whether If-None-Match names it; proxies that compress make a tag weak."""
    return any(one.strip().removeprefix("W/") == tag for one in said.split(","))
