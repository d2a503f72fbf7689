"""Names of this machine: what a hub that listens on loopback may be called by.

A page of a foreign site can have its own name point to 127.0.0.1 after it was loaded (DNS rebinding). Its browser then
takes the hub for that site, and only the Host header still tells whose name was asked for. The rules are Ollama's
(``server/routes.go``, ``allowedHostsMiddleware``).
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_LONGEST, _MOST = 260, 256
_WITH_PORT = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<host>[a-z0-9_.-]*))(?::[0-9]*)?")
_OURS = (".localhost", ".local", ".internal")
_PRIVATE = tuple(IPv4Network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")), IPv6Network("fc00::/7")


def is_loopback(host: str) -> bool:
    """Say whether what listens on ``host`` takes connections of this machine alone."""
    name = host.lower()
    address = _address(name.strip("[]"))
    return address.is_loopback if address is not None else name == "localhost" or name.endswith(".localhost")


def is_ours(host: str) -> bool:
    """Say whether a Host header names this machine or one of its network. HTTP/1.0 may leave it out."""
    return len(host) <= _LONGEST and _is_ours(host)


@lru_cache(_MOST)
def _is_ours(host: str) -> bool:
    host = host.lower()
    found = _WITH_PORT.fullmatch(host)
    name = (found["v6"] or found["host"] or "") if found else host
    if (address := _address(name)) is not None:
        return address.is_loopback or address.is_unspecified or _is_private(address) or _is_own(address)
    return bool(found) and (name in ("", "localhost", socket.gethostname().lower()) or name.endswith(_OURS))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_private(address: IPv4Address | IPv6Address) -> bool:
    # Not is_private of the standard library, which takes in addresses that are no private network's.
    four, six = _PRIVATE
    return address in six if isinstance(address, IPv6Address) else any(address in net for net in four)


def _is_own(address: IPv4Address | IPv6Address) -> bool:
    # Only an address of this machine can be bound; nothing is sent.
    if address.is_multicast:
        return False
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
