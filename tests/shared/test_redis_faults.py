"""Redis killed, hung, slow, empty, locked: requests go on, and what it costs is paid once."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agenthub.settings import CachingSettings, ClientSettings
from agenthub.shared.link import Link
from agenthub.standin import Fault, Standin, running
from tests.hubs import RunningHub, running_hub
from tests.ports import free_port
from tests.redis_server import RedisServer, needs_redis, running_redis
from tests.shared.support import BODY, MIDDLEWARE, replicas, state_of, until

CLIENTS = {"limited": ClientSettings(requests_per_minute=100_000, max_concurrency=1000)}
ONCE_S = 0.25


def fresh(number: int) -> dict[str, Any]:
    """A cacheable request that nobody has sent before."""
    return BODY | {"messages": [{"role": "user", "content": f"number {number}"}]}


async def timed(hub: RunningHub, numbers: range, *, at_once: bool = False) -> list[float]:
    """Send a request for each number and return how long each took; all must be answered."""

    async def ask(number: int) -> float:
        began = time.perf_counter()
        answer = await hub.post("/api/chat", fresh(number), X_Client_Name="limited")
        assert (answer.status, answer.headers["X-AgentHub-Cache"]) == (200, "miss")
        return time.perf_counter() - began

    if at_once:
        return list(await asyncio.gather(*map(ask, numbers)))
    return [await ask(number) for number in numbers]


def link_of(hub: RunningHub) -> Link:
    assert hub.hub.shared is not None
    return hub.hub.shared.link


def events(hub: RunningHub) -> list[str]:
    return [line["event"] for line in hub.lines if line["event"].startswith("agenthub.redis")]


@asynccontextmanager
async def hub_with(url: str) -> AsyncIterator[RunningHub]:
    settings: dict[str, Any] = {"caching": CachingSettings(backend="redis", url=url), "clients": CLIENTS}
    async with running(Standin()) as upstream, running_hub(upstream, middleware=MIDDLEWARE, **settings) as hub:
        yield hub


async def test_a_redis_that_hangs_costs_once(redis_server: RedisServer) -> None:
    """Twenty requests one after the other wait for it as long as one does; when it goes on, so does the sharing."""
    async with hub_with(redis_server.url) as hub:
        undisturbed = sum(await timed(hub, range(20)))
        redis_server.hang()
        hung = await timed(hub, range(20, 40))
        # Each would wait for 0.2 s, 4 s in all; the rest is what a busy machine may add.
        assert sum(hung) < 3 * undisturbed + ONCE_S + 1.5
        assert events(hub) == ["agenthub.redis_down"]
        redis_server.go_on()
        await until(lambda: link_of(hub).is_up)
        assert events(hub) == ["agenthub.redis_down", "agenthub.redis_back"]
        await timed(hub, range(40, 41))
        async with redis_server.client() as redis:
            assert len(await redis.keys("agenthub:1:cache:*")) == 21


async def test_many_wait_together(redis_server: RedisServer) -> None:
    """Two hundred requests in flight when it hangs are let go at the same time, not one after the other."""
    async with hub_with(redis_server.url) as hub:
        await timed(hub, range(200, 400), at_once=True)
        undisturbed = max(await timed(hub, range(400, 600), at_once=True))
        redis_server.hang()
        assert max(await timed(hub, range(600, 800), at_once=True)) < 3 * undisturbed + ONCE_S + 2.0
        assert events(hub)[-1] == "agenthub.redis_down"


async def test_a_redis_that_is_killed(redis_server: RedisServer) -> None:
    """Requests go on with what is in memory; a new and empty one is taken up, and told of what is known."""
    async with replicas(redis_server, standin := Standin(), clients=CLIENTS) as (one, other):
        await timed(one, range(1))
        standin.down = True
        for _ in range(3):
            await one.post("/api/chat", BODY | {"options": {}})
        await until(lambda: state_of(other) == "open")
        await redis_server.kill()
        kept = await one.post("/api/chat", fresh(0))
        assert (kept.status, kept.headers["X-AgentHub-Cache"]) == (200, "hit")
        assert (await other.post("/api/chat", fresh(1))).status == 503
        await until(lambda: not link_of(one).is_up and not link_of(other).is_up)
        await redis_server.start()
        await until(lambda: link_of(one).is_up and link_of(other).is_up)
        async with running_hub(
            one.hub.settings.backends, caching=CachingSettings(backend="redis", url=redis_server.url)
        ) as later:
            await until(lambda: state_of(later) == "open")
        assert events(later) == []


@needs_redis
async def test_a_hub_starts_without_redis(tmp_path: Path) -> None:
    """It says so once, serves from memory, and shares as soon as Redis is there."""
    port = free_port()
    async with hub_with(f"redis://127.0.0.1:{port}/0") as hub:
        await timed(hub, range(3))
        assert events(hub) == ["agenthub.redis_down"]
        async with running_redis(tmp_path, port=port) as server:
            await until(lambda: link_of(hub).is_up)
            await timed(hub, range(3, 5))
            async with server.client() as redis:
                assert len(await redis.keys("agenthub:1:cache:*")) == 2


@needs_redis
async def test_a_password_is_sent_and_never_told(tmp_path: Path) -> None:
    """With the right one the hub shares; with a wrong one it says why not, serves, and shows neither."""
    async with running_redis(tmp_path, "--requirepass", "pass%word") as server:
        async with hub_with(f"redis://:pass%25word@127.0.0.1:{server.port}/2") as hub:
            await timed(hub, range(1))
            assert events(hub) == []
        async with hub_with(f"redis://:wrong-word@127.0.0.1:{server.port}/2") as hub:
            await timed(hub, range(3))
            (line,) = [line for line in hub.lines if line["event"] == "agenthub.redis_down"]
            assert line["server"] == f"127.0.0.1:{server.port} db 2"
            assert "WRONGPASS" in line["error"] or "invalid" in line["error"]
            assert "wrong-word" not in str(hub.lines) + repr(link_of(hub)) + repr(hub.hub.shared)


async def test_a_redis_that_takes_no_writes(redis_server: RedisServer) -> None:
    """It is there, but refuses: requests go on, and the log says so once, not for each."""
    async with hub_with(redis_server.url) as hub:
        async with redis_server.client() as redis:
            await redis.config_set("maxmemory", "1mb")
            await redis.config_set("maxmemory-policy", "noeviction")
            await redis.config_set("maxmemory", "1")
        await timed(hub, range(5))
        assert events(hub) == ["agenthub.redis_refused"]


async def test_a_slow_redis_costs_once(redis_server: RedisServer) -> None:
    """One that takes 60 ms for each answer, which is not too long for any one, is left alone all the same."""
    async with slowed(redis_server.port) as slow, hub_with(f"redis://127.0.0.1:{slow.port}") as hub:
        undisturbed = sum(await timed(hub, range(20)))
        slow.delay_s = 0.06
        assert sum(await timed(hub, range(20, 40))) < 3 * undisturbed + ONCE_S + 1.5
        assert "agenthub.redis_down" in events(hub)
        slow.delay_s = 0.0
        await until(lambda: link_of(hub).is_up)


class Slow:
    """Passes a Redis's answers on after a while."""

    delay_s = 0.0
    port = 0

    def __init__(self, target: int) -> None:
        self.target = target

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)

        async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_slow: bool) -> None:
            while data := await source.read(65536):
                await asyncio.sleep(self.delay_s if is_slow else 0)
                sink.write(data)
            sink.close()

        try:
            await asyncio.gather(
                pipe(reader, far_writer, is_slow=False), pipe(far_reader, writer, is_slow=True), return_exceptions=True
            )
        finally:
            writer.close()
            far_writer.close()


@asynccontextmanager
async def slowed(target: int) -> AsyncIterator[Slow]:
    slow = Slow(target)
    server = await asyncio.start_server(slow.serve, "127.0.0.1", 0)
    slow.port = server.sockets[0].getsockname()[1]
    try:
        yield slow
    finally:
        server.close()


@needs_redis
async def test_tls(tmp_path: Path) -> None:
    """rediss:// checks the server's certificate, against a given authority where one is named."""
    try:
        make = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost"
        names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        await asyncio.to_thread(subprocess.run, [*make.split(), *names], cwd=tmp_path, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs openssl")
    port, cert, key = free_port(), str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    files = ("--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
    async with running_redis(tmp_path, "--port", "0", "--tls-port", str(port), *files):
        async with hub_with(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={cert}") as hub:
            await timed(hub, range(3))
            assert events(hub) == []
            assert link_of(hub).is_up
        async with hub_with(f"rediss://127.0.0.1:{port}/0") as hub:
            await timed(hub, range(3))
            (line,) = [line for line in hub.lines if line["event"] == "agenthub.redis_down"]
            assert "CERTIFICATE_VERIFY_FAILED" in line["error"]


@needs_redis
async def test_a_socket_in_the_file_system(tmp_path: Path) -> None:
    """unix:// reaches a Redis of the same machine."""
    path = tmp_path / "redis.sock"
    async with running_redis(tmp_path, "--unixsocket", str(path)), hub_with(f"unix://{path}?db=1") as hub:
        await timed(hub, range(2))
        assert link_of(hub).is_up


async def test_no_request_is_lost_under_load(redis_server: RedisServer) -> None:
    """Twenty clients of two hubs, while Redis is killed, comes back, hangs and goes on: each gets its answer."""
    async with replicas(redis_server, Standin(), clients=CLIENTS) as hubs:
        numbers, answered = iter(range(10**6)), list[int]()
        is_over = asyncio.Event()

        async def client(hub: RunningHub) -> None:
            while not is_over.is_set():
                answer = await hub.post("/api/chat", fresh(next(numbers)), X_Client_Name="limited")
                assert (answer.status, answer.json()["done"]) == (200, True)
                answered.append(answer.status)

        async def more(count: int) -> None:
            goal = len(answered) + count
            await until(lambda: len(answered) >= goal)

        clients = asyncio.gather(*(client(hubs[number % 2]) for number in range(20)))
        await more(100)
        await redis_server.kill()
        await more(100)
        assert not any(link_of(hub).is_up for hub in hubs)
        await redis_server.start()
        await until(lambda: all(link_of(hub).is_up for hub in hubs))
        await more(100)
        redis_server.hang()
        await more(100)
        redis_server.go_on()
        await until(lambda: all(link_of(hub).is_up for hub in hubs))
        await more(100)
        is_over.set()
        await clients
        hubs[0].hub.dispatcher.close()  # it writes its last lines into the same log
        lines = [line["outcome"] for line in hubs[1].dispatches()]
        assert (len(lines), set(lines)) == (len(answered), {"ok"})
        for hub in hubs:
            shared = hub.hub.shared
            assert shared is not None
            await until(lambda link=shared.link: (link._asking, link._places._value) == (set(), 64))  # type: ignore[misc]
            await until(lambda places=shared.places: not places._held and not places._returned)  # type: ignore[misc]


LIMITED = {"limited": ClientSettings(max_concurrency=2)}


async def hiccup(kind: str, server: RedisServer) -> None:
    """Let Redis hang for half a second, or take no writes for a second and a half, as in a failover."""
    if kind == "hang":
        server.hang()
        await asyncio.sleep(0.5)
        server.go_on()
        return
    async with server.client() as redis:
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        await asyncio.sleep(1.5)
        await redis.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize("kind", ["hang", "read-only"])
async def test_a_hiccup_refuses_no_client_within_its_limit(redis_server: RedisServer, kind: str) -> None:
    """One request at a time through each of two hubs, before, during and after it; one beyond the limit is refused."""
    async with replicas(redis_server, standin := Standin(), clients=LIMITED) as (one, other):
        statuses: list[int] = []
        is_over = asyncio.Event()

        async def ask(hub: RunningHub) -> int:
            return (await hub.post("/api/chat", BODY, X_Client_Name="limited", Cache_Control="no-store")).status

        async def work(hub: RunningHub) -> None:
            while not is_over.is_set():
                statuses.append(await ask(hub))

        working = [asyncio.create_task(work(hub)) for hub in (one, other)]
        await until(lambda: len(statuses) > 20)
        await hiccup(kind, redis_server)
        await until(lambda: link_of(one).is_up and link_of(other).is_up)
        count = len(statuses)
        await until(lambda: len(statuses) > count + 20)
        is_over.set()
        await asyncio.gather(*working)
        assert set(statuses) == {200}
        standin.script(Fault.hang(), Fault.hang())
        before = standin.received.count
        holding = [asyncio.create_task(ask(hub)) for hub in (one, other)]
        await standin.received.reach(before + 2)
        assert [await ask(one), await ask(other)] == [429, 429]
        for task in holding:
            task.cancel()
        await asyncio.gather(*holding, return_exceptions=True)
