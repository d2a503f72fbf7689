"""A body that is passed on as it comes in, without being held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator

import aiohttp
import attrs


@attrs.define(eq=False)
class Upload:
    """Iterates ``content`` once, and remembers whether it ``is_read`` to its end, and how it broke off.

    ``length`` is its size in bytes where that is known; else it goes in chunks.
    """

    content: AsyncIterable[bytes]
    length: int | None = None
    is_read: bool = False
    error: Exception | None = None
    _transport: asyncio.Transport | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for data in self.content:
                yield data
            self.is_read = True
        except Exception as error:
            self.error = error
            raise

    @property
    def headers(self) -> dict[str, str]:
        """What a request says of its body."""
        kind = {"Content-Type": "application/octet-stream"}
        return kind if self.length is None else {**kind, "Content-Length": str(self.length)}

    def answered(self, response: aiohttp.ClientResponse) -> None:
        """The answer has begun, maybe before the end of the body."""
        connection = response.connection
        self._transport = connection.transport if connection is not None else None

    def leave(self) -> None:
        """Give up what is left of the body: closing alone would wait for an upstream that reads no more."""
        if self._transport is not None and not self.is_read:
            self._transport.abort()
