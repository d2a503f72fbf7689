"""HTTP in and out: the only code that touches ``aiohttp.web``."""

from __future__ import annotations

from aiohttp import web

from agenthub.api import health, ollama, openai
from agenthub.api.inference import make_handler
from agenthub.dialects.ollama import CODECS as OLLAMA_CODECS
from agenthub.dialects.openai import CODECS as OPENAI_CODECS

ROUTES = (
    ("GET", "/", ollama.root),
    ("GET", "/api/version", ollama.version),
    ("GET", "/api/tags", ollama.tags),
    ("GET", "/api/ps", ollama.ps),
    ("POST", "/api/show", ollama.show),
    *(("POST", path, make_handler(codec)) for path, codec in OLLAMA_CODECS.items()),
    *(("POST", path, make_handler(codec)) for path, codec in OPENAI_CODECS.items()),
    ("GET", "/v1/models", openai.models),
    ("GET", "/v1/models/{id:.+}", openai.model),
    ("GET", "/health", health.health),
    ("GET", "/ready", health.ready),
)
"""Every path with its method and its handler; a GET answers HEAD as well."""


def add_routes(app: web.Application) -> None:
    """Put every route into ``app``."""
    for method, path, handler in ROUTES:
        if method == "GET":
            app.router.add_get(path, handler)
        else:
            app.router.add_route(method, path, handler)
