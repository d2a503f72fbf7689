"""Addresses: whether the URL of a backend is where the hub itself listens."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from agenthub.cli.diagnosis import Trouble
from agenthub.errors import ConfigError
from agenthub.middleware import Backend
from agenthub.settings import Settings
from agenthub.settings.sources import OLLAMA_HOST

Address = IPv4Address | IPv6Address
_PORTS = {"http": 80, "https": 443}
_LOOPBACK = {4: ip_address("127.0.0.1"), 6: ip_address("::1")}


def check_backends(settings: Settings, port: int) -> None:
    """Raise ConfigError for a backend that is the hub itself, which listens on ``port`` of ``settings.host``."""
    for name, backend in settings.backends.items():
        if leads_to(backend.url, settings.host, port):
            text, remedies = explain_itself(settings, name)
            source = settings.sources.get(f"backends.{name}.url", "default")
            helps = "; or".join("; ".join(remedies).split("; Or"))
            raise ConfigError(f"{source}: backends.{name}.url: {text}: {helps}")


def explain_itself(settings: Settings, name: str) -> tuple[str, Sequence[str]]:
    """Return what is wrong with a backend that is the hub itself, and the remedies, likeliest first."""
    backend = settings.backends[name]
    trouble = Trouble(settings, Backend(name, backend), "", ValueError())
    text = f"{backend.url} is this hub itself, which would ask itself without end"
    if not trouble.is_implicit:
        return text, [f"Point {trouble.url_setting} to the model server, or give the hub another port."]
    alone = "ame the model server for the hub alone: AGENTHUB_BACKENDS__OLLAMA__URL=http://127.0.0.1:11434"
    if not trouble.url_source:
        return text, ["Give the hub another port.", f"Or n{alone}"]
    is_variable = trouble.url_source.startswith("environment")
    without = f"env -u {OLLAMA_HOST} agenthub serve" if is_variable else f"take it out of {trouble.url_source}"
    why = f"{OLLAMA_HOST} with the hub's address is for the ollama command only; start the hub without it"
    return text, [f"{why}: {without}", f"Or n{alone}"]


def leads_to(url: str, host: str, port: int) -> bool:
    """Say whether a connection to ``url`` comes to what listens on ``port`` of ``host``, as far as this machine knows.

    Names are only looked up where the port is the same. What cannot be looked up leads nowhere.
    """
    parts = urlsplit(url)
    if not port or (parts.port or _PORTS.get(parts.scheme)) != port:
        return False
    listening, asked = _addresses(host, passive=True), _addresses(parts.hostname or "", passive=False)
    return any(_reaches(one, listener) for one in asked for listener in listening)


def _reaches(asked: Address, listener: Address) -> bool:
    if asked.version != listener.version:
        return False
    return asked == listener or (listener.is_unspecified and _is_local(asked))


def _addresses(host: str, *, passive: bool) -> set[Address]:
    flags = socket.AI_PASSIVE if passive else 0
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError):
        return set()
    addresses = {ip_address(str(address[0]).partition("%")[0]) for *_, address in found}
    addresses = {getattr(one, "ipv4_mapped", None) or one for one in addresses}
    # To connect to "every address" is to connect to the machine's own loopback.
    return addresses if passive else {_LOOPBACK[one.version] if one.is_unspecified else one for one in addresses}


def _is_local(address: Address) -> bool:
    """Say whether it is one of this machine's: only then the system sends to it from the same address."""
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))  # no datagram is sent by that
            return ip_address(str(probe.getsockname()[0]).partition("%")[0]) == address
    except OSError:
        return False
