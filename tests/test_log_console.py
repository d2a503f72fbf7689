"""Lines on a terminal: one of at most 100 columns for each event that a person sees often."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from agenthub.log import has_colours
from agenthub.log_console import _FORMS, COLUMNS, ConsoleLines, columns, cut

AT = {"timestamp": "2026-11-29T08:25:24.123456Z"}
DISPATCH: dict[str, Any] = {
    "event": "agenthub.dispatch_finished",
    "level": "info",
    "request_id": "a1",
    "client": "",
    "dialect": "ollama",
    "operation": "chat",
    "model": "tiny",
    "upstream_model": "tiny",
    "backend": "ollama",
    "api_mode": "native",
    "stream": True,
    "cache": "miss",
    "outcome": "ok",
    "status": 200,
    "total_s": 0.0712,
    "bytes": 5,
    "prompt_tokens": 3,
    "completion_tokens": 32,
}
USING = {"event": "Using native Ollama API", "level": "info", "api_mode": "native", "backend": "ollama", "url": "u"}
CHECKED: dict[str, Any] = {
    "event": "agenthub.backend_checked",
    "level": "info",
    "backend": "ollama",
    "url": "http://127.0.0.1:11434",
    "api_mode": "native",
}
LISTENING: dict[str, Any] = {
    "event": "agenthub.listening",
    "level": "info",
    "url": "http://127.0.0.1:9090",
    "hub": "agenthub-1",
    "callers": "this machine",
    "needs_key": False,
}
OTHERS = """
error dropped asked to old new server count workers drain_s answers models remedies remedy problem each_has_its_own
"""
FAILED = {"status": 502, "outcome": "failed", "level": "warning", "error": "backend ollama cannot be reached"}


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def line(**event: Any) -> str:
    return ConsoleLines(has_colours=False)(None, "info", {**AT, **event})


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (DISPATCH, "200  chat tiny > ollama native  32 tok  0.07 s  miss"),
        (DISPATCH | {"outcome": "cached", "cache": "hit"}, "200  chat tiny > ollama native  32 tok  0.07 s  hit"),
        (
            DISPATCH | {"client": "vscode", "model": "gpt-4o", "upstream_model": "llama3.2:3b"},
            "200  vscode  chat gpt-4o > llama3.2:3b > ollama native  32 tok  0.07 s  miss",
        ),
        (DISPATCH | {"dropped": ["think"]}, "200  chat tiny > ollama native  32 tok  0.07 s  miss  dropped: think"),
        (
            DISPATCH | FAILED | {"completion_tokens": None},
            "502  chat tiny > ollama native  0.07 s  failed: backend ollama cannot be reached",
        ),
        (
            DISPATCH | {"outcome": "abandoned", "status": 499},
            "499  chat tiny > ollama native  32 tok  0.07 s  abandoned",
        ),
        (
            {"event": "agenthub.request_rejected", "level": "info", "asked": "GET /v1/foo", "status": 404},
            "404  GET /v1/foo  no such path",
        ),
        (
            {
                "event": "agenthub.request_refused",
                "level": "info",
                "asked": "POST /api/chat",
                "status": 401,
                "error": "no key",
            },
            "401  POST /api/chat  no key",
        ),
        (
            {"event": "agenthub.backend_down", "level": "warning", "backend": "gpu1", "error": "Connection refused"},
            "warning  backend gpu1 is down  Connection refused",
        ),
        (
            {"event": "agenthub.request_moved", "level": "info", "backend": "a", "to": "b", "error": "it broke off"},
            "backend a failed, asking b  it broke off",
        ),
        (
            {"event": "agenthub.breaker_changed", "level": "warning", "backend": "a", "old": "closed", "new": "open"},
            "warning  breaker of a: closed > open",
        ),
        (
            CHECKED | {"answers": ["native"], "server": "Ollama 0.9.3", "models": 2},
            "backend ollama  http://127.0.0.1:11434  Ollama 0.9.3 through its native API  2 models",
        ),
        (
            CHECKED | {"answers": ["openai"], "server": "llama.cpp", "models": 1},
            "backend ollama  http://127.0.0.1:11434  llama.cpp through the OpenAI API  1 model",
        ),
        (
            CHECKED | {"answers": ["acme"], "server": "", "models": 0},
            "backend ollama  http://127.0.0.1:11434  answers through the acme API  no model yet",
        ),
        (
            CHECKED | {"answers": ["native", "openai"], "server": "Ollama 0.9.3", "models": 2, "api_mode": "auto"},
            "backend ollama  http://127.0.0.1:11434\n"
            "          Ollama 0.9.3 through its native and the OpenAI API (auto)  2 models",
        ),
        (
            CHECKED | {"level": "warning", "error": "it is silent", "remedies": ["Wake it.", "Or not."]},
            "warning  backend ollama  it is silent\n          ->  Wake it.",
        ),
        (
            CHECKED | {"level": "warning", "error": "it is silent", "remedies": []},
            "warning  backend ollama  it is silent",
        ),
        (
            {"event": "agenthub.apis_detected", "level": "info", "backend": "b", "answers": ["native", "openai"]},
            "backend b answers the native and openai API",
        ),
        (
            LISTENING,
            "listening on http://127.0.0.1:9090  Ctrl-C stops it\n"
            "          Ollama clients  OLLAMA_HOST=127.0.0.1:9090\n"
            "          OpenAI clients  OPENAI_BASE_URL=http://127.0.0.1:9090/v1 OPENAI_API_KEY=any\n"
            "          who may call    anyone on this machine, without a key",
        ),
        (
            LISTENING | {"url": "http://[::]:80", "workers": 2, "callers": ["a", "b"], "needs_key": True},
            "listening on http://[::]:80  2 workers  Ctrl-C stops it\n"
            "          Ollama clients  OLLAMA_HOST=[::1]:80\n"
            "          OpenAI clients  OPENAI_BASE_URL=http://[::1]:80/v1 OPENAI_API_KEY=KEY\n"
            "          who may call    clients with a key: a, b",
        ),
        (
            {"event": "agenthub.exposed", "level": "warning", "problem": "it is open", "remedy": "Close it."},
            "warning  it is open\n          ->  Close it.",
        ),
        (
            {
                "event": "agenthub.workers_share_nothing",
                "level": "warning",
                "workers": 4,
                "each_has_its_own": ["kept answers", "limits"],
                "remedy": 'caching.backend = "redis"',
            },
            'warning  each of the 4 workers has its own kept answers, limits\n          ->  caching.backend = "redis"',
        ),
        (
            {"event": "agenthub.log_dropped", "level": "warning", "count": 7},
            "warning  7 lines of the log were dropped: nobody read them",
        ),
    ],
)
def test_what_a_person_sees(event: dict[str, Any], shown: str) -> None:
    """The time of the day, and what happened."""
    assert line(**event) == f"08:25:24  {shown}"


def test_a_status_is_coloured_on_a_terminal() -> None:
    """Green for what went well, red for what did not; nothing else has a colour."""
    lines = ConsoleLines(has_colours=True)
    assert lines(None, "info", AT | DISPATCH).startswith("08:25:24  \x1b[32m200\x1b[0m  chat tiny")
    assert lines(None, "warning", AT | DISPATCH | FAILED).startswith("08:25:24  \x1b[31m502\x1b[0m  chat tiny")


def test_all_fields_at_debug() -> None:
    """Below the line, as structlog shows them."""
    first, rest = ConsoleLines(has_colours=False, is_full=True)(None, "info", AT | DISPATCH).split("\n", 1)
    assert first.endswith("miss")
    assert "request_id=a1" in rest
    assert "prompt_tokens=3" in rest


def test_the_api_of_a_backend() -> None:
    """Is named before anybody knows whether the backend answers."""
    assert line(**USING) == "08:25:24  Using native Ollama API  ollama  u"


@pytest.mark.parametrize(
    "event",
    [
        {"event": "agenthub.backend_unreachable", "level": "warning", "backend": "a", "error": "e", "at_start": True},
        {"event": "agenthub.backend_down", "level": "warning", "backend": "a", "error": "e", "at_start": True},
    ],
)
def test_what_is_told_otherwise_is_left_out(event: dict[str, Any]) -> None:
    """The state of a backend is told once at the start; at debug, and when it changes later, each has its line."""
    with pytest.raises(structlog.DropEvent):
        line(**event)
    first, rest = ConsoleLines(has_colours=False, is_full=True)(None, "info", AT | event).split("\n", 1)
    assert event["backend"] in first
    assert event["backend"] in rest
    assert line(**(event | {"at_start": False})).startswith("08:25:24  warning  backend a ")
    assert "Using selector" in line(event="Using selector: Epoll", level="info")


def test_other_events_keep_their_fields() -> None:
    """Those of plugins, and whatever has a traceback."""
    assert "x=1" in line(event="acme.happened", level="info", x=1)
    assert "KeyError: 'gone'" in line(event="agenthub.reload_failed", level="error", exc_info=KeyError("gone"))


@given(
    st.sampled_from([name for name in _FORMS if name != "Using"]),
    st.dictionaries(
        st.sampled_from([*DISPATCH, *LISTENING, *CHECKED, *OTHERS.split()]).filter(
            lambda name: name not in ("event", "level", "total_s")
        ),
        st.text(max_size=300) | st.integers() | st.none() | st.lists(st.text(max_size=50), max_size=20),
    ),
    st.sampled_from(["info", "warning", "error"]),
)
def test_no_line_is_too_long(name: str, fields: dict[str, Any], level: str) -> None:
    """Whatever the names, errors and texts are; an event has four at the most."""
    first, *more = line(**(DISPATCH | fields | {"event": name, "level": level})).split("\n")
    assert first.startswith("08:25:24  ")
    assert len(more) <= 3
    for shown in (first, *more):
        assert columns(shown) <= COLUMNS
        assert shown.isprintable()


def test_what_is_cut_says_so() -> None:
    """Two dots stand for the rest."""
    assert cut("abcdef", 5) == "abc.."
    assert line(**(DISPATCH | FAILED | {"error": "x" * 200})).endswith("x..")


@pytest.mark.parametrize(
    ("text", "wide"),
    [
        ("abc", 3),
        ("\u6a21\u578b", 4),
        ("\U0001f600", 2),
        ("e\u0301", 1),
        ("\u00e9", 1),
        ("\uff21", 2),
        ("\u2192", 1),
        ("\u2764\ufe0f", 2),
    ],
)
def test_columns(text: str, wide: int) -> None:
    """East Asian characters and emoji take two, combining marks none."""
    assert columns(text) == wide
    assert cut(text, wide) == text


def test_lines_are_cut_by_columns() -> None:
    """A wide character is cut as a whole; a mark stays with its letter."""
    assert cut("\u6a21\u578b\u6a21\u578b", 7) == "\u6a21\u578b.."
    assert cut("\u6a21\u578b\u6a21\u578b", 6) == "\u6a21\u578b.."
    assert cut("e\u0301" * 5, 4) == "e\u0301" * 2 + ".."
    shown = line(**(DISPATCH | FAILED | {"error": "\u6a21" * 200}))
    assert COLUMNS - 1 <= columns(shown) <= COLUMNS
    named = line(**(DISPATCH | {"model": "\U0001f600" * 60, "upstream_model": "\u6a21" * 60}))
    assert columns(named) <= COLUMNS


def test_an_embedding_has_no_tokens_to_tell() -> None:
    """Nor has it where the server told a count of zero; a text of none is told."""
    embedding = DISPATCH | {"operation": "embed"}
    for told in (0, None):
        assert line(**(embedding | {"completion_tokens": told})) == (
            "08:25:24  200  embed tiny > ollama native  0.07 s  miss"
        )
    assert "  0 tok  " in line(**(DISPATCH | {"completion_tokens": 0}))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("value", "coloured"), [(None, True), ("", True), ("1", False), ("0", False)])
def test_no_color(value: str | None, coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any value but an empty one takes the colours away."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    if value is not None:
        monkeypatch.setenv("NO_COLOR", value)
    assert has_colours(Terminal()) is coloured
    assert has_colours(io.StringIO()) is False
