"""Lines on a terminal: one of at most 100 columns for each event that a person sees often."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.log_console import _FORMS, COLUMNS, ConsoleLines, cut

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
        (DISPATCH, "200  chat tiny  ollama native  32 tok  0.07 s  miss"),
        (DISPATCH | {"outcome": "cached", "cache": "hit"}, "200  chat tiny  ollama native  32 tok  0.07 s  hit"),
        (
            DISPATCH | {"client": "vscode", "model": "gpt-4o", "upstream_model": "llama3.2:3b"},
            "200  vscode  chat gpt-4o > llama3.2:3b  ollama native  32 tok  0.07 s  miss",
        ),
        (DISPATCH | {"dropped": ["think"]}, "200  chat tiny  ollama native  32 tok  0.07 s  miss  dropped: think"),
        (
            DISPATCH | FAILED | {"completion_tokens": None},
            "502  chat tiny  ollama native  0.07 s  failed: backend ollama cannot be reached",
        ),
        (
            DISPATCH | {"outcome": "abandoned", "status": 499},
            "499  chat tiny  ollama native  32 tok  0.07 s  abandoned",
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
            {"event": "Using native Ollama API", "level": "info", "backend": "ollama", "url": "http://127.0.0.1:11434"},
            "Using native Ollama API  ollama  http://127.0.0.1:11434",
        ),
        (
            {"event": "agenthub.listening", "level": "info", "url": "http://127.0.0.1:9090", "hub": "agenthub-1"},
            "listening on http://127.0.0.1:9090  Ctrl-C stops it",
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


def test_other_events_keep_their_fields() -> None:
    """Those of plugins, and whatever has a traceback."""
    assert "x=1" in line(event="acme.happened", level="info", x=1)
    assert "KeyError: 'gone'" in line(event="agenthub.reload_failed", level="error", exc_info=KeyError("gone"))


@given(
    st.sampled_from([*_FORMS, "Using native Ollama API"]),
    st.dictionaries(
        st.sampled_from(
            [*DISPATCH, "error", "dropped", "asked", "to", "old", "new", "url", "server", "count", "workers", "drain_s"]
        ).filter(lambda name: name not in ("event", "level", "total_s")),
        st.text(max_size=300) | st.integers() | st.none() | st.lists(st.text(max_size=50), max_size=20),
    ),
    st.sampled_from(["info", "warning", "error"]),
)
def test_no_line_is_too_long(name: str, fields: dict[str, Any], level: str) -> None:
    """Whatever the names, errors and texts are."""
    shown = line(**(DISPATCH | fields | {"event": name, "level": level}))
    assert len(shown) <= COLUMNS
    assert shown.startswith("08:25:24  ")
    assert shown.isprintable()


def test_what_is_cut_says_so() -> None:
    """Two dots stand for the rest."""
    assert cut("abcdef", 5) == "abc.."
    assert line(**(DISPATCH | FAILED | {"error": "x" * 200})).endswith("x..")
