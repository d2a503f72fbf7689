"""structlog, set up for the whole process: one JSON object a line, or readable lines on a terminal.

Logging never stops its caller: no value makes rendering fail, and writing neither waits nor fails.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import time
from collections.abc import Callable, MutableMapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

import attrs
import structlog

from agenthub.dialects import jsontext
from agenthub.log_bridge import BridgeHandler
from agenthub.log_buffer import LineBuffer
from agenthub.log_console import ConsoleLines, printable
from agenthub.log_streams import StreamLines, Write, descriptor_of, encoding_of, own_stderr, take_stderr
from agenthub.settings import LogSettings

_LEVELS = {"warn": "warning", "exception": "error"}
Fields = MutableMapping[str, Any]


def configure_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's lines to ``stream``, in the format of the settings.

    Without ``stream`` they go to stderr, and so does, in their order, what else is printed there. Loggers that were
    bound before keep what they had.
    """
    out = stream or own_stderr()
    render = _make_renderer(settings, out)
    write, close = _open(settings, out, render)
    if stream is None:
        take_stderr(out, write)
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    structlog.configure(
        processors=[render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Output(write),
        cache_logger_on_first_use=True,
    )
    handler = BridgeHandler(render, write)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))
    # The last one registered is called first: what others say at the end goes out too.
    atexit.register(close)
    atexit.register(handler.tell_all)


def _open(settings: LogSettings, out: TextIO, render: _Renderer) -> tuple[Write, Callable[[], None]]:
    """Return what takes lines, and what ends it."""
    if (fd := descriptor_of(out)) is None:
        return StreamLines(out).write, lambda: None

    def render_count(count: int) -> bytes:
        return render(None, "warning", {"event": "agenthub.log_dropped", "count": count}) + b"\n"

    buffer = LineBuffer(fd, render_count, settings.buffer_bytes)
    return buffer.write, buffer.close


def has_colours(out: TextIO) -> bool:
    """Say whether lines are coloured: on a terminal, unless ``NO_COLOR`` has any value."""
    return out.isatty() and not os.environ.get("NO_COLOR")


def _make_renderer(settings: LogSettings, out: TextIO) -> _Renderer:
    if settings.format == "json" or (settings.format == "auto" and not out.isatty()):
        return _Renderer((_to_json,))
    console = ConsoleLines(has_colours=has_colours(out), is_full=settings.level == "debug")
    encoding = encoding_of(out)

    def encode(logger: Any, method: str, line: Any) -> bytes:
        return str(line).encode(encoding, "backslashreplace")

    return _Renderer((_stamp, _tame, console, encode))


@attrs.frozen
class _Renderer:
    """All processors as one, which returns a finished line and fails for no value: a log costs no answer."""

    processors: Sequence[Callable[[Any, str, Any], Any]]

    def __call__(self, logger: Any, method: str, event: Fields) -> bytes:
        try:
            return self._render(logger, method, event)
        except Exception:
            plain = {str(name): _plain(value) for name, value in event.items()}
        try:
            return self._render(logger, method, plain)
        except Exception as error:
            about = {"event": _plain(event.get("event")), "log_error": type(error).__name__}
        try:
            return self._render(logger, method, about)
        except Exception:
            return b"agenthub.log_failed"

    def _render(self, logger: Any, method: str, event: Any) -> bytes:
        for processor in self.processors:
            event = processor(logger, method, event)
        line: bytes = event
        return line


class _Output:
    """What structlog hands finished lines to, by the name of their level."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def msg(self, line: bytes) -> None:
        self._write(line + b"\n")

    log = debug = info = warn = warning = error = critical = fatal = exception = msg


def _stamp(logger: Any, method: str, event: Fields) -> Fields:
    # What structlog's add_log_level and TimeStamper do, in a third of their time.
    event["level"] = _LEVELS.get(method, method)
    if "timestamp" not in event:
        event["timestamp"] = timestamp(time.time_ns())
    return event


def _to_json(logger: Any, method: str, event: Fields) -> bytes:
    event = _stamp(logger, method, event)
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(logger, method, event)
    return _dumps(event)


def timestamp(unix_ns: int) -> str:
    """Return a time as lines show it: ISO 8601, UTC, microseconds."""
    seconds, nanoseconds = divmod(unix_ns, 1_000_000_000)
    return f"{_second(seconds)}.{nanoseconds // 1000:06d}Z"


@lru_cache(1)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _tame(logger: Any, method: str, event: Fields) -> Fields:
    # The console's renderer shows a text without blanks as it is, and a terminal obeys it.
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}


def _dumps(value: Any) -> bytes:
    line = jsontext.dumps(value)
    return line if line.isascii() and b"\x7f" not in line else _UNSEEN.sub(_escaped, line.decode()).encode()


_UNSEEN = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What JSON leaves as it is and a terminal obeys: C1 controls, line separators, changes of direction."""


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _plain(value: Any) -> Any:
    """Return what every format can show."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    try:
        return repr(value)
    except Exception as error:  # somebody else's object
        return f"<{type(value).__name__}: {type(error).__name__}>"
