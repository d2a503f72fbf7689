"""structlog, set up for the whole process: one JSON object a line, or readable lines on a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import attrs
import structlog

from agenthub.dialects import jsontext
from agenthub.settings import LogSettings


def configure_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's lines to ``stream`` (stderr), in the format of the settings.

    Loggers that were bound before keep what they had.
    """
    stream = stream or sys.stderr
    as_json = settings.format == "json" or (settings.format == "auto" and not stream.isatty())
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    wrapper = structlog.make_filtering_bound_logger(level)
    if as_json:
        to_json = structlog.processors.JSONRenderer(serializer=_dumps)
        # Bytes to a binary file: a third less than text, and each dispatch writes a line.
        factory: Any = structlog.BytesLoggerFactory(_binary(stream))
        processors = [*shared, structlog.processors.format_exc_info, to_json]
        foreign: list[Any] = [structlog.processors.format_exc_info, to_json, _as_text]
    else:
        console = structlog.dev.ConsoleRenderer(colors=stream.isatty())
        factory = structlog.WriteLoggerFactory(stream)
        processors, foreign = [*shared, console], [console]
    structlog.configure(
        processors=processors, wrapper_class=wrapper, logger_factory=factory, cache_logger_on_first_use=True
    )
    _bridge(stream, shared, foreign, level)


def _bridge(stream: TextIO, shared: list[Any], renderer: list[Any], level: int) -> None:
    # aiohttp and asyncio log through the standard library; their lines get the same shape.
    handler = logging.StreamHandler(stream)
    processors = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=[*shared, _name_logger], processors=processors)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))


def _binary(stream: TextIO) -> Any:
    return getattr(stream, "buffer", None) or _Encoded(stream)


@attrs.frozen
class _Encoded:
    """A binary face for a text stream that has none."""

    stream: TextIO

    def write(self, data: bytes) -> None:
        self.stream.write(data.decode())

    def flush(self) -> None:
        self.stream.flush()


def _name_logger(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record = event.get("_record")
    return event if record is None else {**event, "logger": record.name}


def _as_text(logger: Any, method: str, line: Any) -> str:
    return bytes(line).decode()


def _dumps(value: Any, **kwargs: Any) -> bytes:
    try:
        return jsontext.dumps(value)
    except TypeError:
        return jsontext.dumps({name: _plain(item) for name, item in value.items()})


def _plain(item: Any) -> Any:
    return item if item is None or isinstance(item, str | int | float | bool) else repr(item)
