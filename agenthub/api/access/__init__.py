"""Who may call: from which pages, under which name of this machine, with which key, and what then."""

from __future__ import annotations

import attrs
import structlog
from aiohttp import web

from agenthub.api.access.clients import Clients
from agenthub.api.access.hosts import is_loopback, is_ours
from agenthub.api.access.pages import Pages, preflight_headers
from agenthub.api.described import Head
from agenthub.api.responses import Response
from agenthub.errors import ConfigError, Forbidden, Unauthorized
from agenthub.middleware import Caller
from agenthub.rights import EVERYTHING
from agenthub.settings import Settings

__all__ = ["Access", "check_exposure", "exposure", "is_loopback"]

_log = structlog.get_logger("agenthub")
_SHOWN = 128
REMEDIES = (
    "Give a client a key: clients.NAME.api_key, best in .env, or clients.NAME.api_key_file.",
    "Or let everyone in: agenthub serve --insecure (insecure = true, AGENTHUB_INSECURE=true).",
)


@attrs.frozen
class Stopped:
    """A request is answered with this status and nothing else, as Ollama does; ``header`` is what was not allowed."""

    status: int
    header: str = ""
    value: str = ""


@attrs.define
class Access:
    """The rules of one hub for each HTTP request."""

    clients: Clients
    pages: Pages
    guards_host: bool
    """True where nothing but the address that the hub listens on keeps strangers out."""
    _last_host: str | None = None
    """The one that was allowed last: nearly all requests come under one name."""

    @classmethod
    def of(cls, settings: Settings) -> Access:
        """Return the rules that the settings mean; raises ConfigError."""
        clients = Clients.of(settings.clients)
        return cls(clients, Pages(settings.cors.origins), is_loopback(settings.host) and not clients.keys)

    def admit(self, http_request: web.Request, caller: Caller, *, is_open: bool) -> Response | None:
        """Do as ``judge`` does; return an answer where the request goes no further, and log it."""
        try:
            verdict = self.judge(http_request, caller, is_open=is_open)
        except Unauthorized as error:
            _log_refusal(http_request, caller, error.status, error=str(error))
            raise
        if verdict is None:
            return None
        if verdict.header:
            shown = {verdict.header: verdict.value[:_SHOWN]}
            _log_refusal(http_request, caller, verdict.status, error=f"{verdict.header} not allowed", **shown)
        return Response(status=verdict.status)

    def judge(self, head: Head, caller: Caller, *, is_open: bool) -> Stopped | None:
        """Fill in who calls and what it may do; return how it is answered where the request goes no further.

        Raises Unauthorized for a missing or a wrong key, unless the path ``is_open`` to everyone.
        """
        headers = head.headers
        if self.guards_host and (host := headers.get("Host", "")) != self._last_host:
            if not is_ours(host):
                return Stopped(403, "host", host)
            self._last_host = host
        if "Origin" in headers and (origins := headers.getall("Origin")) != [""]:
            told = self.pages.admit(origins, headers.get("Host", ""))
            if told is None:
                return Stopped(403, "origin", ", ".join(origins))
            caller.reply_headers = told
            if head.method == "OPTIONS" and "Access-Control-Request-Method" in headers:
                caller.reply_headers = {**told, **preflight_headers(headers)}
                return Stopped(204)
        if not self.clients.keys:
            if self.clients.rights:
                caller.rights = self.clients.rights.get(caller.client, EVERYTHING)
        elif not is_open:
            self.clients.identify(headers, caller)
        return None

    def speak_for(self, caller: Caller, client: str) -> None:
        """Make the caller the client that its request names; raise Forbidden where a key says that it is another."""
        if not self.clients.keys:
            caller.client, caller.rights = client, self.clients.rights.get(client, EVERYTHING)
        elif client != caller.client:
            raise Forbidden(f"the API key is that of client {caller.client}", param="client")


def _log_refusal(http_request: web.Request, caller: Caller, status: int, **why: str) -> None:
    asked = f"{http_request.method} {http_request.path[:_SHOWN]}"
    ids = {"request_id": caller.request_id, "peer": http_request.remote or ""}
    _log.info("agenthub.request_refused", **ids, asked=asked, status=status, **why)


def exposure(settings: Settings) -> str:
    """Return what is wrong with listening on the address of the settings; empty where nothing is."""
    if settings.insecure or is_loopback(settings.host) or any(client.api_key for client in settings.clients.values()):
        return ""
    return f"{settings.host} is open to other machines, and no client has a key"


def check_exposure(settings: Settings) -> None:
    """Raise ConfigError where everyone who reaches the machine could ask everything, and nobody said that they may."""
    if problem := exposure(settings):
        remedies = "give one a key (clients.NAME.api_key), or use --insecure (insecure = true, AGENTHUB_INSECURE=true)"

        raise ConfigError(f"{settings.sources.get('host', 'default')}: host: {problem}: {remedies}")
