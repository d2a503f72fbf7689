"""structlog, set up for the whole process: one JSON object a line, or readable lines on a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from agenthub.dialects import jsontext
from agenthub.settings import LogSettings


def configure_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's lines to ``stream`` (stderr), in the format of the settings."""
    stream = stream or sys.stderr
    as_json = settings.format == "json" or (settings.format == "auto" and not stream.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[Any] = [structlog.dev.ConsoleRenderer(colors=stream.isatty())]
    if as_json:
        renderer = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_dumps)]
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    _bridge(stream, shared, renderer, level)


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


def _name_logger(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record = event.get("_record")
    return event if record is None else {**event, "logger": record.name}


def _dumps(value: Any, **kwargs: Any) -> str:
    try:
        return jsontext.dumps(value).decode("utf-8")
    except TypeError:
        return jsontext.dumps({name: _plain(item) for name, item in value.items()}).decode("utf-8")


def _plain(item: Any) -> Any:
    return item if item is None or isinstance(item, str | int | float | bool) else repr(item)
