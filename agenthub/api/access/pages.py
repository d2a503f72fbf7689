"""Web pages: which may call, and what their browsers must be told (CORS).

A browser sends a page's requests whatever they do, and only hides the answers of servers that do not know the page; so
the requests of pages that may not call are refused. Without an Origin nothing is asked and nothing told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

import attrs
from multidict import CIMultiDictProxy

from agenthub.settings.lists import origin_pattern

_LONGEST, _MOST = 512, 256
# As in Ollama's envconfig/config.go, and IPv6's loopback.
_LOCAL = r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\])(?::[0-9]{1,5})?"
_APPS = r"(?:app|file|tauri|vscode-webview|vscode-file)://[!-~]*"
_PLAIN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_MOST_HEADERS = 64
EXPOSED = (
    *("X-Request-Id", "X-AgentHub-Backend", "X-AgentHub-Api-Mode", "X-AgentHub-Cache", "X-AgentHub-Dropped"),
    "X-AgentHub-Enhanced",
    *("Server-Timing", "Retry-After", "x-should-retry", "WWW-Authenticate"),
    *("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"),
    *(f"x-ratelimit-{what}-{of}" for of in ("requests", "tokens") for what in ("limit", "remaining", "reset")),
)
"""The headers of answers that a page may read."""
METHODS = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
MAX_AGE_S = 43200


@attrs.define(eq=False)
class Pages:
    """Knows which origins may call: those of this machine, the hub's own, and those of ``[cors] origins``."""

    origins: Sequence[str]
    _pattern: re.Pattern[str] = attrs.field(init=False)
    _remembered: Callable[[str, str], Mapping[str, str] | None] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._pattern = re.compile("|".join([_LOCAL, _APPS, *map(origin_pattern, self.origins)]))
        # Few origins call, each time and again; the verdict of each is remembered for the life of the settings.
        self._remembered = lru_cache(_MOST)(self._judge)

    def admit(self, origins: Sequence[str], host: str) -> Mapping[str, str] | None:
        """Return what every answer to the page carries in its headers; None for a page that may not call."""
        if len(origins) != 1 or len(origins[0]) > _LONGEST or len(host) > _LONGEST:
            return None
        return self._remembered(origins[0], host)

    def _judge(self, origin: str, host: str) -> Mapping[str, str] | None:
        name = origin.lower()
        # What comes from the hub's own address, whatever that is called, is a page that the hub itself served.
        is_own = bool(host) and name in (f"http://{host.lower()}", f"https://{host.lower()}")
        if not (is_own or self._pattern.fullmatch(name)) or not origin.isascii():
            return None
        return MappingProxyType(
            {
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Expose-Headers": ", ".join(EXPOSED),
                "Vary": "Origin",
            }
        )


def preflight_headers(asked: CIMultiDictProxy[str]) -> dict[str, str]:
    """Return what the answer to a preflight says beside, by the headers of the question."""
    wanted = [name.strip() for name in asked.get("Access-Control-Request-Headers", "").split(",", _MOST_HEADERS)]
    plain = [name for name in wanted[:_MOST_HEADERS] if _PLAIN.fullmatch(name)]
    headers = {
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Max-Age": str(MAX_AGE_S),
        "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }
    if plain:
        # Any plain name: a fixed list breaks the clients that send one more (ollama issues 8342 and 9236).
        headers["Access-Control-Allow-Headers"] = ", ".join(plain)
    if asked.get("Access-Control-Request-Private-Network") == "true":
        headers["Access-Control-Allow-Private-Network"] = "true"
    return headers
