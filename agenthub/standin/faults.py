"""Scripted faults: what goes wrong with one coming request."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs

RUNNER_DIED = "an error was encountered while running the model: unexpected EOF"
BUSY = "server busy, please try again.  maximum pending requests exceeded"


class Ending(enum.Enum):
    """How an answer goes wrong after ``Fault.after`` chunks."""

    RESET = enum.auto()
    CLOSE = enum.auto()
    ERROR = enum.auto()
    TRUNCATE = enum.auto()
    GARBAGE = enum.auto()
    STALL = enum.auto()
    HANG = enum.auto()


@attrs.frozen(kw_only=True)
class Fault:
    """What happens to one request; make one with the class methods, join two with ``attrs.evolve``.

    ``after`` counts the chunks of a stream, end marks included, that are let through first (None: all but the end
    marks). For a whole answer 0 means before any byte, and anything else in the middle of the body. Waits end after
    ``limit_s`` seconds with a closed connection, or at once when the client leaves or the server stops.
    """

    status: int | None = None
    message: str = RUNNER_DIED
    body: bytes | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)
    delay_s: float = 0.0
    ending: Ending | None = None
    after: int | None = 0
    streamed: bool | None = None
    path: str | None = None
    limit_s: float = 30.0

    @classmethod
    def answer(
        cls,
        status: int,
        message: str = BUSY,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Fault:
        """Answer ``status``: with ``message`` in the dialect's own error shape, or with ``body`` byte for byte."""
        return cls(status=status, message=message, body=body, headers=dict(headers or {}))

    @classmethod
    def delay(cls, delay_s: float) -> Fault:
        """Answer as always, but send the first byte ``delay_s`` seconds later."""
        return cls(delay_s=delay_s)

    @classmethod
    def reset(cls, after: int = 0) -> Fault:
        """Reset the TCP connection (RST)."""
        return cls(ending=Ending.RESET, after=after)

    @classmethod
    def close(cls, after: int = 0) -> Fault:
        """Close the connection (FIN) with the HTTP message unfinished."""
        return cls(ending=Ending.CLOSE, after=after)

    @classmethod
    def error(cls, message: str = RUNNER_DIED, *, after: int = 1) -> Fault:
        """Let the model break: native streams end with an error line, /v1 streams end silently, as Ollama's do.

        With ``after=0``, or on a whole answer, it is a 500.
        """
        return cls(ending=Ending.ERROR, message=message, after=after)

    @classmethod
    def truncate(cls, after: int | None = None) -> Fault:
        """End the HTTP message properly, but without the end mark; half the body of a whole answer."""
        return cls(ending=Ending.TRUNCATE, after=after)

    @classmethod
    def garbage(cls, body: bytes = b'{"broken\n', *, after: int = 0) -> Fault:
        """Send ``body`` in the place of JSON, then end the HTTP message properly; status and type stay as they are."""
        return cls(ending=Ending.GARBAGE, body=body, after=after)

    @classmethod
    def hang(cls, limit_s: float = 30.0) -> Fault:
        """Send no byte at all."""
        return cls(ending=Ending.HANG, limit_s=limit_s)

    @classmethod
    def stall(cls, after: int = 1, *, limit_s: float = 30.0) -> Fault:
        """Fall silent in the middle, the connection open; with ``after=0`` right after the headers of a stream."""
        return cls(ending=Ending.STALL, after=after, limit_s=limit_s)

    @classmethod
    def whole(cls) -> Fault:
        """Give a whole answer though a stream was asked for."""
        return cls(streamed=False)

    @classmethod
    def stream(cls) -> Fault:
        """Give a stream though a whole answer was asked for."""
        return cls(streamed=True)

    def at(self, path: str) -> Fault:
        """Return the same fault for the next request to ``path``, such as ``/api/tags``, inference or not."""
        return attrs.evolve(self, path=path)
