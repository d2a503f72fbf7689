"""Where a Redis server is, read from a URL that may hold a password and is therefore never shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import attrs

from agenthub.settings.kinds import Kind
from agenthub.settings.secret import Secret

DEFAULT_URL = "redis://127.0.0.1:6379/0"
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile")
_FLAGS = {"true": True, "false": False}


@attrs.frozen
class RedisServer:
    """A server as redis-py's connections take it; ``name`` can be shown, ``options`` may hold a password."""

    name: str
    scheme: str
    options: Mapping[str, Any] = attrs.field(repr=False)


def parse_redis_url(url: str) -> RedisServer:
    """Read ``redis://user:password@host:6379/0``, ``rediss://`` or ``unix://``; ValueError, without the URL, if not."""
    if not url.isprintable() or set(url) & set(" \\#"):
        raise ValueError("a URL has no spaces, control characters or fragment")
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("the scheme is another")
    query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    options: dict[str, Any] = {}
    if parts.username:
        options["username"] = unquote(parts.username)
    if parts.password:
        options["password"] = unquote(parts.password)
    where = _socket(parts, query) if parts.scheme == "unix" else _address(parts)
    options |= where
    if parts.scheme == "rediss":
        options |= _tls(query)
    if query:
        raise ValueError("an option in the query is not known")
    return RedisServer(_name(where), parts.scheme, options)


def _address(parts: SplitResult) -> dict[str, Any]:
    if not parts.hostname:
        raise ValueError("there is no host")
    return {"host": unquote(parts.hostname), "port": parts.port or 6379, "db": _number(parts.path.removeprefix("/"))}


def _socket(parts: SplitResult, query: dict[str, str]) -> dict[str, Any]:
    if parts.hostname or len(parts.path) < 2:
        raise ValueError("there is no path")
    return {"path": unquote(parts.path), "db": _number(query.pop("db", ""))}


def _number(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 6):
        raise ValueError("the database is no number")
    return int(text or 0)


def _tls(query: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {name: query.pop(name) for name in _TLS_OPTIONS if name in query}
    if found.get("ssl_cert_reqs", "required") not in ("required", "optional", "none"):
        raise ValueError("ssl_cert_reqs is required, optional or none")
    if "ssl_check_hostname" in found:
        if found["ssl_check_hostname"].lower() not in _FLAGS:
            raise ValueError("ssl_check_hostname is true or false")
        found["ssl_check_hostname"] = _FLAGS[found["ssl_check_hostname"].lower()]
    elif found.get("ssl_cert_reqs") == "none":
        # ssl refuses to check a name where it does not check the certificate.
        found["ssl_check_hostname"] = False
    return found


def _name(where: Mapping[str, Any]) -> str:
    host = where.get("host", "")
    server = where.get("path") or f"{f'[{host}]' if ':' in host else host}:{where['port']}"
    return f"{server} db {where['db']}"


@attrs.frozen
class RedisUrl(Kind):
    """A :class:`Secret` that holds the URL of a Redis server, or nothing."""

    @property
    def allowed(self) -> str:
        return "redis://user:password@host:6379/0, rediss:// for TLS or unix:///path?db=0"

    def show(self, value: object) -> str:
        return "the URL (secret, not shown)"

    def check(self, value: object) -> Secret:
        text = value.reveal() if isinstance(value, Secret) else value
        if not isinstance(text, str):
            raise self.refuse(value)
        try:
            parse_redis_url(text or DEFAULT_URL)
        except ValueError:
            raise self.refuse(value) from None
        return Secret(text)
