"""Who listens at an address, as far as its answers tell."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

import aiohttp
import attrs

_MOST_BYTES = 2**14
_LONGEST_NAME = 60


@attrs.frozen
class Listener:
    """What answers: ``agenthub``, ``ollama``, ``http`` for another server, or ``unknown`` where it says no HTTP.

    ``name`` is what it calls itself, ``date`` the time that it tells, if it does.
    """

    kind: str
    name: str = ""
    date: datetime | None = None


async def identify(url: str, limit_s: float) -> Listener | None:
    """Ask for ``/health`` and ``/`` without any key; None where nothing takes a connection in time."""
    mark = secrets.token_hex(8)
    timeout = aiohttp.ClientTimeout(total=limit_s)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
        try:
            headers, body = await _get(session, f"{url}/health", mark)
            date = _parse_date(headers.get("Date", ""))
            # AgentHub says the request's id back, other servers with a /health do not.
            if headers.get("X-Request-Id") == mark and _is_health(body):
                return Listener("agenthub", date=date)
            _, body = await _get(session, f"{url}/", mark)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            return None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return Listener("unknown")
    if body.startswith(b"Ollama is running"):
        return Listener("ollama", date=date)
    name = "".join(char for char in headers.get("Server", "") if char.isprintable())
    return Listener("http", name[:_LONGEST_NAME], date)


async def _get(session: aiohttp.ClientSession, url: str, mark: str) -> tuple[Mapping[str, str], bytes]:
    async with session.get(url, headers={"X-Request-Id": mark}, allow_redirects=False) as response:
        return response.headers, await response.content.read(_MOST_BYTES)


def _is_health(body: bytes) -> bool:
    try:
        return isinstance(found := json.loads(body), dict) and found.get("status") == "ok"
    except ValueError:
        return False


def _parse_date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
