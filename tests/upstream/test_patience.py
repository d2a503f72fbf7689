"""Patience: silence ends in TimeoutError, data and other people's waiting do not."""

from __future__ import annotations

import asyncio

import pytest

from agenthub.upstream.patience import Patience

pytestmark = pytest.mark.usefixtures("fast_clock")

SHORT, LONG = 0.02, 30.0


async def test_silence_ends_in_a_time_out() -> None:
    """Of the wait for the first event, and of the shorter one between events."""
    with pytest.raises(TimeoutError):
        await wait_long(SHORT)
    with pytest.raises(TimeoutError):
        await wait_long(LONG, then=SHORT)


async def wait_long(limit_s: float, then: float | None = None) -> None:
    with Patience(limit_s, asyncio.get_running_loop()) as patience:
        if then is not None:
            patience.pause()
            patience.resume(then)
        await asyncio.sleep(LONG)


async def test_data_in_time_begins_the_count_anew() -> None:
    """However long it takes in all."""
    with Patience(1.0, asyncio.get_running_loop()) as patience:
        for _ in range(8):
            await asyncio.sleep(0.15)
            patience.pause()
            patience.resume(1.0)


async def test_while_paused_nothing_counts() -> None:
    """A slow client is not a silent upstream; nor does a limit of 0 end anything."""
    with Patience(SHORT, asyncio.get_running_loop()) as patience:
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
