"""From bytes to frames, whatever the network did to them: NDJSON lines and server-sent events.

A frame keeps its terminator, so that the frames of a stream, joined, are its bytes.

Sources: the NDJSON of Ollama's docs/api.md; "9.2 Server-sent events" of the WHATWG HTML standard.
"""

from __future__ import annotations

import re
from typing import Protocol

import attrs

DEFAULT_MAX_FRAME_BYTES = 16 * 2**20
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")


class Framer(Protocol):
    """Collects bytes, gives whole frames back; ``tail`` is what waits for the rest of its frame."""

    tail: bytes

    def feed(self, data: bytes) -> list[bytes]:
        """Take what one read brought; return the frames that it completed."""

    def close(self) -> list[bytes]:
        """Return what a stream left that ended without a terminator, which it gets."""

    def payload(self, frame: bytes) -> bytes:
        """Return what a frame carries; empty for frames that carry nothing (comments, keep-alives)."""

    def wrap(self, payload: bytes) -> bytes:
        """Return a frame that carries ``payload``."""


@attrs.define
class LineFramer:
    """NDJSON: a frame is a line."""

    tail: bytes = b""

    def feed(self, data: bytes) -> list[bytes]:
        *lines, self.tail = (self.tail + data if self.tail else data).split(b"\n")
        return [line + b"\n" for line in lines]

    def close(self) -> list[bytes]:
        tail, self.tail = self.tail, b""
        return [tail + b"\n"] if tail.strip() else []

    def payload(self, frame: bytes) -> bytes:
        # White space around JSON does no harm, and is not worth a copy of each line.
        return b"" if frame.isspace() else frame

    def wrap(self, payload: bytes) -> bytes:
        return payload.rstrip() + b"\n"


@attrs.define
class EventFramer:
    """Server-sent events: a frame ends with a blank line; lines end with LF, CR LF or CR."""

    tail: bytes = b""

    def feed(self, data: bytes) -> list[bytes]:
        data = self.tail + data if self.tail else data
        if b"\r" in data:
            return self._feed_any_ends(data)
        *frames, self.tail = data.split(b"\n\n")
        return [frame + b"\n\n" for frame in frames]

    def _feed_any_ends(self, data: bytes) -> list[bytes]:
        # A CR at the end may be half a CR LF, so it waits for what follows.
        whole = data[:-1] if data.endswith(b"\r") else data
        ends = [match.end() for match in _BLANK_LINE.finditer(whole)]
        starts = [0, *ends]
        self.tail = data[starts[-1] :]
        return [data[start:end] for start, end in zip(starts, ends, strict=False)]

    def close(self) -> list[bytes]:
        tail, self.tail = self.tail, b""
        # An unfinished event that carries nothing is no frame: not even its bytes are passed on.
        return [tail + b"\n\n"] if self.payload(tail + b"\n\n") else []

    def payload(self, frame: bytes) -> bytes:
        if frame.startswith(b"data: ") and frame.find(b"\n") == len(frame) - 2 and b"\r" not in frame:
            return frame[6:-2]
        lines = [line[5:] for line in frame.splitlines() if line.startswith(b"data:")]
        return b"\n".join(line.removeprefix(b" ") for line in lines)

    def wrap(self, payload: bytes) -> bytes:
        return b"".join(b"data: " + line + b"\n" for line in payload.splitlines()) + b"\n"
