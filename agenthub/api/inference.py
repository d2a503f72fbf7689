"""Handlers for the endpoints that ask a model something: one for each codec."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from agenthub.api.streaming import answer
from agenthub.dialects import Codec


def make_handler(codec: Codec) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the handler: parse, dispatch, render."""

    async def handle(http_request: web.Request) -> web.StreamResponse:
        return await answer(http_request, codec, codec.parse_request(await http_request.read()))

    return handle
