"""Who listens at an address, as far as its answers tell."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import aiohttp
import attrs

_MOST_BYTES = 2**14
_LONGEST_NAME = 60


@attrs.frozen
class Listener:
    """What answers: ``agenthub``, ``ollama``, ``http`` for another server, or ``unknown`` where it says no HTTP.

    ``name`` is what it calls itself; ``ahead`` by how much this machine's clock goes before its own, where it tells.
    """

    kind: str
    name: str = ""
    ahead: timedelta | None = None


async def identify(url: str, limit_s: float) -> Listener | None:
    """Ask for ``/health`` and ``/`` without any key, within ``limit_s``; None where nothing takes a connection."""
    try:
        async with asyncio.timeout(limit_s), aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            return await _identify(session, url)
    except aiohttp.ClientConnectorError:
        return None
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return Listener("unknown")


async def _identify(session: aiohttp.ClientSession, url: str) -> Listener:
    mark = secrets.token_hex(8)
    headers, body = await _get(session, f"{url}/health", mark)
    ahead = _ahead(headers.get("Date", ""))
    # AgentHub says the request's id back, other servers with a /health do not.
    if headers.get("X-Request-Id") == mark and _is_health(body):
        return Listener("agenthub", ahead=ahead)
    _, body = await _get(session, f"{url}/", mark)
    if body.startswith(b"Ollama is running"):
        return Listener("ollama", ahead=ahead)
    return Listener("http", headers.get("Server", "")[:_LONGEST_NAME], ahead)


async def _get(session: aiohttp.ClientSession, url: str, mark: str) -> tuple[Mapping[str, str], bytes]:
    async with session.get(url, headers={"X-Request-Id": mark}, allow_redirects=False) as response:
        return response.headers, await response.content.read(_MOST_BYTES)


def _is_health(body: bytes) -> bool:
    try:
        return isinstance(found := json.loads(body), dict) and found.get("status") == "ok"
    except ValueError:
        return False


def _ahead(date: str) -> timedelta | None:
    try:
        found = parsedate_to_datetime(date)
    except ValueError:
        return None
    return datetime.now(UTC) - found if found.tzinfo is not None else None
