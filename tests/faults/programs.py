"""The programs of a test at load, each a process of its own: the hub as its users start it, and the stand-in."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import attrs

from bench import processes
from tests.faults.traces import until
from tests.ports import free_port

MOST_FILES = 8192


@attrs.define
class Program:
    """A running program, seen from outside."""

    url: str
    pid: int
    log: Path

    def memory_mb(self, what: str = "VmRSS") -> float:
        """Return its resident memory in units of 2**20 bytes; VmHWM is the most that it ever was."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / 1024
        raise LookupError(what)

    def descriptors(self) -> int:
        """Return how many file descriptors it holds."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    async def tasks(self) -> int:
        """Return how many tasks run in a hub: it writes that beside its log when it gets SIGUSR1."""
        answer = self.log.with_suffix(".tasks")
        answer.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR1)
        await until(answer.exists, lambda: f"{self.log} has no count of tasks")
        return int(answer.read_text(encoding="utf-8"))

    def kill(self) -> None:
        """End it with SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)

    def lines(self) -> list[dict[str, Any]]:
        """Return the JSON lines of its log so far."""
        with self.log.open(encoding="utf-8") as log:
            return [json.loads(line) for line in log if line.startswith("{") and line.endswith("\n")]

    def outcomes(self) -> dict[str, Counter[str]]:
        """Return how often each request id has which outcome in the log."""
        found: dict[str, Counter[str]] = {}
        for line in self.lines():
            if line["event"] == "agenthub.dispatch_finished":
                found.setdefault(line["request_id"], Counter())[line["outcome"]] += 1
        return found


def raise_limits() -> int:
    """Let this process and those it starts hold as many files as they may, up to 8,192; return how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


@asynccontextmanager
async def _running(
    command: list[str], port: int, ready: str, said: str, directory: Path, environ: Mapping[str, str]
) -> AsyncIterator[Program]:
    """Run a program while the block runs; it is there when it answers at ``ready`` and has ``said`` so."""
    program, log = processes.running(command, port, ready, directory, environ), directory / f"{port}.log"
    started = await asyncio.to_thread(program.__enter__)
    try:
        await until(lambda: said in log.read_text(encoding="utf-8"), lambda: log.read_text(encoding="utf-8"))
        yield Program(f"http://127.0.0.1:{port}", started.pid, log)
    finally:
        await asyncio.to_thread(program.__exit__, None, None, None)


def _environ(**variables: str) -> dict[str, str]:
    paths = [str(processes.ROOT), os.environ.get("PYTHONPATH", "")]
    return processes.environment(PYTHONPATH=os.pathsep.join(filter(None, paths)), **variables)


@asynccontextmanager
async def standin_process(directory: Path, *arguments: str, port: int = 0) -> AsyncIterator[Program]:
    """Run ``python -m agenthub.standin`` while the block runs."""
    port = port or free_port()
    command = processes.python("agenthub.standin", f"--port={port}", *arguments)
    async with _running(command, port, "/api/version", "stand-in Ollama on", directory, _environ()) as program:
        yield program


@asynccontextmanager
async def hub_process(directory: Path, **settings: object) -> AsyncIterator[Program]:
    """Run ``agenthub serve`` while the block runs; settings are named as in their variables, ``backends__a__url``."""
    port = free_port()
    given = {f"AGENTHUB_{name.upper()}": str(value) for name, value in settings.items()}
    environ = _environ(AGENTHUB_PORT=str(port), AGENTHUB_LOG__FORMAT="json", **given)
    command = processes.python("tests.faults.serving", str(directory / f"{port}.tasks"))
    async with _running(command, port, "/health", "agenthub.listening", directory, environ) as program:
        yield program


@asynccontextmanager
async def many_connections() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client without a bound on its connections; each request has one of its own."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        yield http


async def leave(response: aiohttp.ClientResponse) -> None:
    """Close the connection of an answer in its middle."""
    with suppress(aiohttp.ClientError):
        response.close()
