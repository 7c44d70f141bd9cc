"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from llmservice_runtime.openai.state import SERVER, Server
from llmservice_runtime.wire import sse


def _card(server: Server, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": server.created,
        "owned_by": "llmservice",
        "root": server.model_name,
        "parent": None,
        "max_model_len": server.context_tokens,
    }


async def list_models(http: web.Request) -> web.Response:
    """Every name that selects the model; answered while it loads too."""
    server = http.app[SERVER]
    cards = [_card(server, name) for name in (server.model_name, *server.aliases)]
    return web.Response(text=sse.dumps({"object": "list", "data": cards}), content_type="application/json")


async def get_model(http: web.Request) -> web.Response:
    """One name; names may contain slashes."""
    server = http.app[SERVER]
    name = server.check_model(http.match_info["name"])
    return web.Response(text=sse.dumps(_card(server, name)), content_type="application/json")
