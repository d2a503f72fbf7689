"""The guarded connection: what it costs when Redis is slow, and what it does not take for that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import structlog
from redis import exceptions
from redis.asyncio import Redis

from agenthub.settings.redis_url import parse_redis_url
from agenthub.shared.link import PATIENCE, Away, Link
from tests.redis_server import RedisServer
from tests.shared.support import until


@asynccontextmanager
async def linked(redis: RedisServer) -> AsyncIterator[Link]:
    link = Link(parse_redis_url(redis.url))
    await link.open()
    try:
        yield link
    finally:
        await link.close()


async def get(redis: Redis) -> bytes | None:
    value: bytes | None = await redis.get("key")
    return value


async def outcomes(link: Link, count: int) -> set[str]:
    """What becomes of as many operations at once."""
    found = await asyncio.gather(*(link.run(get) for _ in range(count)), return_exceptions=True)
    return {type(outcome).__name__ for outcome in found}


async def test_many_more_than_there_are_connections(redis_server: RedisServer) -> None:
    """They take turns, and none is turned away."""
    async with linked(redis_server) as link, redis_server.client() as redis:
        await redis.set("key", "value")
        assert await outcomes(link, 1000) == {"bytes"}
        assert len(await redis.client_list()) <= 66


async def test_a_busy_hub_is_no_slow_redis(redis_server: RedisServer) -> None:
    """While this process does something else for half a second, again and again, the answers lie there already."""
    async with linked(redis_server) as link:
        for _ in range(4):
            asking = [asyncio.create_task(link.run(get)) for _ in range(10)]
            await asyncio.sleep(0)
            time.sleep(0.5)  # noqa: ASYNC251
            assert set(await asyncio.gather(*asking)) == {None}
        assert link.is_up


async def test_all_are_let_go_together(redis_server: RedisServer) -> None:
    """Also those that came later, and those that wait for a connection: they do not take turns."""
    async with linked(redis_server) as link:
        redis_server.hang()
        before = link._ticks
        early = asyncio.create_task(outcomes(link, 1000))
        await asyncio.sleep(0.1)
        assert await outcomes(link, 1000) == {"Away"}
        assert await early == {"Away"}
        assert link._ticks - before < 8 * PATIENCE, "in turns they would take sixteen times its patience"
        assert not link.is_up
        assert await outcomes(link, 1000) == {"Away"}
        redis_server.go_on()
        await until(lambda: link.is_up)
        assert await outcomes(link, 100) == {"NoneType"}
        assert (link._asking, link._places._value) == (set(), 64)


async def test_who_leaves_while_redis_is_asked(redis_server: RedisServer) -> None:
    """Is cancelled as anywhere else, and spoils no connection for the next: each gets its own answer."""
    async with linked(redis_server) as link:
        for turns in range(60):
            leaving = asyncio.create_task(link.run(lambda redis: redis.echo("theirs")))
            for _ in range(turns % 12):
                await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            assert await link.run(lambda redis, own=f"{turns}": redis.echo(own)) == f"{turns}".encode()  # type: ignore[misc]
        assert (link._asking, link._places._value) == (set(), 64)
        assert link.is_up


async def test_what_redis_refuses_is_no_outage(redis_server: RedisServer) -> None:
    """A wrong command is Away for the one who gave it; the log says so once a minute."""
    with structlog.testing.capture_logs() as lines:
        async with linked(redis_server) as link:
            for _ in range(3):
                with pytest.raises(Away, match="WRONGTYPE"):
                    await link.run(lambda redis: redis.eval("redis.call('set','a',1) redis.call('llen','a')", 0))
            assert link.is_up
    assert [(line["event"], line["server"]) for line in lines] == [
        ("agenthub.redis_refused", f"127.0.0.1:{redis_server.port} db 0")
    ]


async def test_one_that_comes_and_goes_is_looked_for_each_second(redis_server: RedisServer) -> None:
    """However many outages there were; the log has a line for the first, and none for each that follows at once."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    link = Link(parse_redis_url(redis_server.url), sleep)
    with structlog.testing.capture_logs() as lines:
        await link.open()
        try:
            for number in range(1, 40):
                with pytest.raises(Away):
                    await link.run(lambda redis: broken(redis))
                await until(lambda n=number: link.is_up and len(waits) >= n)  # type: ignore[misc]
        finally:
            await link.close()
    assert 0.5 <= min(waits) < max(waits) <= 1.0, "hubs that lost it together do not look together"
    told = [line["event"] for line in lines]
    assert told[:2] == ["agenthub.redis_down", "agenthub.redis_back"]
    assert len(told) <= 4, "a line each second would be a flood"


async def test_an_outage_that_lasts_is_told(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it follows so soon upon another that it was not told when it began."""
    looks = asyncio.Event()

    async def sleep(seconds: float) -> None:
        looks.set()
        await asyncio.sleep(0.01)

    link = Link(parse_redis_url(redis_server.url), sleep)
    with structlog.testing.capture_logs() as lines:
        await link.open()
        try:
            for _ in range(2):
                await until(lambda: link.is_up)
                with pytest.raises(Away):
                    await link.run(lambda redis: broken(redis))
            await redis_server.kill()
            monkeypatch.setattr("agenthub.shared.link._STABLE_S", 0.0)
            await until(lambda: link._is_told_down)
            await redis_server.start()
            await until(lambda: link.is_up)
        finally:
            await link.close()
    told = [line["event"].removeprefix("agenthub.redis_") for line in lines]
    assert told[-2:] == ["down", "back"]


@pytest.mark.parametrize(
    "error",
    [exceptions.TimeoutError(), exceptions.ConnectionError("c"), TimeoutError("e"), OSError(113, "no route")],
)
async def test_whatever_breaks_the_connection_is_an_outage(redis_server: RedisServer, error: Exception) -> None:
    """As the library says it, or the system."""

    async def fail(redis: Redis) -> None:
        raise error

    async with linked(redis_server) as link:
        with pytest.raises(Away):
            await link.run(fail)
        assert not link.is_up


async def broken(redis: Redis) -> None:
    raise ConnectionResetError("broken")


async def test_closing_while_it_hangs(redis_server: RedisServer) -> None:
    """The end of the hub does not wait for Redis."""
    link = Link(parse_redis_url(redis_server.url))
    await link.open()
    redis_server.hang()
    asking = asyncio.create_task(outcomes(link, 200))
    await asyncio.sleep(0.05)
    began = time.perf_counter()
    await link.close()
    assert time.perf_counter() - began < 15
    assert await asking == {"Away"}


async def test_one_that_stays_silent_is_looked_for_each_second(redis_server: RedisServer) -> None:
    """Each look at a server that says nothing is given up after half a second, and the next comes within a second."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 5:
            redis_server.go_on()
        await asyncio.sleep(0)

    redis_server.hang()
    link = Link(parse_redis_url(redis_server.url), sleep)
    await link.open()
    try:
        await until(lambda: link.is_up)
        assert len(waits) >= 5
        assert max(waits) <= 1.0
    finally:
        await link.close()


async def test_a_silent_name_server_holds_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many looks there were meanwhile; when it answers, the next look asks again."""
    asked = 0
    answered: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()

    async def getaddrinfo(*args: object, **more: object) -> list[object]:
        nonlocal asked
        asked += 1
        return await answered

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    monkeypatch.setattr("agenthub.shared.link._PROBE", 2)
    link = Link(parse_redis_url("redis://name.invalid:1/0"), lambda seconds: asyncio.sleep(0.001))
    await link.open()
    try:
        for _ in range(5):
            assert "no answer" in await link.probe()
        assert asked == 1
        answered.set_exception(OSError("no such name"))
        await until(lambda: asked > 2)
        assert "no such name" in await link.probe()
    finally:
        await link.close()


GARBAGE = [
    *(b"HTTP/1.1 400 Bad Request\r\n\r\n", b":abc\r\n", b"$abc\r\n", b"*abc\r\n", b"$-7\r\n", b"\xff\xfe\r\n"),
    *(b"\r\n", b"+\xff\r\n", b"-\xff\r\n", b"*1\r\n" * 3000 + b":1\r\n", b"*2\r\n+PONG\r\n+PONG\r\n", b"$5\r\nhello##"),
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: repr(garbage[:20]))
async def test_what_is_no_redis_is_away(garbage: bytes) -> None:
    """Whatever a server says to a look or to an operation: it is Away, the watch goes on, nothing else is raised."""
    good = 2

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal good
        while await reader.read(1000):
            good -= 1
            writer.write(b"+PONG\r\n" if good >= 0 else garbage)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        link = Link(parse_redis_url(f"redis://127.0.0.1:{port}/0"), lambda seconds: asyncio.sleep(0.01))
        await link.open()
        try:
            assert link.is_up
            for ask in (get, lambda redis: redis.pttl("a"), lambda redis: redis.eval("return 1", 0)):
                with suppress(Away):
                    await link.run(ask)  # type: ignore[arg-type]
            await link.probe()
            assert link._watching is not None
            assert not link._watching.done()
        finally:
            await link.close()
