"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from llmservice_runtime.openai.state import SERVER, Server
from llmservice_runtime.wire import sse


def card(server: Server, name: str) -> dict[str, Any]:
    """One name, as clients read it."""
    return {
        "id": name,
        "object": "model",
        "created": server.created,
        "owned_by": "llmservice",
        "root": server.model_name,
        "parent": None,
        "max_model_len": server.context_tokens,
    }


def listed(server: Server) -> dict[str, Any]:
    """Every name."""
    return {"object": "list", "data": [card(server, name) for name in (server.model_name, *server.aliases)]}


async def list_models(http: web.Request) -> web.Response:
    """Every name that selects the model; answered while it loads too."""
    return web.Response(text=sse.dumps(listed(http.app[SERVER])), content_type="application/json")


async def get_model(http: web.Request) -> web.Response:
    """One name; names may contain slashes."""
    server = http.app[SERVER]
    name = server.check_model(http.match_info["name"])
    return web.Response(text=sse.dumps(card(server, name)), content_type="application/json")
