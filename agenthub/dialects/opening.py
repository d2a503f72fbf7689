"""Opening: what a stream has sent before anything of it was understood; held back, since it may be no answer at all."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from agenthub.canonical import Batch, RawFrames
from agenthub.dialects.words import complained, no_answer
from agenthub.errors import UpstreamError, UpstreamProtocol

HELD_BYTES = 2**16
"""How much of a stream may wait for the first frame that is understood."""
_FIRST_BYTES = 2**14
_SILENT = (b":", b"event:", b"id:", b"retry:")
"""How frames begin that say nothing."""


@attrs.define
class Opening:
    """Frames in which nothing was understood; ``first`` is what the first of them said."""

    first: bytes = b""
    _held: list[bytes] = attrs.field(factory=list, repr=False)
    _size_bytes: int = 0

    def hold(self, batch: Batch, said: Callable[[], bytes]) -> bool:
        """Keep a batch of raw frames, or of nothing; False where it is too much for that."""
        self.first = self.first or said()[:_FIRST_BYTES]
        for event in batch:
            if type(event) is RawFrames:
                self._held.append(event.data)
                self._size_bytes += len(event.data)
        return self._size_bytes <= HELD_BYTES

    def released(self, batch: Batch) -> Batch:
        """Return ``batch`` behind all that was held, in one batch."""
        if not self._held:
            return batch
        is_raw = bool(batch) and type(batch[0]) is RawFrames
        raw, events = (batch[:1], batch[1:]) if is_raw else ((), batch)
        data = b"".join([*self._held, *[event.data for event in raw if type(event) is RawFrames]])
        self._held.clear()
        return (RawFrames(data), *events)

    def explain(self, error: UpstreamError, *, at_end: bool) -> UpstreamError:
        """Return the error of a stream that was no answer: its own words say more than that it ended (``at_end``)."""
        if not self.first or not isinstance(error, UpstreamProtocol):
            return error
        return no_answer(self.first) if at_end else complained(error, self.first)


def said_in(payload: bytes, frame: bytes) -> bytes:
    """Return what a frame says; nothing for comments, blank lines and the end mark of OpenAI's streams."""
    said = payload or frame
    return b"" if said.strip() in (b"", b"[DONE]") or said.startswith(_SILENT) else said
