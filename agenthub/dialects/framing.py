"""From bytes to frames, whatever the network did to them: NDJSON lines and server-sent events.

Sources: the NDJSON of Ollama's docs/api.md; "9.2 Server-sent events" of the WHATWG HTML standard.
"""

from __future__ import annotations

import re
from typing import Protocol

import attrs

from agenthub.errors import UpstreamProtocol

DEFAULT_MAX_FRAME_BYTES = 16 * 2**20
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")


class Framer(Protocol):
    """Collects bytes, gives whole frames back."""

    separator: bytes

    def feed(self, data: bytes) -> list[bytes]:
        """Take what one read brought; return the frames that it completed, without their terminators."""

    def close(self) -> list[bytes]:
        """Return what a stream left that ended without a terminator."""

    def payload(self, frame: bytes) -> bytes:
        """Return what a frame carries; empty for frames that carry nothing (comments, keep-alives)."""


@attrs.define
class LineFramer:
    """NDJSON: a frame is a line."""

    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES
    separator: bytes = b"\n"
    _tail: bytes = b""

    def feed(self, data: bytes) -> list[bytes]:
        *frames, self._tail = (self._tail + data if self._tail else data).split(b"\n")
        _check(len(self._tail), self.max_frame_bytes)
        return frames

    def close(self) -> list[bytes]:
        tail, self._tail = self._tail, b""
        return [tail] if tail.strip() else []

    def payload(self, frame: bytes) -> bytes:
        return frame.strip()


@attrs.define
class EventFramer:
    """Server-sent events: a frame ends with a blank line; lines end with LF, CR LF or CR."""

    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES
    separator: bytes = b"\n\n"
    _tail: bytes = b""

    def feed(self, data: bytes) -> list[bytes]:
        data = self._tail + data if self._tail else data
        # A CR at the end may be half a CR LF, so it waits for what follows.
        held = b"\r" if data.endswith(b"\r") else b""
        data = data.removesuffix(held) if held else data
        *frames, tail = _BLANK_LINE.split(data) if b"\r" in data else data.split(b"\n\n")
        self._tail = tail + held
        _check(len(self._tail), self.max_frame_bytes)
        return frames

    def close(self) -> list[bytes]:
        tail, self._tail = self._tail, b""
        return [tail] if self.payload(tail) else []

    def payload(self, frame: bytes) -> bytes:
        if frame.startswith(b"data: ") and b"\n" not in frame and b"\r" not in frame:
            return frame[6:]
        lines = [line[5:] for line in frame.splitlines() if line.startswith(b"data:")]
        return b"\n".join(line.removeprefix(b" ") for line in lines)


def _check(size: int, limit: int) -> None:
    if limit and size > limit:
        raise UpstreamProtocol(f"the upstream sent a frame of more than {limit} bytes")
