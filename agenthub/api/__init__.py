"""HTTP in and out: the only code that touches ``aiohttp.web``."""

from agenthub.api.routes import add_routes

__all__ = ["add_routes"]
