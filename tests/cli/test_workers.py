"""``agenthub serve --workers``: real processes, real signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agenthub.cli import workers
from agenthub.cli.workers import serve_with_workers
from agenthub.errors import ConfigError
from agenthub.settings import BackendSettings, Settings
from agenthub.standin import Standin, running
from tests.cli.support import LIMIT_S, Started, clean_environ, finished, started, taken_port

CHAT: dict[str, Any] = {"model": "standin", "messages": [{"role": "user", "content": "Hello"}]}
PATIENCE = aiohttp.ClientTimeout(total=LIMIT_S)
pytest.importorskip("gunicorn")


@asynccontextmanager
async def serving(upstream: str, *arguments: str) -> AsyncIterator[tuple[Started, str]]:
    """Serve with two workers; yield the master and the URL, when both workers are up."""
    environ = clean_environ(AGENTHUB_BACKENDS__ONE__URL=upstream)
    async with started("serve", "--workers", "2", "--port", "0", *arguments, environ=environ) as hub:
        line = await hub.log_line("agenthub.listening")
        assert line["workers"] == 2
        for _ in range(2):
            await hub.log_line("Using native Ollama API")
        try:
            yield hub, line["url"]
        finally:
            for pid in workers_of(hub) if hub.process.returncode is None else ():
                os.kill(pid, signal.SIGKILL)


def client() -> aiohttp.ClientSession:
    """Return a client with a connection of its own for each request, which any worker may take."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True), timeout=PATIENCE)


def workers_of(hub: Started) -> set[int]:
    """Return the ids of the worker processes."""
    pid = hub.process.pid
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


async def gone(pid: int) -> None:
    """Return when there is no such process any more."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            await asyncio.sleep(0.01)


def worker_of(hub: Started, stream: aiohttp.ClientResponse) -> int:
    """Return the worker that has the other end of the stream's connection."""
    assert stream.connection is not None
    assert stream.connection.transport is not None
    port = stream.connection.transport.get_extra_info("sockname")[1]
    ends = (f":{stream.url.port:04X}", f":{port:04X}")
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = "01"  # a pair of ports may stand there again, from a connection that is being forgotten
    (inode,) = [row[9] for row in rows if (row[1][-5:], row[2][-5:], row[3]) == (*ends, established)]
    for pid in workers_of(hub):
        for opened in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                if str(opened.readlink()) == f"socket:[{inode}]":
                    return pid
    raise AssertionError(f"nobody has the connection to {port}")


async def ask(
    hub: Started, session: aiohttp.ClientSession, url: str, body: dict[str, Any] = CHAT
) -> tuple[int, aiohttp.ClientResponse]:
    """Return a stream that has begun, and its worker: the system chooses that by chance."""
    stream = await session.post(f"{url}/api/chat", json=body)
    return worker_of(hub, stream), stream


async def by_each(
    hub: Started, session: aiohttp.ClientSession, url: str, body: dict[str, Any] = CHAT
) -> list[tuple[int, aiohttp.ClientResponse]]:
    """Return streams of all workers, each with its worker."""
    streams: list[tuple[int, aiohttp.ClientResponse]] = []
    while {pid for pid, _ in streams} != workers_of(hub):
        streams.append(await ask(hub, session, url, body))
    return streams


async def is_whole(stream: aiohttp.ClientResponse) -> bool:
    """Read a stream to its end; say whether it has all of its answer."""
    try:
        last: bool = json.loads((await stream.read()).splitlines()[-1])["done"]
    except aiohttp.ClientError:
        return False
    return last


async def test_a_stop_loses_nothing() -> None:
    """Ctrl-C, which each process gets: all that runs in both workers is answered, then all ends, with 0. Each line of
    the log is JSON; that the workers share nothing is said once.
    """
    standin = Standin(pace_s=0.05)
    async with running(standin) as upstream, serving(upstream) as (hub, url):
        both = workers_of(hub)
        async with client() as session:
            streams = await by_each(hub, session, url)
            for pid in (hub.process.pid, *both):
                os.kill(pid, signal.SIGINT)
            await hub.log_line("agenthub.stopping")
            ends = [await is_whole(stream) for _, stream in streams]
        status, out, err = await hub.end()
    assert (len(both), ends, standin.abandoned.count) == (2, [True] * len(streams), 0)
    assert [line["outcome"] for line in hub.dispatches()] == ["ok"] * len(streams)
    events = [line["event"] for line in hub.log]
    assert (events.count("agenthub.workers_share_nothing"), events[-1]) == (1, "agenthub.stopped")
    assert (status, out, [line for line in err.splitlines() if not line.startswith("{")]) == (0, "", [])


@pytest.mark.parametrize("twice", [False, True], ids=["after drain_s", "at a second signal"])
async def test_an_answer_that_never_ends(twice: bool) -> None:
    """After drain_s a stream gets its last word; at a second signal it is broken off at once."""
    standin = Standin(endless=True, pace_s=0.01)
    arguments = ("--set", f"drain_s={1000 if twice else 0.2}")
    async with running(standin) as upstream, serving(upstream, *arguments) as (hub, url):
        async with (
            client() as session,
            session.post(f"{url}/api/chat", json=CHAT) as stream,
        ):
            await stream.content.readline()
            hub.signal(signal.SIGTERM)
            await hub.log_line("agenthub.stopping")
            if twice:
                hub.signal(signal.SIGTERM)
                with pytest.raises(aiohttp.ClientError):
                    await stream.read()
            else:
                assert json.loads((await stream.read()).splitlines()[-1]) == {"error": "the hub is stopping"}
        status, _, err = await hub.end()
        await standin.abandoned.reach(1)
    assert (status, "Traceback" in err) == (0, False)


async def test_a_killed_worker_is_replaced() -> None:
    """When a worker is killed its streams break, those of the other go on, and a new one takes its place."""
    standin = Standin(pace_s=0.05, endless=True)
    async with running(standin) as upstream, serving(upstream) as (hub, url), client() as session:
        both = workers_of(hub)
        streams = await by_each(hub, session, url)
        victim = streams[0][0]
        standin.endless = False
        others = [await ask(hub, session, url) for _ in range(8)]
        os.kill(victim, signal.SIGKILL)
        for pid, stream in streams:
            if pid == victim:
                assert not await is_whole(stream)
            else:
                stream.close()
        for pid, stream in others:
            # Those of the victim may have been whole before.
            assert await is_whole(stream) or pid == victim
        await hub.log_line("Using native Ollama API")
        assert len(workers_of(hub) - both) == 1
        assert all([await is_whole(stream) for _, stream in await by_each(hub, session, url)])
        hub.signal(signal.SIGTERM)
        status, _, err = await hub.end()
    assert (status, "Traceback" in err) == (0, False)


async def test_a_reload_reaches_every_worker(tmp_path: Path) -> None:
    """A bad file changes nothing and says why, once; a good one is taken over by all workers, and by one that starts
    later, while streams go on.
    """
    config = tmp_path / "hub.toml"

    async def put(text: str, event: str) -> dict[str, Any]:
        config.write_text(text)
        hub.signal(signal.SIGHUP)
        return await hub.log_line(event)

    async with running(Standin(pace_s=0.05)) as upstream:
        config.write_text("")
        async with (
            serving(upstream, "--config", str(config)) as (hub, url),
            client() as session,
        ):
            both = workers_of(hub)
            streams = await by_each(hub, session, url)
            assert "soon" in (await put('drain_s = "soon"', "agenthub.reload_failed"))["error"]
            said = await put("[models.other]\ntarget = 'standin'\n", "agenthub.reloaded")
            pids = {said["pid"]} if "pid" in said else set()
            while len(pids) < 2:
                line = await hub.log_line("agenthub.reloaded")
                assert line["changed"] == ["models.other"]
                pids |= {line["pid"]} if "pid" in line else set()
            assert pids == both
            assert all([await is_whole(stream) for _, stream in streams])
            os.kill(min(both), signal.SIGKILL)
            await hub.log_line("Using native Ollama API")
            assert len(workers_of(hub) - both) == 1
            streams = await by_each(hub, session, url, CHAT | {"model": "other"})
            assert [stream.status for _, stream in streams] == [200] * len(streams)
            assert all([await is_whole(stream) for _, stream in streams])
            hub.signal(signal.SIGTERM)
            status, _, err = await hub.end()
    assert (status, "Traceback" in err) == (0, False)


async def test_workers_end_with_their_master() -> None:
    """Workers whose master was killed let their requests finish and end."""
    async with (
        running(Standin(pace_s=0.05)) as upstream,
        serving(upstream) as (hub, url),
        client() as session,
    ):
        both = workers_of(hub)
        stream = await session.post(f"{url}/api/chat", json=CHAT)
        hub.process.kill()
        assert json.loads((await stream.read()).splitlines()[-1])["done"] is True
        for pid in both:
            await gone(pid)


async def test_a_port_in_use() -> None:
    """A port in use is the same one line as with one process."""
    with taken_port(listening=True) as port:
        result = await finished("serve", "--workers", "2", "--port", str(port))
    line = f"agenthub: port {port} on 127.0.0.1 is in use: stop what listens there, or choose another with --port\n"
    assert result == (1, "", line)


def test_without_gunicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one process without gunicorn is refused, with what to install."""
    monkeypatch.setattr(workers, "find_spec", lambda name: None)
    settings = Settings(workers=3, backends={"x": BackendSettings("http://127.0.0.1:9")})
    text = r"^default: workers: 3 processes need gunicorn: pip install gunicorn, or use 1$"
    with pytest.raises(ConfigError, match=text):
        serve_with_workers(settings, lambda: settings)
