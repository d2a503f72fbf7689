"""Signals that come while ``agenthub serve`` starts, while a worker does, and while it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agenthub.signal_hold import is_program
from agenthub.standin import Standin, running
from tests.cli.support import LIMIT_S, Started, clean_environ, started

WORKERS = ("1", "2")
pytestmark = pytest.mark.timeout(180)


def blocked(pid: int) -> set[int]:
    """Return the numbers of the signals that the main thread of a process keeps back."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigBlk")]
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


async def until(condition: Callable[[], bool]) -> None:
    """Return as soon as it holds."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.001)


@asynccontextmanager
async def starting(upstream: str, *arguments: str) -> AsyncIterator[Started]:
    """Start a hub; yield it as soon as it keeps SIGHUP back."""
    environ = clean_environ(AGENTHUB_BACKENDS__ONE__URL=upstream)
    async with started("serve", "--port", "0", *arguments, environ=environ) as hub:
        try:
            await until(lambda: signal.SIGHUP in blocked(hub.process.pid))
            yield hub
        finally:
            for pid in children(hub) if hub.process.returncode is None else ():
                os.kill(pid, signal.SIGKILL)


def children(hub: Started) -> list[int]:
    """Return the ids of the worker processes."""
    pid = hub.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@asynccontextmanager
async def hailed(hub: Started, number: int = signal.SIGHUP) -> AsyncIterator[None]:
    """Send the signal over and over while the block runs."""

    async def hail() -> None:
        while hub.process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(hub.process.pid, number)  # Popen's own would reap it under asyncio's eyes
            await asyncio.sleep(0.002)

    task = asyncio.create_task(hail())
    try:
        yield
    finally:
        task.cancel()


async def is_up(url: str) -> bool:
    """Ask the hub whether it is."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/health") as response:
        return response.status == 200


@pytest.mark.parametrize("workers", WORKERS)
async def test_sighup_all_through_the_start(workers: str) -> None:
    """From the first instant on it kills nobody; the hub serves, and has reloaded."""
    async with running(Standin()) as upstream, starting(upstream, "--workers", workers) as hub:
        async with hailed(hub):
            url = (await hub.log_line("agenthub.listening"))["url"]
            await hub.log_line("agenthub.reloaded")
        assert await is_up(url)
        hub.signal(signal.SIGTERM)
        status, _, err = await hub.end()
    assert (status, "Traceback" in err) == (0, False)
    assert not [line for line in hub.log if "was sent" in line["event"]]


async def test_what_was_held_back_is_one_reload() -> None:
    """However often the signal came before the hub could serve it."""
    async with running(Standin()) as upstream, starting(upstream) as hub:
        for _ in range(5):
            hub.signal(signal.SIGHUP)
        await hub.log_line("agenthub.listening")
        assert (await hub.log_line("agenthub.reloaded"))["changed"] == []
        hub.signal(signal.SIGTERM)
        status, _, _ = await hub.end()
    assert status == 0
    assert [line["event"] for line in hub.log].count("agenthub.reloaded") == 1


async def test_a_worker_that_starts_again() -> None:
    """A worker that takes the place of a dead one is not killed by a reload meanwhile, and goes by it."""
    pytest.importorskip("gunicorn")
    async with running(Standin()) as upstream, starting(upstream, "--workers", "2") as hub:
        url = (await hub.log_line("agenthub.listening"))["url"]
        for _ in range(2):
            await hub.log_line("Using native Ollama API")
        before = children(hub)
        async with hailed(hub):
            os.kill(before[0], signal.SIGKILL)
            await until(lambda: len(set(children(hub)) - set(before)) == 1)
            (new,) = set(children(hub)) - set(before)
            while (await hub.log_line("agenthub.reloaded")).get("pid") != new:
                pass
        assert await is_up(url)
        hub.signal(signal.SIGTERM)
        status, _, err = await hub.end()
    assert (status, "Traceback" in err) == (0, False)
    assert len([line for line in hub.log if "was sent" in line["event"]]) == 1


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("loaded", ["", "_ssl", "orjson"])
async def test_a_stop_during_the_start(workers: str, number: int, loaded: str) -> None:
    """It ends at once, with 0 as later on, and without a traceback, whatever is being imported."""
    async with starting("http://127.0.0.1:9", "--workers", workers) as hub:
        maps = Path(f"/proc/{hub.process.pid}/maps")
        await until(lambda: loaded in maps.read_text())
        hub.signal(number)
        status, out, err = await hub.end()
    assert (status, out, err) == (0, "", "")


@pytest.mark.parametrize("workers", WORKERS)
async def test_sighup_all_through_the_end(workers: str) -> None:
    """While the hub ends there is nothing to reload, and the signal does not change how it ends."""
    async with running(Standin()) as upstream, starting(upstream, "--workers", workers) as hub:
        await hub.log_line("agenthub.listening")
        for _ in range(int(workers) if workers > "1" else 0):
            await hub.log_line("Using native Ollama API")
        async with hailed(hub):
            hub.signal(signal.SIGTERM)
            status, _, err = await hub.end()
    assert (status, "Traceback" in err) == (0, False)


async def test_the_console_script() -> None:
    """It holds the signal back as ``python -m agenthub`` does."""
    script = Path(sys.executable).with_name("agenthub")
    if not script.exists():
        pytest.skip("not installed")
    process = await asyncio.create_subprocess_exec(
        *(str(script), "serve", "--port", "0"),
        env=clean_environ(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    hub = Started(process)
    await until(lambda: signal.SIGHUP in blocked(process.pid))
    hub.signal(signal.SIGHUP)
    await hub.log_line("agenthub.reloaded")
    hub.signal(signal.SIGTERM)
    assert (await hub.end())[0] == 0


LIBRARY = """
import agenthub.cli.serve, signal
print(signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
"""


def test_who_imports_agenthub_keeps_its_signals() -> None:
    """Only ``agenthub serve`` is the program."""
    run = subprocess.run([sys.executable, "-c", LIBRARY, "serve"], capture_output=True, text=True, timeout=LIMIT_S)
    assert (run.stdout, run.stderr) == ("set() True\n", "")


@pytest.mark.parametrize(
    ("argv", "orig_argv", "is_it"),
    [
        (["/usr/bin/agenthub", "serve"], ["python", "/usr/bin/agenthub", "serve"], True),
        (["-m", "serve"], ["python", "-I", "-m", "agenthub", "serve"], True),
        (["-m", "serve"], ["python", "-magenthub", "serve"], True),
        (["-m", "serve"], ["python", "-m", "tests.fuzz", "serve"], False),
        (["-c", "serve"], ["python", "-c", "import agenthub", "serve"], False),
        (["pytest"], ["python", "-m", "pytest"], False),
        ([""], ["python"], False),
        ([], ["python"], False),
    ],
)
def test_which_process_is_the_program(argv: list[str], orig_argv: list[str], is_it: Any) -> None:
    """The console script, and ``python -m agenthub`` while Python looks for it."""
    assert is_program(argv, orig_argv) is is_it
