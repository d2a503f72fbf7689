"""Reads responses: what has arrived, all of it at once, and whole ones within a bound."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import aiohttp

from agenthub import stream_reader
from agenthub.errors import UpstreamProtocol
from agenthub.upstream.patience import Patience


def read_any(content: aiohttp.StreamReader, most: int = 0) -> AsyncIterator[bytes]:
    """Yield what each read of the socket brought, as ``content.iter_any()`` does.

    A stream of more than ``most`` bytes (0: no limit) is an UpstreamProtocol, as in ``read_whole``.
    """
    # What has no body, such as a 204, has a reader of another type.
    is_known = stream_reader.IS_KNOWN and type(content) is aiohttp.StreamReader
    pieces = stream_reader.read_joined(content) if is_known else content.iter_any()
    return _read_within(pieces, most) if most else pieces


async def read_whole(content: aiohttp.StreamReader, most: int, patience: Patience, head: bytes = b"") -> bytes:
    """Return all of a body that begins with ``head``; raise UpstreamProtocol where it is longer than ``most`` bytes.

    ``most`` may be 0 for no limit.

    Each read that brings something, if only the blanks of a proxy that keeps the connection open, renews ``patience``.
    """
    if content.is_eof() and content.exception() is None:
        # It came with its head, as short ones do.
        body = stream_reader.take_whole(content)
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
