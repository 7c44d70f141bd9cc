"""The canary: an HTTP round trip to an idle engine."""

from __future__ import annotations

import aiohttp

from llmservice_runtime.contract.listening import dialled


async def answers(host: str, port: int, seconds: float) -> bool:
    """Whether the engine's /health answers in time with anything but a server error."""
    timeout = aiohttp.ClientTimeout(total=seconds)
    async with aiohttp.ClientSession(trust_env=False, timeout=timeout) as session:
        for dial in dialled(host):
            try:
                async with session.get(f"http://{dial}:{port}/health") as response:
                    return response.status < 500
            except aiohttp.ClientConnectorError:
                continue  # no such address here
            except (aiohttp.ClientError, TimeoutError, OSError):
                return False
    return False
