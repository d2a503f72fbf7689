"""Runs the command line: in this process by ``invoke``, as a process of its own by ``started``."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import attrs
from click.testing import CliRunner, Result

from agenthub.cli import main

LIMIT_S = 50.0
"""A machine that does other things takes its time to start a process; each test has a minute."""


async def invoke(*arguments: str) -> Result:
    """Run a command in a thread, so that servers of this event loop can answer it; stdout and stderr are kept apart."""
    return await asyncio.to_thread(CliRunner().invoke, main, arguments)


def clean_environ(**variables: str) -> dict[str, str]:
    """Return this process's environment without anything that AgentHub reads, and with ``variables``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTHUB_", "OLLAMA_"))}
    return kept | {"COLUMNS": "80"} | variables


@attrs.define
class Started:
    """A running ``agenthub``; ``log`` has the lines that ``log_line`` has read, and at its end all."""

    process: asyncio.subprocess.Process
    log: list[dict[str, Any]] = attrs.field(factory=list)

    def dispatches(self) -> list[dict[str, Any]]:
        """Return the canonical lines of all dispatches, as far as they are read."""
        return [line for line in self.log if line["event"] == "agenthub.dispatch_finished"]

    def signal(self, number: int) -> None:
        """Send a signal to this process alone."""
        self.process.send_signal(number)

    async def log_line(self, event: str) -> dict[str, Any]:
        """Return the next JSON log line of that event; what comes before it is skipped."""
        assert self.process.stderr is not None
        async with asyncio.timeout(LIMIT_S):
            while line := await self.process.stderr.readline():
                if line.startswith(b"{"):
                    self.log.append(json.loads(line))
                    if self.log[-1]["event"] == event:
                        return self.log[-1]
        raise AssertionError(f"no {event} in the log")

    async def read_until(self, mark: str) -> str:
        """Return what is printed up to the line with ``mark`` in it."""
        assert self.process.stdout is not None
        text = ""
        async with asyncio.timeout(LIMIT_S):
            while line := await self.process.stdout.readline():
                text += line.decode()
                if mark in text:
                    return text
        raise AssertionError(f"no {mark!r} in:\n{text}")

    async def end(self) -> tuple[int, str, str]:
        """Wait for the end; return the exit status and the rest of stdout and stderr."""
        async with asyncio.timeout(LIMIT_S):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        self.log += [json.loads(line) for line in err.splitlines() if line.startswith(b"{")]
        return self.process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def started(
    *arguments: str, environ: Mapping[str, str] | None = None, prepare: Callable[[], None] | None = None
) -> AsyncIterator[Started]:
    """Start ``python -m agenthub`` in the working directory; what still runs at the end is killed by its own id.

    ``prepare`` is called in the new process before the program begins.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agenthub",
        *arguments,
        env=clean_environ() if environ is None else environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=prepare,
    )
    try:
        yield Started(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def finished(
    *arguments: str, environ: Mapping[str, str] | None = None, prepare: Callable[[], None] | None = None
) -> tuple[int, str, str]:
    """Run to the end; return the exit status, stdout and stderr."""
    async with started(*arguments, environ=environ, prepare=prepare) as hub:
        return await hub.end()


@contextmanager
def taken_port(*, listening: bool) -> Iterator[int]:
    """Yield a port that is in use; without ``listening`` every connection to it is refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if listening:
            taken.listen()
        yield taken.getsockname()[1]
