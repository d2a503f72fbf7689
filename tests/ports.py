"""Ports for servers that start on one that is known before, or start again on the same."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

_PORTS = range(22000, 32000)
"""Not those that the system gives to connections and to port 0, which may take one between two starts."""


def free_port() -> int:
    """Return a port that is free, and stays so."""
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")
