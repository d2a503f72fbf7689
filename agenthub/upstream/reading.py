"""Reads responses: what has arrived, all of it at once, and whole ones within a bound."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from agenthub.errors import UpstreamProtocol
from agenthub.upstream.patience import Patience

_USED = {"_buffer", "_buffer_offset", "_size", "_cursor", "_http_chunk_splits", "_protocol", "_exception"}


def read_any(content: aiohttp.StreamReader, most: int = 0) -> AsyncIterator[bytes]:
    """Yield what each read of the socket brought, as ``content.iter_any()`` does.

    A stream of more than ``most`` bytes (0: no limit) is an UpstreamProtocol, as in ``read_whole``.
    """
    pieces = _read_joined(content) if IS_KNOWN else content.iter_any()
    return _read_within(pieces, most) if most else pieces


IS_KNOWN = set(getattr(aiohttp.StreamReader, "__slots__", ())) >= _USED
"""True where aiohttp's reader is made as the one of 3.14 is; any other is read by its own ``iter_any``."""


async def _read_joined(content: Any) -> AsyncIterator[bytes]:
    # ``iter_any`` of aiohttp 3.14 takes HTTP chunks one by one and calls the parser again after each, a sixth of the
    # time of a stream whose tokens come in chunks of their own.
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
            if content._exception is None:
                content._protocol.resume_reading()
        else:
            data = await content.readany()
        if not data:
            return
        yield data


async def read_whole(content: aiohttp.StreamReader, most: int, patience: Patience, head: bytes = b"") -> bytes:
    """Return all of a body that begins with ``head``; raise UpstreamProtocol where it is longer than ``most`` bytes.

    ``most`` may be 0 for no limit.

    Each read that brings something, if only the blanks of a proxy that keeps the connection open, renews ``patience``.
    """
    if content.is_eof() and content.exception() is None:
        # It came with its head, as short ones do.
        body = content.read_nowait()
    else:
        body = await read_start(content, most + 1 if most else sys.maxsize, patience)
    body = head + body if head else body
    if 0 < most < len(body):
        raise _too_large(most)
    return body


async def _read_within(pieces: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    size = 0
    async for data in pieces:
        size += len(data)
        if most < size:
            raise _too_large(most)
        yield data


def _too_large(most: int) -> UpstreamProtocol:
    return UpstreamProtocol(f"the upstream's answer is larger than max_answer_bytes, {most} bytes")


async def read_start(content: aiohttp.StreamReader, size: int, patience: Patience | None = None) -> bytes:
    """Return the first ``size`` bytes of a body, all of one that is shorter; each read renews ``patience``."""
    parts, left = [], size
    while left > 0 and (data := await content.readany()):
        parts.append(data)
        left -= len(data)
        if patience is not None:
            patience.resume(patience.limit_s)
    return b"".join(parts)[:size]
