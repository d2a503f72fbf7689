"""structlog, set up for the whole process: one JSON object a line, or readable lines on a terminal."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import re
import select
import stat
import sys
import time
from collections.abc import Iterable, Iterator, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

import attrs
import structlog

from agenthub.dialects import jsontext
from agenthub.settings import LogSettings

_PIPE_BYTES = select.PIPE_BUF
_LEVELS = {"warn": "warning", "exception": "error"}


def configure_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's lines to ``stream`` (stderr), in the format of the settings.

    Loggers that were bound before keep what they had.
    """
    stream = stream or sys.stderr
    as_json = settings.format == "json" or (settings.format == "auto" and not stream.isatty())
    shared: list[Any] = [_stamp]
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    wrapper = structlog.make_filtering_bound_logger(level)
    if as_json:
        to_json = structlog.processors.JSONRenderer(serializer=_dumps)
        # Bytes to a binary file: a third less than text, and each dispatch writes a line.
        factory: Any = structlog.BytesLoggerFactory(_binary(stream))
        processors = [*shared, structlog.processors.format_exc_info, to_json]
        foreign: list[Any] = [structlog.processors.format_exc_info, to_json, _as_text]
    else:
        console = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(),
            # rich's own shows the locals: prompts, keys.
            exception_formatter=structlog.dev.plain_traceback,
        )
        factory = structlog.WriteLoggerFactory(stream)
        processors, foreign = [*shared, _tame, console], [_tame, console]
    structlog.configure(
        processors=processors, wrapper_class=wrapper, logger_factory=factory, cache_logger_on_first_use=True
    )
    _bridge(stream, shared, foreign, level)


def _stamp(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # What structlog's add_log_level and TimeStamper do, in a third of their time.
    event["level"] = _LEVELS.get(method, method)
    if "timestamp" not in event:
        event["timestamp"] = timestamp(time.time_ns())
    return event


def timestamp(unix_ns: int) -> str:
    """Return a time as lines show it: ISO 8601, UTC, microseconds."""
    seconds, nanoseconds = divmod(unix_ns, 1_000_000_000)
    return f"{_second(seconds)}.{nanoseconds // 1000:06d}Z"


@lru_cache(1)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _bridge(stream: TextIO, shared: list[Any], renderer: list[Any], level: int) -> None:
    # aiohttp and asyncio log through the standard library; their lines get the same shape.
    handler = logging.StreamHandler(stream)
    processors = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=[*shared, _name_logger], processors=processors)
    )
    handler.addFilter(_without_bytes)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))


def _without_bytes(record: logging.LogRecord) -> bool:
    """Take the client's own bytes, which may be its key, out of what aiohttp says of a request that is none."""
    error = record.exc_info[1] if record.exc_info else None
    if type(error).__module__ != "aiohttp.http_exceptions":
        return True
    record.msg, record.args = f"{record.getMessage()}: {type(error).__name__}", ()
    # Whoever can reach the hub can have this line written.
    record.exc_info, record.levelno, record.levelname = None, logging.INFO, "INFO"
    return record.levelno >= logging.getLogger().level


def _binary(stream: TextIO) -> Any:
    buffer = LineBuffer(getattr(stream, "buffer", None) or _Encoded(stream))
    atexit.register(buffer.drain)
    return buffer


@attrs.define(eq=False)
class LineBuffer:
    """Writes the lines of one turn of the event loop at once: under load a system call serves many requests.

    What is written into a pipe at once is never more than it takes in one piece, so that the lines of several processes
    do not run into each other.
    """

    file: Any
    _lines: list[bytes] = attrs.field(factory=list)
    _is_pipe: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        try:
            self._is_pipe = stat.S_ISFIFO(os.fstat(self.file.fileno()).st_mode)
        except (AttributeError, OSError, ValueError):
            self._is_pipe = False

    def write(self, data: bytes) -> None:
        self._lines.append(data)

    def flush(self) -> None:
        """Have the lines written when this turn of the loop is over, or at once where there is no loop."""
        if len(self._lines) > 1:
            return
        try:
            asyncio.get_running_loop().call_soon(self.drain)
        except RuntimeError:
            self.drain()

    def drain(self) -> None:
        """Write what there is."""
        lines, self._lines = self._lines, []
        if lines and not self.file.closed:
            for piece in _pieces(lines) if self._is_pipe else (b"".join(lines),):
                self.file.write(piece)
                self.file.flush()


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > _PIPE_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield b"".join(piece)


@attrs.frozen
class _Encoded:
    """A binary face for a text stream that has none."""

    stream: TextIO

    def write(self, data: bytes) -> None:
        self.stream.write(data.decode())

    def flush(self) -> None:
        self.stream.flush()

    @property
    def closed(self) -> bool:
        return self.stream.closed


def _name_logger(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record = event.get("_record")
    return event if record is None else {**event, "logger": record.name}


def _tame(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # The console's renderer shows a text without blanks as it is, and a terminal obeys it.
    return {name: _printable(value) if isinstance(value, str) else value for name, value in event.items()}


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _as_text(logger: Any, method: str, line: Any) -> str:
    return bytes(line).decode()


def _dumps(value: Any, **kwargs: Any) -> bytes:
    try:
        line = jsontext.dumps(value)
    except TypeError:
        line = jsontext.dumps({name: _plain(item) for name, item in value.items()})
    return line if line.isascii() and b"\x7f" not in line else _UNSEEN.sub(_escaped, line.decode()).encode()


_UNSEEN = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What JSON leaves as it is and a terminal obeys: C1 controls, line separators, changes of direction."""


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _plain(item: Any) -> Any:
    return item if item is None or isinstance(item, str | int | float | bool) else repr(item)
