"""Patience: silence ends in TimeoutError, data and other people's waiting do not."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from agenthub.upstream.patience import Patience, Watch

pytestmark = pytest.mark.usefixtures("fast_clock")

SHORT, LONG = 0.02, 30.0


def watch() -> Watch:
    return Watch(asyncio.get_running_loop())


async def test_silence_ends_in_a_time_out() -> None:
    """Of the wait for the first event, and of the shorter one between events."""
    with pytest.raises(TimeoutError):
        await wait_long(SHORT)
    with pytest.raises(TimeoutError):
        await wait_long(LONG, then=SHORT)


async def wait_long(limit_s: float, then: float | None = None) -> None:
    with Patience(limit_s, watch()) as patience:
        if then is not None:
            patience.pause()
            patience.resume(then)
        await asyncio.sleep(LONG)


async def test_data_in_time_begins_the_count_anew() -> None:
    """However long it takes in all."""
    with Patience(1.0, watch()) as patience:
        for _ in range(8):
            await asyncio.sleep(0.15)
            patience.pause()
            patience.resume(1.0)


async def test_while_paused_nothing_counts() -> None:
    """A slow client is not a silent upstream; nor does a limit of 0 end anything."""
    with Patience(SHORT, watch()) as patience:
        patience.pause()
        await asyncio.sleep(5 * SHORT)
        patience.resume(0)
        await asyncio.sleep(5 * SHORT)


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    """It is not turned into a time-out."""
    task = asyncio.create_task(wait_long(LONG))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_task_can_be_used_after_a_time_out() -> None:
    """The cancellation that made it is taken back."""
    with pytest.raises(TimeoutError):
        await wait_long(SHORT)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_each_wait_ends_in_its_own_time() -> None:
    """Though they share a timer, whichever began first, and whatever became of the others."""
    shared, ended = watch(), list[float]()

    async def wait(limit_s: float, lasts_s: float) -> None:
        try:
            with Patience(limit_s, shared):
                await asyncio.sleep(lasts_s)
        except TimeoutError:
            ended.append(limit_s)

    limits_s = [0.6, 0.2, 0.4, 0.3, 0.5]
    await asyncio.gather(*[wait(limit_s, LONG) for limit_s in limits_s], wait(0.1, 0.05), wait(0.0, 1.0))
    assert ended == sorted(limits_s)
    assert not shared.waits
    assert shared.rings_at == math.inf


async def test_one_timer_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is set again when it rings, not for each wait or each piece of data."""
    shared, loop, times = watch(), asyncio.get_running_loop(), list[float]()
    call_at = loop.call_at

    def noted(when: float, *arguments: Any) -> asyncio.TimerHandle:
        times.append(when)
        return call_at(when, *arguments)

    monkeypatch.setattr(loop, "call_at", noted)
    for _ in range(100):
        with Patience(LONG, shared) as patience:
            for _ in range(10):
                patience.pause()
                patience.resume(LONG)
    assert len(times) == 1
    shared.close()


async def test_a_shorter_wait_behind_a_longer_one() -> None:
    """Rings before it."""
    shared = watch()
    with Patience(LONG, shared), pytest.raises(TimeoutError), Patience(SHORT, shared):
        await asyncio.sleep(LONG)
    assert shared.rings_at < math.inf
    shared.close()
    assert shared.rings_at == math.inf
