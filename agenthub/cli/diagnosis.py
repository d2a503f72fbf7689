"""Why a backend does not answer, in words, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import attrs

from agenthub.cli.findings import Finding, Level
from agenthub.errors import KeyRefused, UpstreamProtocol, UpstreamStatus, UpstreamTimeout
from agenthub.middleware import Backend
from agenthub.settings import Settings
from agenthub.settings.sources import OLLAMA_HOST, dotted

OLLAMA_PORT = 11434
_API_PATH = re.compile(r"/(v1|api)(/.*)?$")
_LONGEST_TEXT = 300
_LOCAL = ("127.0.0.1", "::1", "localhost")


@attrs.frozen
class Trouble:
    """A backend that did not answer through ``mode``; ``others`` are the kinds of adapter that it does answer."""

    settings: Settings
    backend: Backend
    mode: str
    error: Exception
    others: Sequence[str] = ()

    @property
    def url(self) -> str:
        return self.backend.settings.url

    @property
    def url_source(self) -> str:
        """Where the URL stands; empty for the default."""
        return self.settings.sources.get(self.key("url"), "")

    @property
    def is_implicit(self) -> bool:
        """True for the one backend of a hub that has none configured."""
        return not self.url_source or self.url_source.endswith(OLLAMA_HOST)

    @property
    def url_setting(self) -> str:
        """The setting that the URL comes from, and where that stands."""
        if self.is_implicit:
            return f"{OLLAMA_HOST} ({self.url_source.split(':')[0] or 'not set: this is its default'})"
        return f"{self.key('url')} ({self.url_source})"

    def key(self, name: str) -> str:
        """Return the key path of one of the backend's settings."""
        return dotted(("backends", self.backend.name, name))


def diagnose(trouble: Trouble) -> Finding:
    """Return what is wrong with the backend and the remedies, the likeliest first."""
    id, text, remedies = explain(trouble)
    name = trouble.backend.name
    return Finding(f"backend.{id}", Level.ERROR, f"backend {name}: {text}", remedies, name)


def explain(trouble: Trouble) -> tuple[str, str, Sequence[str]]:
    """Return the same as one word for scripts, a text that does not name the backend, and the remedies."""
    elsewhere = f"Or name another server with {trouble.url_setting}."
    match trouble.error:
        case UpstreamTimeout() | TimeoutError():
            return "silent", f"{trouble.url} did not answer in time", _when_silent(trouble)
        case KeyRefused(upstream_status=status):
            words = "refuses the API key" if trouble.backend.settings.api_key else "wants an API key"
            return "key", f"{trouble.url} {words} ({status})", [f"Set {trouble.key('api_key')}, best in .env."]
        case UpstreamStatus() | UpstreamProtocol():
            return _answers_otherwise(trouble)
    match trouble.error.__cause__:
        case aiohttp.ClientConnectorDNSError():
            host = urlsplit(trouble.url).hostname
            return "dns", f"the host {host} of {trouble.url} is not known", [f"Correct {trouble.url_setting}."]
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            text = f"nothing listens at {trouble.url} (connection refused)"
            return "refused", text, [*start_ollama(trouble.url), elsewhere]
        case aiohttp.ClientConnectorCertificateError():
            text = f"{trouble.url}: its certificate is not trusted"
            return "certificate", text, ["Name its CA: SSL_CERT_FILE=/path/to/ca.pem"]
        case aiohttp.ClientSSLError():
            text = f"{trouble.url}: no secure connection"
            return "tls", text, [f"Does it speak https? Correct {trouble.url_setting}."]
    remedies = [f"Is it the right server? See {trouble.url_setting}."]
    return "broken", f"{trouble.url}: {one_line(trouble.error)}", remedies


def _answers_otherwise(trouble: Trouble) -> tuple[str, str, Sequence[str]]:
    remedies = _shorten(trouble)
    if not trouble.others:
        text = f"{trouble.url} answers, but not as a model server: {one_line(trouble.error)}"
        return "no_api", text, [*remedies, f"Is it the right server? See {trouble.url_setting}."]
    text = f"{trouble.url} does not speak the {trouble.mode} API, but it does speak {' and '.join(trouble.others)}"
    other = trouble.others[0]
    switch = f"Set OLLAMA_API_MODE={other}." if trouble.is_implicit else f'Set {trouble.key("api_mode")} = "{other}".'
    return "other_api", text, [*remedies, switch]


def _shorten(trouble: Trouble) -> list[str]:
    """Return the remedy for a URL that ends in a path of an API; the adapters add those themselves."""
    root = _API_PATH.sub("", trouble.url)
    if root == trouble.url:
        return []
    if trouble.is_implicit:
        return [f"If it is an Ollama, leave out the path: OLLAMA_HOST={root}"]
    return [f'If it is an Ollama, leave out the path: {trouble.key("url")} = "{root}"']


def _when_silent(trouble: Trouble) -> Sequence[str]:
    settings = trouble.backend.settings
    waited = f"connect_timeout_s = {settings.connect_timeout_s:g}, "
    waited += f"health.ping_timeout_s = {trouble.settings.health.ping_timeout_s:g}"
    return [
        "Is the machine up, and does no firewall stand between? Try: curl " + trouble.url,
        f"Is it the right server? See {trouble.url_setting}.",
        f"If it is only slow, give it longer: {waited}.",
    ]


def one_line(error: Exception) -> str:
    """Return an error's text cut to a line: an upstream that is no model server may have answered a whole page."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


def start_ollama(url: str) -> list[str]:
    """Return how to start an Ollama that listens at ``url``, and what else may help where that is this machine."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or OLLAMA_PORT
    if host not in _LOCAL:
        everywhere = "[::]" if ":" in host else "0.0.0.0"
        listen = everywhere if port == OLLAMA_PORT else f"{everywhere}:{port}"
        return [f"Start Ollama on {host}, open to other machines: OLLAMA_HOST={listen} ollama serve"]
    # A bare IPv6 address and a port run into each other. By the other address an Ollama at its default is not reached.
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    is_default = port == OLLAMA_PORT and ":" not in host
    remedies = ["Start Ollama: " + ("" if is_default else f"OLLAMA_HOST={address} ") + "ollama serve"]
    if Path("/.dockerenv").exists():
        remedies.append(
            f"This is a container, where {host} is the container itself: for the machine around it use "
            f"http://host.docker.internal:{port}"
        )
    return remedies
