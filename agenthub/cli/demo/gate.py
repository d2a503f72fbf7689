"""Holds the hub's log lines back while the demo tells its story."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast


class Gate(io.TextIOBase):
    """A text stream that passes on what is written to it only while it is open, and drops the rest."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_open = False

    def as_text_io(self) -> TextIO:
        """Return itself, under the type that loggers ask for."""
        return cast(TextIO, self)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Pass everything on while the block runs."""
        self._is_open = True
        try:
            yield
        finally:
            self._is_open = False

    def write(self, text: str) -> int:
        return self._stream.write(text) if self._is_open else len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()
