"""The real server behind the faults: the Ollama that OLLAMA_HOST names where it answers, else the stand-in."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import pytest

from agenthub.standin import Standin, running
from tests.real import SENTENCE, real_ollama_url


@attrs.frozen
class Real:
    """A server with a model that says ``text`` to everything."""

    url: str
    model: str
    text: str


@pytest.fixture
async def real() -> AsyncIterator[Real]:
    """A real Ollama, or the stand-in."""
    try:
        yield Real(real_ollama_url({"tiny:latest"}), "tiny", SENTENCE)
    except LookupError:
        standin = Standin(text="One two three four five six seven eight, and ☕.")
        async with running(standin) as url:
            yield Real(url, "standin", standin.text or "")


FIGURES = "figure: "
"""What the names of properties begin with that are figures for docs/reliability.md."""


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Record figures under a name; they are printed at the end of the run."""

    def record(name: str, **figures: object) -> None:
        record_property(FIGURES + name, figures)

    return record


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the figures as one JSON object."""
    found = {
        name.removeprefix(FIGURES): value
        for report in terminalreporter.stats.get("passed", ())
        for name, value in report.user_properties
        if name.startswith(FIGURES)
    }
    if found:
        terminalreporter.section("figures")
        terminalreporter.line(json.dumps(found, indent=2))
