"""Console lines: the events that a person sees often, each in one line of at most 100 columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeAlias

import attrs
import structlog

COLUMNS = 100
_LONGEST_NAME = 40
Fields: TypeAlias = Mapping[str, Any]
_COLOURS = {"2": "\x1b[32m", "3": "\x1b[36m", "4": "\x1b[33m", "5": "\x1b[31m", "w": "\x1b[33m", "e": "\x1b[31m"}
_PLAIN = "\x1b[0m"


@attrs.frozen
class ConsoleLines:
    """Renders events for a terminal; ``is_full`` puts all fields below, ``has_colours`` colours the status.

    Events without a form of their own are shown by structlog with all their fields, and so are all with a traceback.
    """

    has_colours: bool
    is_full: bool = False
    _full: structlog.dev.ConsoleRenderer = attrs.field(init=False, repr=False)

    @_full.default
    def _make_full(self) -> structlog.dev.ConsoleRenderer:
        # rich's own shows the locals: prompts, keys.
        return structlog.dev.ConsoleRenderer(
            colors=self.has_colours, exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        )

    def __call__(self, logger: Any, method: str, event: dict[str, Any]) -> str:
        clock = _clock(str(event.get("timestamp", "")))
        name = str(event.get("event", ""))
        form = _using if name.startswith("Using ") else _FORMS.get(name)
        if form is None or "exc_info" in event or "exception" in event:
            return self._full(logger, method, event | {"timestamp": clock})
        line = self._line(clock, form(event), str(event.get("level", "")))
        return f"{line}\n{self._full(logger, method, event | {'timestamp': clock})}" if self.is_full else line

    def _line(self, clock: str, words: str, level: str) -> str:
        """Return the line, cut to its columns; a line without a status begins with its level where that matters."""
        if not words[:3].isdigit() and level not in ("info", "debug", ""):
            words = f"{level}  {words}"
        shown = cut(f"{clock}  {printable(words)}", COLUMNS)
        colour = _COLOURS.get(words[0]) if self.has_colours else None
        start, end = len(clock) + 2, len(clock) + 2 + len(words.split("  ", 1)[0])
        if colour is None or not (words[:3].isdigit() or words.startswith(level)):
            return shown
        return f"{shown[:start]}{colour}{shown[start:end]}{_PLAIN}{shown[end:]}"


def printable(text: str) -> str:
    """Return the text without anything that a terminal would obey."""
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def cut(text: str, most: int) -> str:
    """Return the text in at most so many characters, with two dots where it was longer."""
    return text if len(text) <= most else f"{text[: most - 2]}.."


def _clock(timestamp: str) -> str:
    return _local_time(timestamp.partition(".")[0])


@lru_cache(1)
def _local_time(second: str) -> str:
    try:
        return datetime.fromisoformat(f"{second}+00:00").astimezone().strftime("%H:%M:%S")
    except ValueError:
        return second[:8]


def _joined(*parts: object) -> str:
    return "  ".join([str(part) for part in parts if part])


def _text(event: Fields, name: str, most: int = _LONGEST_NAME) -> str:
    return cut(str(event.get(name) or ""), most)


def _dispatch(event: Fields) -> str:
    """``200  chat gpt-4o > tiny  ollama native  32 tok  0.07 s  miss``."""
    model, upstream = _text(event, "model"), _text(event, "upstream_model")
    name = f"{model} > {upstream}" if upstream and upstream != model else model
    outcome, cache = str(event.get("outcome") or ""), event.get("cache")
    tokens = event.get("completion_tokens")
    dropped, error = event.get("dropped"), event.get("error")
    ending = cache if outcome in ("ok", "cached", "shared") else f"{outcome}: {error}" if error else outcome
    return _joined(
        event.get("status") or "---",
        _text(event, "client"),
        f"{event.get('operation', '')} {name}".strip(),
        f"{_text(event, 'backend')} {_text(event, 'api_mode')}".strip(),
        f"{tokens} tok" if tokens is not None else "",
        f"{event.get('total_s', 0):.2f} s",
        ending,
        f"dropped: {', '.join(map(str, dropped))}" if isinstance(dropped, list | tuple) and dropped else "",
    )


def _refusal(event: Fields) -> str:
    """``403  GET /api/tags  origin not allowed``."""
    status = event.get("status")
    reason = event.get("error") or (
        "not with this method" if status == 405 else "no such path" if status == 404 else ""
    )
    return _joined(status, _text(event, "asked", 60), reason, event.get("origin"), event.get("host"))


def _backend(words: str) -> Callable[[Fields], str]:
    return lambda event: _joined(f"backend {_text(event, 'backend')} {words}", event.get("error"))


def _moved(event: Fields) -> str:
    return _joined(f"backend {_text(event, 'backend')} failed, asking {_text(event, 'to')}", event.get("error"))


def _using(event: Fields) -> str:
    return _joined(event.get("event"), _text(event, "backend"), event.get("url"))


def _listening(event: Fields) -> str:
    workers = event.get("workers")
    return _joined(f"listening on {event.get('url')}", f"{workers} workers" if workers else "", "Ctrl-C stops it")


_FORMS: Mapping[str, Callable[[Fields], str]] = {
    "agenthub.dispatch_finished": _dispatch,
    "agenthub.request_refused": _refusal,
    "agenthub.request_rejected": _refusal,
    "agenthub.request_moved": _moved,
    "agenthub.backend_up": _backend("is up"),
    "agenthub.backend_down": _backend("is down"),
    "agenthub.backend_unreachable": _backend("gave no list of models"),
    "agenthub.breaker_changed": lambda event: (
        f"breaker of {_text(event, 'backend')}: {event.get('old')} > {event.get('new')}"
    ),
    "agenthub.redis_down": lambda event: _joined("Redis is away", event.get("server"), event.get("error")),
    "agenthub.redis_back": lambda event: _joined("Redis is back", event.get("server")),
    "agenthub.listening": _listening,
    "agenthub.stopping": lambda event: f"stopping: requests have {event.get('drain_s')} s to finish",
    "agenthub.stopped": lambda event: "stopped",
    "agenthub.reload_failed": lambda event: _joined("the settings were not reloaded", event.get("error")),
    "agenthub.log_dropped": lambda event: f"{event.get('count')} lines of the log were dropped: nobody read them",
}
"""Each event's form."""
