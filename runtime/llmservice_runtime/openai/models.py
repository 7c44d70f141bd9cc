"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from llmservice_runtime.openai.state import SERVER, Server
from llmservice_runtime.wire import sse


def card(server: Server, name: str) -> dict[str, Any]:
    """One name, as clients read it."""
    adapter = server.adapter(name)
    return {
        "id": name,
        "object": "model",
        "created": server.created,
        "owned_by": "llmservice",
        "root": adapter or server.model_name,
        "parent": server.model_name if adapter else None,
        "max_model_len": server.context_tokens,
    }


def listed(server: Server) -> dict[str, Any]:
    """Every name."""
    names = (server.model_name, *server.aliases, *server.adapters)
    return {"object": "list", "data": [card(server, name) for name in names]}


async def list_models(http: web.Request) -> web.Response:
    """Every name that selects the model; answered while it loads too."""
    return web.Response(text=sse.dumps(listed(http.app[SERVER])), content_type="application/json")


async def get_model(http: web.Request) -> web.Response:
    """One name; names may contain slashes."""
    server = http.app[SERVER]
    name = server.check_model(http.match_info["name"])
    return web.Response(text=sse.dumps(card(server, name)), content_type="application/json")
