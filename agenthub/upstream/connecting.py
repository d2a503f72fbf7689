"""Connections to an upstream whose every end is noticed by who reads."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler


class _Handler(ResponseHandler):
    """Tells the reader of a body that the connection is gone, whatever it was that ended it.

    aiohttp 3.14.5 closes a connection on which no HTTP chunk comes where one must, and tells nobody: who reads the body
    would wait for as long as its patience lasts.
    """

    def connection_lost(self, exc: BaseException | None) -> None:
        payload: aiohttp.StreamReader | None = getattr(self, "_payload", None)
        super().connection_lost(exc)
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(aiohttp.ClientPayloadError("the body is not framed as HTTP says"))


def make_connector(**settings: Any) -> aiohttp.TCPConnector:
    """Return aiohttp's own, with ``settings``, whose connections are of this kind."""
    connector = aiohttp.TCPConnector(**settings)
    connector._factory = partial(_Handler, loop=asyncio.get_running_loop())  # type: ignore[assignment]
    return connector
