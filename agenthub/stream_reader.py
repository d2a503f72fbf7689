"""Stream reader: what has come of a body, taken at once from aiohttp's reader, which would take it piece by piece.

After each piece that reader has its connection go on reading and its parser go on parsing, whether they were held up
or not. Of a short body that is most of what its reading costs, of a stream a sixth.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp.base_protocol import BaseProtocol

_USED = {"_buffer", "_buffer_offset", "_size", "_cursor", "_http_chunk_splits", "_protocol", "_exception"}

IS_KNOWN = set(getattr(aiohttp.StreamReader, "__slots__", ())) >= _USED and "_reading_paused" in getattr(
    BaseProtocol, "__slots__", ()
)
"""True where aiohttp's reader is made as the one of 3.14 is; any other is read by its own methods."""


def take_whole(content: Any) -> bytes:
    """Return all of a body whose end is there (``is_eof()``); raise what ``read_nowait()`` does."""
    if not (IS_KNOWN and type(content) is aiohttp.StreamReader and len(content._buffer) == 1):
        data: bytes = content.read_nowait()
        return data
    if content._buffer_offset or content._exception is not None or content._protocol._reading_paused:
        return content.read_nowait()
    data = content._buffer.popleft()
    content._size -= len(data)
    content._cursor += len(data)
    return data


async def read_joined(content: Any) -> AsyncIterator[bytes]:
    """Yield what each read of the socket brought, as ``content.iter_any()`` does; for a reader that ``IS_KNOWN``."""
    # ``iter_any`` of aiohttp 3.14 takes HTTP chunks one by one and calls the parser again after each.
    while True:
        # It also forgets what had come when the connection broke, be it the end of an answer.
        is_waiting = len(content._buffer) > (content._exception is None)
        if is_waiting and not content._buffer_offset:
            data = b"".join(content._buffer)
            content._buffer.clear()
            content._size -= len(data)
            content._cursor += len(data)
            if content._http_chunk_splits:
                content._http_chunk_splits.clear()
            if content._exception is None and content._protocol._reading_paused:
                content._protocol.resume_reading()
        else:
            data = await content.readany()
        if not data:
            return
        yield data
