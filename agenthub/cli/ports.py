"""Opens the port, or says why it cannot be and what to do."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from agenthub.errors import AgentHubError

BACKLOG = 1024
"""Connections that may wait to be accepted, for bursts."""

# localhost also means ::1, which a machine without IPv6 does not have.
_LACKING = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class CannotListen(AgentHubError):
    """The port cannot be opened; the text says why and what to do."""


def open_port(host: str, port: int, spare_ports: Iterable[int] = (), *, is_shared: bool = False) -> list[socket.socket]:
    """Return a listening socket for each address of ``host``; raises CannotListen.

    Where ``port`` is in use, the first free one of ``spare_ports`` is taken. Connections wait until they are accepted.
    Of several processes that open one port with ``is_shared``, the system gives each its part of the connections.
    """
    failure: OSError | None = None
    for candidate in (port, *spare_ports):
        try:
            return _open(host, candidate, is_shared=is_shared)
        except OSError as error:
            failure = failure or error
            if error.errno != errno.EADDRINUSE:
                break
    assert failure is not None
    raise CannotListen(explain_port(host, port, failure)) from failure


def reserve_port(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of ``host`` that keeps the port for those who share it; raises CannotListen.

    None of them listens.
    """
    # Alone first: a shared port would be taken from another hub without a word.
    alone = open_port(host, port)
    names = [(opened.family, opened.getsockname()) for opened in alone]
    for opened in alone:
        opened.close()
    reserved = []
    for family, name in names:
        reserved.append(opened := socket.socket(family, socket.SOCK_STREAM))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            opened.bind(name)
        except OSError as error:
            raise CannotListen(explain_port(host, port, error)) from error
    return reserved


def port_problem(host: str, port: int) -> OSError | None:
    """Return why ``port`` could not be opened, or None; nothing listens meanwhile, so that no client is misled."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        return error
    failures: list[OSError] = []
    for family, kind, _, _, address in dict.fromkeys(found):
        try:
            with socket.socket(family, kind) as opened:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                opened.bind(address)
        except OSError as error:
            if error.errno not in _LACKING:
                return error
            failures.append(error)
    return failures[0] if len(failures) == len(set(found)) else None


def url_of(host: str, sockets: Sequence[socket.socket]) -> str:
    """Return the URL of what listens, without a slash at its end."""
    return f"http://{f'[{host}]' if ':' in host else host}:{sockets[0].getsockname()[1]}"


def _open(host: str, port: int, *, is_shared: bool) -> list[socket.socket]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    with ExitStack() as stack:
        for family, _, _, _, address in dict.fromkeys(found):
            # With port 0 the first address gets a free port, and the others the same one.
            port = port or (sockets[0].getsockname()[1] if sockets else 0)
            try:
                name = (address[0], port, *address[2:])
                opened = socket.create_server(name, family=family, backlog=BACKLOG, reuse_port=is_shared)
            except OSError as error:
                if error.errno not in _LACKING:
                    raise
                failure = error
                continue
            sockets.append(stack.enter_context(opened))
        if not sockets and failure is not None:
            raise failure
        stack.pop_all()
    return sockets


def explain_port(host: str, port: int, error: OSError) -> str:
    """Return why a port cannot be opened, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: stop what listens there, or choose another with --port"
    if error.errno == errno.EACCES:
        return f"port {port} may not be opened by this user: choose one from 1024 on with --port"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"{host} is no address of this machine: use --host 127.0.0.1, or --host 0.0.0.0 for all of them"
    return f"cannot listen on {host}:{port}: {error.strerror or error}"
