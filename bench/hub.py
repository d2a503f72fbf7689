"""Starts the hub as its users do, with every built-in middleware on and a JSON log that goes to a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import processes
from bench.processes import Program


@contextmanager
def running(upstream: int, directory: Path) -> Iterator[Program]:
    """Run a hub in front of the upstream on that port; all its other settings are the defaults."""
    port = processes.free_port()
    environ = processes.environment(
        AGENTHUB_PORT=str(port), AGENTHUB_LOG__FORMAT="json", OLLAMA_HOST=f"127.0.0.1:{upstream}"
    )
    with processes.running(processes.python("agenthub", "serve"), port, "/health", directory, environ) as program:
        yield program
