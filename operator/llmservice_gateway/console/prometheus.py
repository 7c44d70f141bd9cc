"""More than the last hour, from Prometheus: what all gateways together have counted of a service.

Only of what gateways tell: that is by service, whatever a scrape puts on it. Columns that only engines know are empty.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from pydantic_core import from_json

from llmservice_console.history import COLUMNS
from llmservice_gateway.console.facts import Json
from llmservice_runtime.wire.errors import unavailable

MOST_SECONDS = 30 * 86_400
POINTS = 720
"""Of each column: as many as of the last hour."""
LEAST_STEP = 15
ANSWER_SECONDS = 10.0
MOST_BYTES = 8 << 20
RATE_STEPS, LEAST_RATE_SECONDS = 2, 120
"""A rate is over so many steps: with scrapes every 30 s there are several in the least."""


@dataclass(frozen=True, slots=True)
class Server:
    """`url` as https://prometheus.monitoring.svc:9090; `labels` that its series have; files are read anew each time."""

    url: str
    labels: Mapping[str, str]
    ca_file: str = ""
    token_file: str = ""


def queries(service: str, labels: Mapping[str, str], step: int) -> dict[str, str]:
    """By column. Pure."""
    some = ",".join(f'{name}="{_escaped(value)}"' for name, value in {"service": service, **labels}.items())
    over = f"[{max(RATE_STEPS * step, LEAST_RATE_SECONDS)}s]"

    def quantile(share: float, metric: str) -> str:
        return f"histogram_quantile({share}, sum by (le) (rate(llmservice_gateway_{metric}_bucket{{{some}}}{over})))"

    def counted(more: str = "") -> str:
        return f"sum(rate(llmservice_gateway_requests_total{{{some}{more}}}{over})) * {step}"

    return {
        "held": f"sum(llmservice_gateway_held{{{some}}})",
        "inFlight": f"sum(llmservice_gateway_in_flight{{{some}}})",
        "tokensPerSecond": f'sum(rate(llmservice_gateway_tokens_total{{{some},kind="completion"}}{over}))',
        "ttft50": quantile(0.5, "time_to_first_byte_seconds"),
        "ttft95": quantile(0.95, "time_to_first_byte_seconds"),
        "gap50": quantile(0.5, "inter_chunk_seconds"),
        "gap95": quantile(0.95, "inter_chunk_seconds"),
        "ready": f"max(count by (pod) (llmservice_gateway_endpoint_requests{{{some}}}))",
        "requests": counted(),
        "failed": counted(',code=~"5.."'),
    }


def step_of(seconds: int) -> int:
    """Between two points."""
    return max(LEAST_STEP, math.ceil(seconds / POINTS))


async def longer(server: Server, service: str, seconds: int, now: float) -> Json:
    """Columns as `History.told` has them. ApiError 503 where Prometheus does not tell."""
    step = step_of(seconds)
    end = math.floor(now / step) * step
    asked = queries(service, server.labels, step)
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    try:
        headers, trust = await asyncio.to_thread(_secrets, server)
        connector = aiohttp.TCPConnector(ssl=trust)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, headers=headers) as session:
            span = {"start": str(end - seconds), "end": str(end), "step": str(step)}
            told = await asyncio.gather(*(_ask(session, server, {"query": q, **span}) for q in asked.values()))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        said = (
            f"Prometheus does not tell: {str(error)[:300] or type(error).__name__}. The last hour is there without it."
        )
        raise unavailable(said, code="prometheus_unavailable", retry_after=30) from None
    at = list(range(end - seconds, end + 1, step))
    found = dict(zip(asked, told, strict=True))
    columns: Json = {name: [found.get(name, {}).get(time) for time in at] for name in COLUMNS}
    return {"step": step, "columns": {"at": at, **columns}, "decisions": []}


async def _ask(session: aiohttp.ClientSession, server: Server, query: dict[str, str]) -> dict[int, float]:
    url = f"{server.url.rstrip('/')}/api/v1/query_range"
    async with session.post(url, data=query, allow_redirects=False) as answer:
        text = await answer.content.read(MOST_BYTES)
        while not answer.content.at_eof() and len(text) < MOST_BYTES:
            text += await answer.content.read(MOST_BYTES)
    return series(from_json(text))


def series(body: Any) -> dict[int, float]:
    """The one series of an answer; empty where there is none. ValueError says what is wrong."""
    if not isinstance(body, dict) or body.get("status") != "success":
        raise ValueError(str((body.get("error") if isinstance(body, dict) else "") or "it is no answer")[:300])
    try:
        found = body["data"]["result"]
        values = found[0]["values"] if found else []
        told = {int(float(at)): float(text) for at, text in values}
    except (KeyError, TypeError, IndexError, ValueError):
        raise ValueError("it is no matrix") from None
    return {at: value for at, value in told.items() if math.isfinite(value)}


def _secrets(server: Server) -> tuple[dict[str, str], ssl.SSLContext | bool]:
    headers = {}
    if server.token_file:
        headers["Authorization"] = f"Bearer {Path(server.token_file).read_text(encoding='utf-8').strip()}"
    if not server.url.startswith("https"):
        return headers, True
    context = ssl.create_default_context()
    if server.ca_file:
        context.load_verify_locations(cafile=server.ca_file)
    return headers, context


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
