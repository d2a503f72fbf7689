"""Console lines: the events that a person sees often, each in one line of at most 100 columns."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import accumulate, takewhile
from typing import Any, TypeAlias

import attrs
import structlog

COLUMNS = 100
_ROOM = COLUMNS - len("08:25:24  ")
_LONGEST_NAME = 40
Fields: TypeAlias = Mapping[str, Any]
_COLOURS = {"2": "\x1b[32m", "3": "\x1b[36m", "4": "\x1b[33m", "5": "\x1b[31m", "w": "\x1b[33m", "e": "\x1b[31m"}
_PLAIN = "\x1b[0m"
_EMOJI = "\ufe0f"
"""Makes a picture of the character before, which takes two columns then."""


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
        form = _FORMS.get("Using" if name.startswith("Using ") and "api_mode" in event else name)
        if form is None or "exc_info" in event or "exception" in event:
            return self._full(logger, method, event | {"timestamp": clock})
        if not self.is_full and is_told_otherwise(event):
            raise structlog.DropEvent
        told = form(event)
        words, *more = (told,) if isinstance(told, str) else told
        lines = [self._line(clock, words, str(event.get("level", "")))]
        lines += [cut(f"{' ' * len(clock)}  {printable(text)}", COLUMNS) for text in more]
        return "\n".join([*lines, self._full(logger, method, event | {"timestamp": clock})] if self.is_full else lines)

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


def is_told_otherwise(event: Fields) -> bool:
    """Say whether ``agenthub.backend_checked`` tells a person the same, and more of it."""
    return event.get("event") in _TROUBLES and event.get("at_start") is True


def printable(text: str) -> str:
    """Return the text without anything that a terminal would obey."""
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def cut(text: str, most: int) -> str:
    """Return the text in at most so many columns, with two dots where it was wider."""
    if text.isascii():
        return text if len(text) <= most else f"{text[: most - 2]}.."
    if columns(text) <= most:
        return text
    ends = accumulate(map(_width, text))
    fitting = sum(1 for _ in takewhile(lambda end: end <= most - 2, ends))
    return f"{text[:fitting]}.."


def columns(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(char: str) -> int:
    """Return the columns of one character: wide ones take two, marks that combine with the one before take none."""
    if char.isascii():
        return 1
    if char == _EMOJI:
        return 1
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


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
    """``200  chat gpt-4o > tiny > ollama native  32 tok  0.07 s  miss``."""
    model, upstream = _text(event, "model"), _text(event, "upstream_model")
    asked = f"{event.get('operation', '')} {model}".strip()
    place = f"{_text(event, 'backend')} {_text(event, 'api_mode')}".strip()
    way = " > ".join(filter(None, (asked, upstream if upstream != model else "", place)))
    outcome, cache = str(event.get("outcome") or ""), event.get("cache")
    tokens = event.get("completion_tokens")
    dropped, error = event.get("dropped"), event.get("error")
    ending = cache if outcome in ("ok", "cached", "shared") else f"{outcome}: {error}" if error else outcome
    return _joined(
        event.get("status") or "---",
        _text(event, "client"),
        way,
        f"{tokens} tok" if tokens is not None and (tokens or event.get("operation") != "embed") else "",
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


def _listening(event: Fields) -> Sequence[str]:
    url, workers = str(event.get("url") or ""), event.get("workers")
    first = _joined(f"listening on {url}", f"{workers} workers" if workers else "", "Ctrl-C stops it")
    # What listens on every address is called by this machine's own.
    near = url.replace("://0.0.0.0:", "://127.0.0.1:").replace("://[::]:", "://[::1]:")
    key = "KEY" if event.get("needs_key") else "any"
    return (
        first,
        f"Ollama clients  OLLAMA_HOST={near.removeprefix('http://')}",
        f"OpenAI clients  OPENAI_BASE_URL={near}/v1 OPENAI_API_KEY={key}",
        f"who may call    {_callers(event)}",
    )


def _callers(event: Fields) -> str:
    callers = event.get("callers")
    if isinstance(callers, list | tuple):
        return f"clients with a key: {', '.join(map(str, callers))}"
    return f"anyone on {callers or 'this machine'}, without a key"


def _checked(event: Fields) -> str | Sequence[str]:
    """``backend ollama  http://127.0.0.1:11434  Ollama 0.9.3 through its native API  2 models``."""
    name, remedies = f"backend {_text(event, 'backend')}", event.get("remedies")
    if error := event.get("error"):
        helps = [f"->  {remedy}" for remedy in remedies[:1]] if isinstance(remedies, list | tuple) else []
        whole = _joined(name, error)
        return (whole, *helps) if columns(whole) <= _ROOM - len("warning  ") else (name, str(error), *helps)
    count, server, kinds = event.get("models"), event.get("server"), event.get("answers")
    kinds = list(map(str, kinds)) if isinstance(kinds, list | tuple) else []
    apis = " and ".join([_OWN_WORDS.get(kind, f"the {kind}") for kind in kinds])
    auto = " (auto)" if event.get("api_mode") == "auto" else ""
    models = "no model yet" if not count else f"{count} model{'' if count == 1 else 's'}"
    place, state = _joined(name, event.get("url")), f"{server or 'answers'} through {apis} API{auto}"
    whole = _joined(place, state, models)
    return whole if columns(whole) <= _ROOM else (place, _joined(state, models))


def _detected(event: Fields) -> str:
    kinds = event.get("answers")
    apis = " and ".join(map(str, kinds)) if isinstance(kinds, list | tuple) else ""
    return f"backend {_text(event, 'backend')} answers {f'the {apis} API' if apis else 'no API'}"


def _sharing(event: Fields) -> Sequence[str]:
    own = event.get("each_has_its_own")
    things = ", ".join(map(str, own)) if isinstance(own, list | tuple) else "cache"
    return (f"each of the {event.get('workers')} workers has its own {things}", f"->  {event.get('remedy')}")


_OWN_WORDS = {"native": "its native", "openai": "the OpenAI"}
_TROUBLES = ("agenthub.backend_unreachable", "agenthub.backend_down")
_FORMS: Mapping[str, Callable[[Fields], str | Sequence[str]]] = {
    "Using": _using,
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
    "agenthub.exposed": lambda event: (f"{event.get('problem')}", f"->  {event.get('remedy')}"),
    "agenthub.backend_checked": _checked,
    "agenthub.apis_detected": _detected,
    "agenthub.workers_share_nothing": _sharing,
    "agenthub.stopping": lambda event: f"stopping: requests have {event.get('drain_s')} s to finish",
    "agenthub.stopped": lambda event: "stopped",
    "agenthub.reload_failed": lambda event: _joined("the settings were not reloaded", event.get("error")),
    "agenthub.log_dropped": lambda event: f"{event.get('count')} lines of the log were dropped: nobody read them",
}
"""Each event's form."""
