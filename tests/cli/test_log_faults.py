"""``agenthub serve`` with a log that is gone, full, or not read: every answer stands, and the end is what it was."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import resource
import select
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest

from agenthub.standin import Standin, running
from tests.cli.support import clean_environ
from tests.ports import free_port

LIMIT_S = 50.0
FORMATS = ("json", "console")
pytestmark = pytest.mark.timeout(180)
PATIENCE = aiohttp.ClientTimeout(total=LIMIT_S)
ROOM = 4096
"""Of the hub's own buffer, and of the pipes: a few requests fill both."""


@attrs.define
class Log:
    """Where a hub writes to; each end is closed once, for its number may soon be that of something else."""

    fd: int | None = None
    reader: int = -1
    spoils: bool = False
    _opened: set[int] = attrs.field(factory=set)

    def __attrs_post_init__(self) -> None:
        self._opened |= {fd for fd in (self.fd, self.reader) if fd is not None and fd >= 0}

    def close(self, fd: int | None) -> None:
        """Close an end that is open here."""
        if fd is not None and fd in self._opened:
            self._opened.remove(fd)
            os.close(fd)

    def spoil(self) -> None:
        """Have nobody at the other end any more, where that is what this log is for."""
        if self.spoils:
            self.close(self.reader)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close(self.fd)
        self.close(self.reader)


def _pipe(name: str) -> Log:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, ROOM)
    return Log(writer, reader, spoils=name == "closed pipe")


def _terminal(name: str) -> Log:
    master, slave = pty.openpty()
    return Log(slave, master, spoils=name == "hung up")


def _full(name: str) -> Log:
    return Log(os.open("/dev/full", os.O_WRONLY))


def _nothing(name: str) -> Log:
    return Log()


LOGS: dict[str, Callable[[str], Log]] = {
    "closed pipe": _pipe,
    "unread pipe": _pipe,
    "hung up": _terminal,
    "stopped terminal": _terminal,
    "full disk": _full,
    "no stderr": _nothing,
}


@asynccontextmanager
async def served(log: Log, form: str, *arguments: str, **variables: str) -> AsyncIterator[tuple[Any, str]]:
    """Serve with that log, and without reading it; yield the process and its URL when it answers."""
    port = free_port()
    parts = ("serve", "--port", str(port), "--log-format", form, "--set", f"log.buffer_bytes={ROOM}", *arguments)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agenthub", *parts),
        env=clean_environ(**variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=log.fd,
        preexec_fn=(lambda: os.close(2)) if log.fd is None else None,
    )
    log.close(log.fd)
    url = f"http://127.0.0.1:{port}"
    try:
        await up(url)
        yield process, url
    finally:
        if process.returncode is None:
            for child in _children(process.pid):
                os.kill(child, signal.SIGKILL)
            process.kill()
        await process.wait()


async def up(url: str) -> None:
    """Return when the hub answers."""
    async with asyncio.timeout(LIMIT_S), aiohttp.ClientSession() as session:
        while True:
            with suppress(aiohttp.ClientConnectionError):
                async with session.get(f"{url}/health"):
                    return
            await asyncio.sleep(0.02)


async def ended(process: Any) -> int:
    """Return the exit status after SIGTERM."""
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(LIMIT_S):
        return int(await process.wait())


async def ask(url: str, count: int, model: str = "standin") -> Counter[Any]:
    """Return how often which answer came to as many chats, one after the other on one connection."""
    body: dict[str, Any] = {"model": model, "stream": False, "messages": [{"role": "user", "content": "Hello"}]}
    answers: Counter[Any] = Counter()
    async with aiohttp.ClientSession(timeout=PATIENCE) as session:
        for _ in range(count):
            async with session.post(f"{url}/api/chat", json=body) as response:
                answers[response.status, (await response.json()).get("done")] += 1
    return answers


async def crash(url: str) -> int:
    """Return the status of what is no HTTP, of which aiohttp logs by itself."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n")
    line = await asyncio.wait_for(reader.readline(), LIMIT_S)
    writer.close()
    return int(line.split()[1])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", LOGS)
async def test_answers_stand(name: str, form: str) -> None:
    """Through what is logged of a chat, of a refusal, of what is no HTTP and of a reload; the end is one with 0."""
    async with running(Standin()) as upstream:
        with LOGS[name](name) as log:
            async with served(log, form, OLLAMA_HOST=upstream) as (process, url):
                log.spoil()
                assert await ask(url, 60) == {(200, True): 60}
                assert await crash(url) == 400
                process.send_signal(signal.SIGHUP)
                assert await ask(url, 3) == {(200, True): 3}
                assert await ended(process) == 0


@pytest.mark.parametrize("form", FORMATS)
async def test_failing_over_stands(form: str) -> None:
    """A backend that cannot be reached is logged in several places; the answer is the other one's."""
    async with running(Standin()) as upstream:
        backends = {
            "AGENTHUB_BACKENDS__A__URL": f"http://127.0.0.1:{free_port()}",
            "AGENTHUB_BACKENDS__A__PRIORITY": "1",
            "AGENTHUB_BACKENDS__A__MODELS": "standin",
            "AGENTHUB_BACKENDS__B__URL": upstream,
        }
        with _pipe("closed pipe") as log:
            async with served(log, form, **backends) as (process, url):
                log.spoil()
                assert await ask(url, 10) == {(200, True): 10}
                assert await ended(process) == 0


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["closed pipe", "unread pipe", "no stderr"])
async def test_workers_stand(name: str, form: str) -> None:
    """The first process and its workers write to one log; what becomes of that changes neither answers nor the end."""
    pytest.importorskip("gunicorn")
    async with running(Standin()) as upstream:
        with LOGS[name](name) as log:
            async with served(log, form, "--workers", "2", OLLAMA_HOST=upstream) as (process, url):
                log.spoil()
                assert await ask(url, 60) == {(200, True): 60}
                process.send_signal(signal.SIGHUP)
                assert await ask(url, 3) == {(200, True): 3}
                assert await ended(process) == 0


@pytest.mark.parametrize("form", FORMATS)
async def test_lines_that_nobody_read_are_counted(form: str) -> None:
    """Once somebody reads again, what waited comes, then the number of lines that did not, and further ones are as
    ever: no line is in two pieces, and none is missing without being counted.
    """
    many = 100 if form == "json" else 400  # whose lines are shorter
    async with running(Standin()) as upstream:
        with _pipe("unread pipe") as log:
            async with served(log, form, OLLAMA_HOST=upstream) as (process, url):
                assert await ask(url, many) == {(200, True): many}
                text = await asyncio.to_thread(_read_to, log.reader, b"dropped")
                rest = asyncio.create_task(asyncio.to_thread(_read_to, log.reader))
                assert await ask(url, 2, model="standin:latest") == {(200, True): 2}
                assert await ended(process) == 0
                text += await rest
    lines = text.decode().splitlines()
    said = [
        line for line in lines if "agenthub.dispatch_finished" in line or " s  miss" in line or " s  bypass" in line
    ]
    told = [line for line in lines if "dropped" in line]
    if form == "json":
        assert all(isinstance(json.loads(line), dict) for line in lines)
        counts = [json.loads(line)["count"] for line in told]
    else:
        counts = [int(line.partition(" lines")[0].split()[-1]) for line in told]
    assert sum(counts) > 0
    # A line that is no dispatch's, such as that of a health check, may be among those that were dropped.
    assert many + 2 <= len(said) + sum(counts) <= many + 5


def _read_to(fd: int, mark: bytes = b"") -> bytes:
    """Return what comes up to a whole line with the mark in it, or without one to the end."""
    text = b""
    while not mark or mark not in text.rpartition(b"\n")[0]:
        assert select.select([fd], [], [], LIMIT_S)[0], "nothing more comes"
        if not (read := os.read(fd, 2**16)):
            break
        text += read
    return text


@pytest.mark.parametrize("locale", ["C", "POSIX"])
async def test_a_terminal_without_unicode(locale: str) -> None:
    """What it cannot show is escaped; a line that it cannot show would otherwise cost the answer."""
    variables = {"LANG": locale, "LC_ALL": locale, "PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}
    async with running(Standin()) as upstream:
        with _pipe("unread pipe") as log:
            async with served(log, "console", OLLAMA_HOST=upstream, **variables) as (process, url):
                answers = await ask(url, 2, model="m\u00f6del")
                assert await ended(process) == 0
            text = _read_to(log.reader).decode("ascii")
    assert {status for status, _ in answers} == {404}
    assert r"m\xf6del" in text


async def test_standard_files_that_are_closed() -> None:
    """None of the hub's own sockets gets the number of stdin, stdout or stderr, whose closing would abort it."""

    def close() -> None:
        for fd in range(3):
            os.close(fd)

    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agenthub", "serve", "--port", str(port)), env=clean_environ(), preexec_fn=close
    )
    try:
        await up(f"http://127.0.0.1:{port}")
        links = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in range(3)]
        assert (await ended(process), links) == (0, ["/dev/null"] * 3)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("name", ["closed pipe", "full disk", "no stderr"])
async def test_a_wrong_setting_that_nobody_reads(name: str) -> None:
    """The exit status tells, as ever."""
    with LOGS[name](name) as log:
        if name == "closed pipe":
            log.spoil()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "agenthub", "serve", "--port", "many"),
            env=clean_environ(),
            stderr=log.fd,
            preexec_fn=(lambda: os.close(2)) if log.fd is None else None,
        )
        assert await asyncio.wait_for(process.wait(), LIMIT_S) == 2


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_out_of_file_descriptors(loop: str, tmp_path: Path) -> None:
    """More clients than files that may be open: a line or none, and when some have left the hub answers again."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    else:
        (tmp_path / "uvloop.py").write_text("raise ImportError\n")
    path = tmp_path / "log"
    with ExitStack() as stack:
        log = stack.enter_context(Log(os.open(path, os.O_WRONLY | os.O_CREAT)))
        variables = {"PYTHONPATH": str(tmp_path), "AGENTHUB_HEALTH__INTERVAL_S": "0"}
        async with served(log, "json", **variables) as (process, url):
            taken = len(os.listdir(f"/proc/{process.pid}/fd"))
            soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (taken + 2, hard))
            host, _, port = url.removeprefix("http://").partition(":")
            clients = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(40)]
            before = _cpu_ticks(process.pid)
            if loop == "asyncio":
                await _said(path, b"socket.accept()")
            await asyncio.sleep(2.2)  # it tries again each second
            assert _cpu_ticks(process.pid) - before < 0.9 * 2.2 * os.sysconf("SC_CLK_TCK")
            for client in clients:
                client.close()
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, hard))
            await up(url)
            assert await ended(process) == 0
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    accepts = [line for line in lines if "socket.accept()" in line["event"]]
    if loop == "asyncio":
        assert [line.get("repeated", 0) > 1000 for line in accepts] == [False, True]
    assert len(accepts) <= 2


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def _said(path: Path, text: bytes) -> None:
    async with asyncio.timeout(LIMIT_S):
        while text not in await asyncio.to_thread(path.read_bytes):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.01)


def _cpu_ticks(pid: int) -> int:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
