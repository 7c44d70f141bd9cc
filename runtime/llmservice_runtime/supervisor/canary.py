"""The canary: an HTTP round trip to an idle engine."""

from __future__ import annotations

import aiohttp


async def answers(host: str, port: int, seconds: float) -> bool:
    """Whether the engine's /health answers in time with anything but a server error."""
    timeout = aiohttp.ClientTimeout(total=seconds)
    try:
        async with (
            aiohttp.ClientSession(trust_env=False, timeout=timeout) as session,
            session.get(f"http://{_dial(host)}:{port}/health") as response,
        ):
            return response.status < 500
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


def _dial(host: str) -> str:
    """Where to reach a server that listens on `host`."""
    if host in ("", "0.0.0.0"):
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
