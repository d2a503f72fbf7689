"""Log bridge: the standard library's lines in the shape of all others, and the same one only once a minute."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from types import TracebackType
from typing import Any

import attrs

from agenthub.log_streams import Write

Render = Callable[[Any, str, dict[str, Any]], bytes]
"""Makes a line out of a logger, a method and the fields; never fails."""

_EVERY_S = 60.0
_MOST_KINDS = 256
_NUMBER = re.compile(r"0x[0-9a-f]+|\d+")


@attrs.define
class Repeat:
    """How often a line was held back since ``since``."""

    since: float
    count: int = 0


@attrs.define
class Repeats:
    """Lets one line of a kind through every ``every_s`` and counts the rest."""

    every_s: float = _EVERY_S
    clock: Callable[[], float] = time.monotonic
    _found: OrderedDict[Hashable, Repeat] = attrs.field(factory=OrderedDict)

    def admit(self, kind: Hashable) -> tuple[Repeat, bool]:
        """Return the count of this kind, and whether this line goes out: with the number of those held back before."""
        now, found = self.clock(), self._found.get(kind)
        if found is not None and now - found.since < self.every_s:
            found.count += 1
            return found, False
        self._found[kind] = Repeat(now)
        self._found.move_to_end(kind)
        if len(self._found) > _MOST_KINDS:
            self._found.popitem(last=False)
        return found or Repeat(now), True

    def take(self, repeat: Repeat) -> int:
        """Return how many were held back, and count from now on again."""
        count, repeat.count, repeat.since = repeat.count, 0, self.clock()
        return count


class BridgeHandler(logging.Handler):
    """Passes on what libraries log; no record, however odd, makes it fail.

    What a fault outside repeats without end, as asyncio does when the process is out of file descriptors, is said once
    and then, with the number of times, at most once a minute.
    """

    def __init__(self, render: Render, write: Write, repeats: Repeats | None = None) -> None:
        super().__init__()
        self._render, self._write_line, self._repeats = render, write, repeats or Repeats()
        self._untold: dict[int, tuple[Repeat, str, dict[str, Any]]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            self._emit(record)

    def _emit(self, record: logging.LogRecord) -> None:
        if not _without_bytes(record):
            return
        event: dict[str, Any] = {"event": _message(record), "logger": record.name}
        method = record.levelname.lower()
        if record.levelno >= logging.WARNING:
            repeat, goes_out = self._repeats.admit(_kind(record, event["event"]))
            if not goes_out:
                self._tell_later(repeat, method, event)
                return
            if repeat.count:
                event["repeated"] = self._repeats.take(repeat)
        if record.exc_info:
            event["exc_info"] = record.exc_info
        if record.stack_info:
            event["stack_info"] = record.stack_info
        self._write_line(self._render(None, method, event) + b"\n")

    def _tell_later(self, repeat: Repeat, method: str, event: dict[str, Any]) -> None:
        if id(repeat) in self._untold:
            return
        self._untold[id(repeat)] = repeat, method, event
        with suppress(RuntimeError):  # without a loop the next one tells, or the end
            asyncio.get_running_loop().call_later(self._repeats.every_s, self._tell, id(repeat))

    def _tell(self, key: int) -> None:
        if (untold := self._untold.pop(key, None)) is None:
            return
        repeat, method, event = untold
        if count := self._repeats.take(repeat):
            self._write_line(self._render(None, method, event | {"repeated": count}) + b"\n")

    def tell_all(self) -> None:
        """Say now how often was held back what was."""
        for key in list(self._untold):
            self._tell(key)


def _kind(record: logging.LogRecord, message: str) -> Hashable:
    """Return what records have in common that say the same: not the addresses, the numbers and the time."""
    kind, error, trace = record.exc_info if record.exc_info else (None, None, None)
    if kind is None:
        first = message.partition("\n")[0]
        return record.name, record.levelno, first if record.args else _NUMBER.sub("#", first)
    template = _NUMBER.sub("#", _template(record).partition("\n")[0])
    return record.name, record.levelno, template, kind, getattr(error, "errno", None), _place(trace)


def _place(trace: TracebackType | None) -> tuple[str, int] | None:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # its arguments do not fit, or cannot be shown
        return f"{_template(record)} ({type(error).__name__})"


def _template(record: logging.LogRecord) -> str:
    return record.msg if isinstance(record.msg, str) else type(record.msg).__name__


def _without_bytes(record: logging.LogRecord) -> bool:
    """Take the client's own bytes, which may be its key, out of what aiohttp says of a request that is none."""
    error = record.exc_info[1] if record.exc_info else None
    if type(error).__module__ != "aiohttp.http_exceptions":
        return True
    record.msg, record.args = f"{record.getMessage()}: {type(error).__name__}", ()
    # Anybody who can reach the hub can cause this line.
    record.exc_info, record.levelno, record.levelname = None, logging.INFO, "INFO"
    return record.levelno >= logging.getLogger().level
