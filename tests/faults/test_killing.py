"""kill -9 under load, of an upstream, a worker, Redis: each request has one outcome, and the service recovers."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.faults.load import Load, unaccounted, under_load
from tests.faults.programs import Program, hub_process, raise_limits, standin_process
from tests.faults.reading import Got
from tests.faults.traces import until
from tests.redis_server import RedisServer, redis_server

__all__ = ["redis_server"]
CLIENTS, PACE = 16, "--pace=0.005"
KINDS = {"plain": 8, "asked_often": 1, "together": 1}
SOON_S, RELOADS = 30.0, 5
pytestmark = pytest.mark.timeout(180)


async def answered(load: Load, more: int) -> None:
    """Return when so many more requests are answered than now."""
    wanted = Counter(load.seen.values())["answered"] + more
    await until(lambda: Counter(load.seen.values())["answered"] >= wanted, lambda: load.strange[-3:], SOON_S)


def events(hub: Program, event: str, **facts: Any) -> list[dict[str, Any]]:
    """Return the hub's log lines of that event with those facts."""
    return [line for line in hub.lines() if line["event"] == event and facts.items() <= line.items()]


def seconds_after(moment: float, line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp() - moment


def moved(hub: Program) -> list[float]:
    """Return after how many seconds each request that was moved had its first event from the other backend."""
    ids = {line["request_id"] for line in events(hub, "agenthub.request_moved")}
    lines = events(hub, "agenthub.dispatch_finished", outcome="ok")
    return [line["first_event_s"] for line in lines if line["request_id"] in ids]


async def test_the_only_upstream(tmp_path: Path, figure: Callable[..., None]) -> None:
    """It is left alone after three failures, and asked again when it is back; nobody waits for it in vain."""
    settings = {"circuit_breaker__open_for_s": 0.5, "health__interval_s": 1}
    async with (
        standin_process(tmp_path, PACE) as upstream,
        hub_process(tmp_path, backends__one__url=upstream.url, **settings) as hub,
        under_load(hub.url, KINDS, CLIENTS) as load,
    ):
        await answered(load, 50)
        upstream.kill()
        killed_at = time.time()
        await until(lambda: bool(events(hub, "agenthub.breaker_changed", new="open")), hub.lines, SOON_S)
        async with standin_process(tmp_path, PACE, port=port_of(upstream)):
            began_at = time.time()
            await answered(load, 100)
            back_s = min(end for begin, end in ends(load) if begin > began_at) - began_at
            await until(lambda: bool(events(hub, "agenthub.breaker_changed", new="closed")), hub.lines, SOON_S)
            await load.stop()
    assert not load.strange, load.strange[:5]
    assert not (wrong := unaccounted(load.seen, hub.outcomes())), list(wrong.items())[:5]
    left_alone_s = seconds_after(killed_at, events(hub, "agenthub.breaker_changed", new="open")[0])
    figure("only upstream killed", left_alone_s=left_alone_s, asked_again_s=back_s, **seen(load))


def port_of(program: Program) -> int:
    return int(program.url.rpartition(":")[2])


def ends(load: Load) -> list[tuple[float, float]]:
    """Return when the requests that were answered began and ended."""
    return [(*times,) for id_, times in load.times.items() if load.seen[id_] == "answered"]  # type: ignore[misc]


def seen(load: Load) -> dict[str, int]:
    return dict(Counter(load.seen.values()))


async def test_one_of_two_upstreams(tmp_path: Path, figure: Callable[..., None]) -> None:
    """Only streams that had begun there fail; the others are answered by the other one, and both serve again later."""
    settings = {"balancing__strategy": "least_busy", "circuit_breaker__open_for_s": 0.5, "health__interval_s": 1}
    async with (
        standin_process(tmp_path, PACE) as one,
        standin_process(tmp_path, PACE) as other,
        hub_process(tmp_path, backends__one__url=one.url, backends__other__url=other.url, **settings) as hub,
        under_load(hub.url, KINDS, CLIENTS) as load,
    ):
        await answered(load, 50)
        one.kill()
        await answered(load, 100)

        def answers_of_one() -> int:
            return len(events(hub, "agenthub.dispatch_finished", backend="one", outcome="ok"))

        before = answers_of_one()
        async with standin_process(tmp_path, PACE, port=port_of(one)):
            await until(lambda: answers_of_one() > before, hub.lines, SOON_S)
            await load.stop()
    assert not load.strange, load.strange[:5]
    assert not (wrong := unaccounted(load.seen, hub.outcomes())), list(wrong.items())[:5]
    failed = events(hub, "agenthub.dispatch_finished", outcome="failed")
    assert {line["status"] for line in failed if line["stream"]} <= {200}
    waits_s = moved(hub)
    assert waits_s
    figure("one of two upstreams killed", first_event_of_moved_s=waits_s, **seen(load))


def workers_of(hub: Program) -> set[int]:
    return {int(child) for child in Path(f"/proc/{hub.pid}/task/{hub.pid}/children").read_text().split()}


async def test_a_worker(tmp_path: Path, figure: Callable[..., None]) -> None:
    """Only what it had in hand is lost; the other worker goes on, and there are two again."""
    pytest.importorskip("gunicorn")
    async with (
        standin_process(tmp_path, PACE) as upstream,
        hub_process(tmp_path, workers=2, backends__one__url=upstream.url) as hub,
    ):
        await until(lambda: len(workers_of(hub)) == 2, lambda: workers_of(hub), SOON_S)
        async with under_load(hub.url, KINDS, CLIENTS) as load:
            await answered(load, 100)
            victim = min(workers_of(hub))
            killed_at = time.time()
            os.kill(victim, signal.SIGKILL)
            await until(lambda: victim not in workers_of(hub), lambda: workers_of(hub), SOON_S)
            gone_at = time.time()
            await until(lambda: len(workers_of(hub)) == 2, lambda: workers_of(hub), SOON_S)
            back_s = time.time() - killed_at
            await answered(load, 200)
    wrong = unaccounted(load.seen, hub.outcomes())
    # Of what it had in hand, or had answered just before, it wrote no line.
    hit = {id_ for id_, (begin, end) in load.times.items() if begin < gone_at and killed_at < end + 1}
    assert wrong.keys() <= hit
    assert {tuple(outcomes) for _, outcomes in wrong.values()} <= {()}
    lost = [id_ for id_, saw in load.seen.items() if saw == "lost"]
    assert {id_ for id_, _ in load.strange} == set(lost) <= set(wrong)
    figure("worker killed", replaced_after_s=back_s, **seen(load))


async def test_redis(tmp_path: Path, redis_server: RedisServer, figure: Callable[..., None]) -> None:
    """No request notices more than a delay; answers are shared again when it is back."""
    raise_limits()
    settings = {"caching__backend": "redis", "caching__url": redis_server.url}
    async with (
        standin_process(tmp_path, PACE) as upstream,
        hub_process(tmp_path, backends__one__url=upstream.url, **settings) as hub,
        under_load(hub.url, KINDS, CLIENTS) as load,
    ):
        await answered(load, 100)
        await redis_server.kill()
        killed_at = time.time()
        await answered(load, 100)
        await redis_server.start()
        began_at = time.time()
        async with redis_server.client() as client, asyncio.timeout(SOON_S):
            while not await client.dbsize():  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
        back_s = time.time() - began_at
        await answered(load, 100)
    assert seen(load) == {"answered": len(load.seen)}, load.strange[:5]
    assert not (wrong := unaccounted(load.seen, hub.outcomes())), list(wrong.items())[:5]
    before, after = (
        [end - begin for begin, end in ends(load) if (begin > killed_at) == is_after] for is_after in (0, 1)
    )
    figure(
        "redis killed",
        used_again_s=back_s,
        before_s=before,
        after_s=after,
        **seen(load),
    )


async def test_a_reload(tmp_path: Path, figure: Callable[..., None]) -> None:
    """SIGHUP under load, again and again: nothing is lost, nothing fails."""
    async with (
        standin_process(tmp_path, PACE) as upstream,
        hub_process(tmp_path, backends__one__url=upstream.url) as hub,
        under_load(hub.url, KINDS, CLIENTS) as load,
    ):
        for number in range(1, RELOADS + 1):
            await answered(load, 20)
            os.kill(hub.pid, signal.SIGHUP)
            await until(lambda number=number: len(events(hub, "agenthub.reloaded")) == number, hub.lines, SOON_S)  # type: ignore[misc]
        await answered(load, 20)
    assert seen(load) == {"answered": len(load.seen)}, load.strange[:5]
    assert not (wrong := unaccounted(load.seen, hub.outcomes())), list(wrong.items())[:5]
    figure("reloaded under load", reloads=RELOADS, **seen(load))


async def test_a_stop(tmp_path: Path, figure: Callable[..., None]) -> None:
    """SIGTERM under load: what was accepted is answered; who comes later is turned away, and has no line in the log."""
    async with (
        standin_process(tmp_path, PACE) as upstream,
        hub_process(tmp_path, backends__one__url=upstream.url) as hub,
        under_load(hub.url, KINDS, CLIENTS) as load,
    ):
        await answered(load, 100)
        os.kill(hub.pid, signal.SIGTERM)
        await until(lambda: bool(events(hub, "agenthub.stopped")), hub.lines, SOON_S)
        await load.stop()
    turned_away = {id_ for id_, got in load.strange if isinstance(got, Got) and got.status == 0}
    assert turned_away == {id_ for id_, saw in load.seen.items() if saw == "lost"}
    accepted = {id_: saw for id_, saw in load.seen.items() if id_ not in turned_away}
    assert set(accepted.values()) == {"answered"}
    assert not (wrong := unaccounted(accepted, hub.outcomes())), list(wrong.items())[:5]
    figure("stopped under load", answered=len(accepted))
