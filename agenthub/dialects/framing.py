"""From bytes to frames, whatever the network did to them: NDJSON lines and server-sent events.

A frame keeps its terminator, so that the frames of a stream, joined, are its bytes (but for the byte order mark of
NDJSON, which should not have one). What waits for the rest of its frame is added to in place: a long frame that arrives
in many pieces costs what its bytes cost, not their square.

Sources: the NDJSON of Ollama's docs/api.md; "9.2 Server-sent events" of the WHATWG HTML standard.
"""

from __future__ import annotations

import re
from typing import Protocol

import attrs

from agenthub.dialects import jsontext

DEFAULT_MAX_FRAME_BYTES = 16 * 2**20
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_LONGEST_BLANK_LINE = len(b"\r\n\r\n")
_SHORT_BYTES = 4096
"""Up to here it is quicker to look through a tail again than to look for what ends it."""
BOM = b"\xef\xbb\xbf"
"""A byte order mark: it may stand before the first frame, and means nothing."""


class Framer(Protocol):
    """Collects bytes, gives whole frames back; ``tail`` is what waits for the rest of its frame."""

    tail: bytearray

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

    tail: bytearray = attrs.field(factory=bytearray)
    _begun: bool = False

    def feed(self, data: bytes) -> list[bytes]:
        *lines, rest = data.split(b"\n")
        if lines:
            if self.tail:
                lines[0] = b"".join((self.tail, lines[0]))
                self.tail.clear()
            if not self._begun:
                self._begun, lines[0] = True, lines[0].removeprefix(BOM)
        if rest:
            self.tail += rest
        return [line + b"\n" for line in lines]

    def close(self) -> list[bytes]:
        tail, self.tail = bytes(self.tail), bytearray()
        tail = tail if self._begun else tail.removeprefix(BOM)
        return [tail + b"\n"] if tail.strip() else []

    def payload(self, frame: bytes) -> bytes:
        # White space around JSON does no harm, and is not worth a copy of each line.
        return b"" if frame.isspace() else frame

    def wrap(self, payload: bytes) -> bytes:
        return payload.rstrip() + b"\n"


@attrs.define
class EventFramer:
    """Server-sent events: a frame ends with a blank line; lines end with LF, CR LF or CR."""

    tail: bytearray = attrs.field(factory=bytearray)

    def feed(self, data: bytes) -> list[bytes]:
        if self.tail:
            if len(self.tail) > _SHORT_BYTES and not self._ends_a_frame(data):
                self.tail += data
                return []
            data = b"".join((self.tail, data))
            self.tail.clear()
        if b"\r" in data:
            return self._feed_any_ends(data)
        *frames, rest = data.split(b"\n\n")
        if rest:
            self.tail += rest
        return [frame + b"\n\n" for frame in frames]

    def _ends_a_frame(self, data: bytes) -> bool:
        # Nothing in the tail did, so only the seam and the new bytes can.
        seam = bytes(self.tail[-_LONGEST_BLANK_LINE:])
        if b"\r" in seam or b"\r" in data:
            return _BLANK_LINE.search(_without_half_an_end(seam + data)) is not None
        return b"\n\n" in data or (seam.endswith(b"\n") and data.startswith(b"\n"))

    def _feed_any_ends(self, data: bytes) -> list[bytes]:
        ends = [match.end() for match in _BLANK_LINE.finditer(_without_half_an_end(data))]
        starts = [0, *ends]
        self.tail += data[starts[-1] :]
        return [data[start:end] for start, end in zip(starts, ends, strict=False)]

    def close(self) -> list[bytes]:
        tail, self.tail = bytes(self.tail), bytearray()
        # An unfinished event that carries nothing is no frame: not even its bytes are passed on.
        return [tail + b"\n\n"] if self.payload(tail + b"\n\n") else []

    def payload(self, frame: bytes) -> bytes:
        if frame.startswith(b"data: {") and frame.find(b"\n") == len(frame) - 2 and b"\r" not in frame:
            return frame[6:-2]
        lines = frame.removeprefix(BOM).splitlines()
        data = b"\n".join(_values(lines, b"data:"))
        if b"event:" in frame or b"error:" in frame:
            data = _of_its_name(data, lines)
        return b"" if data.isspace() else data

    def wrap(self, payload: bytes) -> bytes:
        return b"".join(b"data: " + line + b"\n" for line in payload.splitlines()) + b"\n"


def _values(lines: list[bytes], field: bytes) -> list[bytes]:
    return [line[len(field) :].removeprefix(b" ") for line in lines if line.startswith(field)]


def _of_its_name(data: bytes, lines: list[bytes]) -> bytes:
    """Return the data of an event with regard to its other fields.

    An event named ``error``, and the field ``error`` of llama.cpp's older servers, report an error in whatever words.
    Other names are for those who know them: what is no object there is nothing to us.
    """
    name = b"".join(_values(lines, b"event:")[-1:]).strip()
    reported = b"" if data else b"\n".join(_values(lines, b"error:"))
    if name == b"error" or reported:
        return _as_error(data or reported)
    is_ours = name in (b"", b"message") or data.lstrip()[:1] == b"{" or data.strip() == b"[DONE]"
    return data if is_ours else b""


def _as_error(data: bytes) -> bytes:
    try:
        value = jsontext.loads(data)
    except ValueError:
        value = data.decode("utf-8", "replace").strip()
    if isinstance(value, dict) and (value.get("error") or value.get("object") == "error"):
        return data
    return jsontext.dumps({"error": value or "the upstream reported an error without words"})


def _without_half_an_end(data: bytes) -> bytes:
    # A CR at the end may be half a CR LF, so it waits for what follows.
    return data[:-1] if data.endswith(b"\r") else data
