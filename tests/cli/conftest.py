"""What every test of the command line shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.cli.support import taken_port
from tests.redis_server import redis_server

__all__ = ["redis_server"]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory, and nothing of AgentHub's in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("AGENTHUB_", "OLLAMA_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands set up logging for their whole process, which here is that of the tests: it gets its own back."""
    silent = structlog.ReturnLoggerFactory()
    monkeypatch.setattr("agenthub.cli.console.configure_logging", lambda *_: structlog.configure(logger_factory=silent))
    yield
    structlog.reset_defaults()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses connections for as long as the test runs."""
    with taken_port(listening=False) as port:
        yield port
