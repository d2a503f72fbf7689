"""Log streams: the process's own stderr behind the log's buffer, and text streams that are no file at all."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

import attrs

Write = Callable[[bytes], None]
"""Takes a finished line; never fails."""


def own_stderr() -> TextIO:
    """Return the stderr that the process was started with; what throws everything away where that was closed."""
    stream = sys.stderr
    if isinstance(taken := getattr(stream, "buffer", None), _Taken):
        return taken.stream
    return stream or open(os.devnull, "w")


def take_stderr(stream: TextIO, write: Write) -> None:
    """Have ``write`` get, line by line, what anything in this process prints to stderr: tracebacks, warnings, plugins.

    Python itself would wait for a pipe that nobody reads, and fail, in the end with status 120, where nobody can.
    """
    with suppress(OSError, ValueError):
        stream.flush()
    taken = _Taken(stream, write)
    sys.stderr = io.TextIOWrapper(taken, encoding_of(stream), "backslashreplace", line_buffering=True)


def encoding_of(stream: TextIO) -> str:
    """Return the encoding of what is written to a stream; to one that takes no bytes it is decoded again."""
    return (getattr(stream, "encoding", None) if hasattr(stream, "buffer") else None) or "utf-8"


def descriptor_of(stream: TextIO) -> int | None:
    """Return the file descriptor of a stream, or None where it has none."""
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None


@attrs.frozen
class StreamLines:
    """Writes lines at once to a text stream without a file descriptor; one that fails loses its lines."""

    stream: TextIO

    def write(self, line: bytes) -> None:
        """Write a line."""
        with suppress(Exception):
            if hasattr(self.stream, "buffer"):
                self.stream.buffer.write(line)
            else:
                self.stream.write(line.decode())
            self.stream.flush()


class _Taken(io.RawIOBase):
    def __init__(self, stream: TextIO, write: Write) -> None:
        self.stream, self._write = stream, write

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._write(bytes(data))
        return len(data)

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()
