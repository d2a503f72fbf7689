"""Bodies that take many writes to send, during which the answer may come, and the connection be reset behind it."""

from __future__ import annotations

from typing import Any

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import AsyncIterablePayload, BytesIOPayload, Payload

from agenthub.upstream.connecting import Handler


class _Long(Payload):
    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        handler: Any = getattr(writer, "protocol", None)
        if isinstance(handler, Handler):
            handler.hold_socket()
        await super().write_with_length(writer, content_length)


class StreamPayload(_Long, AsyncIterablePayload):
    """A body that is passed on as it comes in."""


class LargePayload(_Long, BytesIOPayload):
    """A body of which nobody knows in how many pieces it goes."""
