"""The real server behind the faults: the Ollama that OLLAMA_HOST names where it answers, else the stand-in."""

from __future__ import annotations

import json
import statistics
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import attrs
import pytest

from agenthub.standin import Standin, running
from tests.real import SENTENCE, real_ollama_url

# Ollama 0.9.3 may never answer again for a model whose client left while a token was on its way; the real one behind
# the faults is spared that, and one that a client has spoilt all the same is told to load its model anew.
LINGERS_S, HEALTHY_S = 0.3, 10.0


@attrs.frozen
class Real:
    """A server with a model that says ``text``; ``lingers_s`` is how a proxy before it should leave it."""

    url: str
    model: str
    text: str
    lingers_s: float = 0.0


@pytest.fixture
async def real() -> AsyncIterator[Real]:
    """A real Ollama, or the stand-in."""
    try:
        url = real_ollama_url({"tiny:latest"})
    except LookupError:
        standin = Standin(text="One two three four five six seven eight, and ☕.")
        async with running(standin) as url:
            yield Real(url, "standin", standin.text or "")
        return
    await revive(url, "tiny")
    yield Real(url, "tiny", SENTENCE, LINGERS_S)


async def revive(url: str, model: str) -> None:
    """Return when the model answers; it is unloaded where it does not."""
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=HEALTHY_S)) as http:
        for _ in range(3):
            try:
                async with http.post("/api/generate", json={"model": model, "prompt": "hi", "stream": False}) as answer:
                    await answer.read()
                    return
            except TimeoutError:
                async with http.post("/api/generate", json={"model": model, "keep_alive": 0}) as answer:
                    await answer.read()
    pytest.fail(f"the Ollama at {url} does not answer")


FIGURES = "figure: "
"""What the names of properties begin with that are figures for docs/reliability.md."""


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Record figures under a name; they are printed at the end of the run."""

    def record(name: str, **figures: object) -> None:
        record_property(FIGURES + name, figures)

    return record


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the figures as one JSON object; of a list of seconds, which several tests may add to, what it says."""
    found: dict[str, dict[str, Any]] = {}
    for report in terminalreporter.stats.get("passed", ()):
        for name, value in report.user_properties:
            if name.startswith(FIGURES):
                merge(found.setdefault(name.removeprefix(FIGURES), {}), value)
    if found:
        terminalreporter.section("figures")
        said = {name: {key: summed_up(value) for key, value in figures.items()} for name, figures in found.items()}
        terminalreporter.line(json.dumps(said, indent=2))


def merge(known: dict[str, Any], more: dict[str, Any]) -> None:
    """Add the figures of one test to those of others of the same name."""
    for key, value in more.items():
        known[key] = known[key] + value if isinstance(value, list) and key in known else value


def summed_up(value: Any) -> Any:
    """Return what a list of seconds says, in short."""
    if not isinstance(value, list):
        return round(value, 3) if isinstance(value, float) else value
    return {"times": len(value), "p50": round(statistics.median(value), 4), "max": round(max(value), 4)}
