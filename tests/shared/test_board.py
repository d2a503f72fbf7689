"""Breakers of several replicas in step: what is written, what is believed of it, and who probes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.errors import BackendUnavailable
from agenthub.middleware.circuit_breaker import Breaker
from agenthub.settings import CircuitBreakerSettings
from agenthub.settings.redis_url import parse_redis_url
from agenthub.shared.board import CLAIMS, KEY, PROBE_S, Board, Place, place_name, take_over
from agenthub.shared.link import Away, Link
from tests.hubs import Clock
from tests.redis_server import RedisServer
from tests.shared.support import until

pytestmark = pytest.mark.usefixtures("patient")


@attrs.define
class Replica:
    """A board with one breaker, whose clock is its own and has nothing to do with that of Redis."""

    link: Link
    board: Board
    breaker: Breaker
    clock: Clock


@asynccontextmanager
async def replica(redis: RedisServer, now: float, *, runs: bool = False) -> AsyncIterator[Replica]:
    """Join the board; ``exchange`` is called by the test unless it ``runs``."""
    link, clock = Link(parse_redis_url(redis.url)), Clock(now)
    await link.open()
    breaker = Breaker("b", CircuitBreakerSettings(open_for_s=30.0), clock)
    board = Board(link)
    board.join("place", breaker)
    running = asyncio.create_task(board.run())
    await asyncio.sleep(0)  # it listens now
    if not runs:
        running.cancel()
    try:
        yield Replica(link, board, breaker, clock)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await link.close()


def trip(breaker: Breaker) -> None:
    for _ in range(3):
        breaker.failed(breaker.admit())


def refuse(breaker: Breaker) -> float:
    with pytest.raises(BackendUnavailable) as refused:
        breaker.admit()
    return refused.value.retry_after_s or 0.0


async def test_clocks_may_differ(redis_server: RedisServer) -> None:
    """What is told is how long it is still open, so that it ends for all at the same moment."""
    async with replica(redis_server, 1e3) as one, replica(redis_server, 9e9) as other:
        trip(one.breaker)
        one.clock.now += 10.0
        await one.board.exchange()
        await other.board.exchange()
        assert (other.breaker.state, refuse(other.breaker)) == ("open", pytest.approx(20.0, abs=2.0))
        other.breaker.reset()
        await other.board.exchange()
        await one.board.exchange()
        assert one.breaker.state == "closed"


async def test_a_replica_that_comes_later_learns_of_it(redis_server: RedisServer) -> None:
    """Even where the one that tripped is gone; and what is over is no news."""
    async with replica(redis_server, 0.0) as one:
        trip(one.breaker)
        await one.board.exchange()
    async with replica(redis_server, 5.0) as later:
        await later.board.exchange()
        assert later.breaker.state == "open"
    async with redis_server.client() as redis:
        seen, state, ends = (await redis.hget(KEY, "place") or b"").split(b" ")
        await redis.hset(KEY, "place", b"%s %s %f" % (seen, state, float(ends) - 60))
        assert await redis.ttl(KEY) > 0
    async with replica(redis_server, 5.0) as last:
        await last.board.exchange()
        assert last.breaker.state == "closed"


async def test_an_own_transition_goes_before_what_was_written(redis_server: RedisServer) -> None:
    """Of two the newer counts: what happens here between two looks is not undone by an older word."""
    async with replica(redis_server, 0.0) as one, replica(redis_server, 0.0) as other:
        trip(one.breaker)
        await one.board.exchange()
        await other.board.exchange()
        one.breaker.reset()
        trip(other.breaker) if other.breaker.state == "closed" else other.breaker.reset()
        await one.board.exchange()
        await other.board.exchange()
        await one.board.exchange()
        assert (one.breaker.state, other.breaker.state) == ("closed", "closed")


async def test_only_one_probes(redis_server: RedisServer) -> None:
    """Of those that are in demand one is let probe when the time comes; the others wait for what it finds."""
    async with replica(redis_server, 0.0) as one, replica(redis_server, 7.0) as other:
        trip(one.breaker)
        await one.board.exchange()
        await other.board.exchange()
        for each in (one, other):
            refuse(each.breaker)
            each.clock.now += each.breaker.wait_s
            await each.board.exchange()
        assert refuse(other.breaker) == pytest.approx(PROBE_S, abs=1.0)
        probe = one.breaker.admit()
        assert one.breaker.state == "half_open"
        await one.board.exchange()
        await other.board.exchange()
        refuse(other.breaker)
        one.breaker.succeeded(probe)
        await one.board.exchange()
        await other.board.exchange()
        assert [each.breaker.state for each in (one, other)] == ["closed", "closed"]
        async with redis_server.client() as redis:
            assert await redis.keys("agenthub:1:probe:*") == []


async def test_a_probe_that_fails_opens_all_anew(redis_server: RedisServer) -> None:
    """For the whole time once more."""
    async with replica(redis_server, 0.0) as one, replica(redis_server, 0.0) as other:
        trip(one.breaker)
        await one.board.exchange()
        await other.board.exchange()
        one.clock.now += 30.0
        one.breaker.failed(one.breaker.admit())
        await one.board.exchange()
        await other.board.exchange()
        assert refuse(other.breaker) == pytest.approx(30.0, abs=2.0)


async def test_a_replica_that_dies_while_it_probes_holds_nobody_up(redis_server: RedisServer) -> None:
    """The others wait for some seconds, not for ever."""
    async with replica(redis_server, 0.0) as other:
        async with replica(redis_server, 0.0) as one:
            trip(one.breaker)
            one.clock.now += 30.0
            one.breaker.admit()
            await one.board.exchange()
        await other.board.exchange()
        assert refuse(other.breaker) <= PROBE_S
        other.clock.now += PROBE_S
        assert other.breaker.admit()
        assert other.breaker.state == "half_open"


@pytest.mark.parametrize(
    "text",
    [b"", b"open", b"x open soon", b"x torn 99999999999", b"x open nan", b"x open 1e999", b"\xff\xfe", b"x open 1 2"],
)
async def test_what_is_no_word_of_ours_is_not_believed(redis_server: RedisServer, text: bytes) -> None:
    """Nothing happens, and the next transition is written over it."""
    async with replica(redis_server, 0.0) as one, redis_server.client() as redis:
        await redis.hset(KEY, "place", text)
        await one.board.exchange()
        assert one.breaker.state == "closed"
        trip(one.breaker)
        await one.board.exchange()
        assert b" open " in (await redis.hget(KEY, "place") or b"")


async def test_what_is_far_too_long_is_not_read(redis_server: RedisServer) -> None:
    """A value of megabytes stays where it is; a breaker that is open is written over it, as over what is lost."""
    async with replica(redis_server, 0.0) as one, redis_server.client() as redis:
        trip(one.breaker)
        await one.board.exchange()
        await redis.hset(KEY, "place", b"x closed 1." + b"0" * 2**23)
        read = (await redis.info("stats"))["total_net_output_bytes"]
        await one.board.exchange()
        assert (await redis.info("stats"))["total_net_output_bytes"] - read < 2**20
        assert one.breaker.state == "open"
        assert b" open " in (await redis.hget(KEY, "place") or b"")


@pytest.mark.parametrize("milliseconds", [None, 10**12])
async def test_a_claim_that_no_replica_makes_holds_nobody_up(
    redis_server: RedisServer, milliseconds: int | None
) -> None:
    """One without an end, or with one that is years away: it is taken over."""
    async with replica(redis_server, 0.0) as one, redis_server.client() as redis:
        trip(one.breaker)
        await redis.set(CLAIMS + "place", b"1", px=milliseconds)
        refuse(one.breaker)
        one.clock.now += one.breaker.wait_s
        one.board._places["place"].is_news = False
        await one.board.exchange()
        assert one.breaker.admit()
        assert 0 < await redis.pttl(CLAIMS + "place") <= 2 * PROBE_S * 1000


async def test_a_value_of_another_type_fails_nothing(redis_server: RedisServer) -> None:
    """It is Away for this exchange, and the log says so."""
    async with replica(redis_server, 0.0) as one, redis_server.client() as redis:
        await redis.set(KEY, "no hash")
        with pytest.raises(Away, match="WRONGTYPE"):
            await one.board.exchange()
        assert one.breaker.state == "closed"


words = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda seen, state, until: f"{seen} {state} {until}".encode("utf-8", "replace"),
        st.text(max_size=5),
        st.sampled_from(["open", "closed", "half_open", "torn", ""]),
        st.floats() | st.integers() | st.text(max_size=5),
    ),
)


@given(st.lists(words, max_size=5), st.floats(0, 2e9))
def test_whatever_stands_there_a_breaker_stays_one(texts: list[bytes], now_s: float) -> None:
    """It takes over a state for a day at most, or raises ValueError and is as it was."""
    breaker = Breaker("b", CircuitBreakerSettings(open_for_s=30.0), Clock(5.0))
    place = Place(breaker)
    for text in texts:
        before = breaker.state, breaker.wait_s
        try:
            take_over(place, text, now_s)
        except ValueError:
            assert (breaker.state, breaker.wait_s) == before
        assert breaker.state in ("closed", "open", "half_open")
        assert breaker.state == "closed" or -1e9 < breaker.wait_s <= 24 * 3600 + 1


async def test_what_happens_while_redis_is_away_is_told_later(redis_server: RedisServer) -> None:
    """Each goes by its own breaker meanwhile; a Redis that begins anew is told what is open."""
    async with replica(redis_server, 0.0, runs=True) as one, replica(redis_server, 0.0, runs=True) as other:
        await redis_server.kill()
        trip(one.breaker)
        await until(lambda: not one.link.is_up)
        with pytest.raises(Away):
            await one.board.exchange()
        assert other.breaker.state == "closed"
        await redis_server.start()
        await until(lambda: other.breaker.state == "open")
        await redis_server.kill()
        await until(lambda: not one.link.is_up and not other.link.is_up)
        await redis_server.start()
        await until(lambda: one.link.is_up)
        async with replica(redis_server, 0.0, runs=True) as third:
            await until(lambda: third.breaker.state == "open")


def test_a_server_of_the_same_machine_is_another_one_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas on two machines share a server's breaker, but not that of "localhost"."""
    urls = ["http://10.0.0.7:11434", "http://gpu:1", "http://127.0.0.1:11434", "http://[::1]:1", "http://localhost"]
    here = [place_name("b", url) for url in urls]
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    there = [place_name("b", url) for url in urls]
    assert [mine == theirs for mine, theirs in zip(here, there, strict=True)] == [True, True, False, False, False]
    assert len(set(here)) == len(here)
    assert place_name("a", urls[0]) != place_name("b", urls[0])
