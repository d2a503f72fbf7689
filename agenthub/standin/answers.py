"""What a handler gives back: one whole answer, a stream of frames, or a refusal. No I/O here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

import attrs
import orjson

JSON = "application/json"
JSON_UTF8 = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
TEXT = "text/plain"
TEXT_UTF8 = "text/plain; charset=utf-8"


@attrs.frozen
class Whole:
    """One answer with a Content-Length; ``tokens`` is how many paces it took to think of it."""

    body: bytes
    status: int = 200
    content_type: str = JSON_UTF8
    tokens: int = 0
    headers: tuple[tuple[str, str], ...] = ()


@attrs.frozen
class Stream:
    """``deltas`` then the frames of ``end()``, one HTTP chunk each.

    ``end`` is called when the deltas are over, so that it can tell the durations. ``failure(message)`` is the frame
    that Ollama writes when the model breaks in the middle.
    """

    content_type: str
    deltas: Iterable[bytes]
    end: Callable[[], Sequence[bytes]]
    failure: Callable[[str], bytes]

    def frames(self) -> Iterator[bytes]:
        """Yield every frame, the end marks too."""
        yield from self.deltas
        yield from self.end()


class Refusal(Exception):
    """An error answer: ``status`` and Ollama's own words.

    ``early`` means that the /v1 layer refused the request itself, before the native handler saw it; the bytes differ.
    """

    def __init__(self, status: int, message: str, *, early: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.early = early


def dumps(value: object) -> bytes:
    """Return JSON as Go writes it: compact, ``<``, ``>`` and ``&`` escaped."""
    return _go_escaped(orjson.dumps(value))


@lru_cache(maxsize=8192)
def quoted(text: str) -> bytes:
    """Return ``text`` as a JSON string; words repeat, so most calls cost one look-up."""
    return _go_escaped(orjson.dumps(text))


def _go_escaped(data: bytes) -> bytes:
    # Outside of strings JSON has none of these characters, so replacing everywhere is safe.
    return data.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
