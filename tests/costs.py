"""How the cost of a call grows with its input, in a way that a busy machine does not disturb."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

TIMES = 4
"""How much larger the larger input is: what is linear costs 4 times as much, what is quadratic 16 times."""
MOST = 9.0
_ROUNDS = 20
_SLACK_S = 0.0005


def assert_linear(make: Callable[[int], T], call: Callable[[T], object], size: int) -> None:
    """Fail unless ``call`` costs no more than in proportion: of several tries of each size the cheapest counts.

    ``size`` is to be so large that the call takes about a millisecond. Time is that of this thread's CPU.
    """
    small, large = make(size), make(TIMES * size)
    costs = [float("inf"), float("inf")]
    for _ in range(_ROUNDS):
        for number, value in enumerate((small, large)):
            costs[number] = min(costs[number], _cost(call, value))
        if costs[1] < MOST * max(costs[0], _SLACK_S):
            return
    raise AssertionError(_complaint(costs, size))


async def assert_linear_async(call: Callable[[int], Awaitable[object]], size: int) -> None:
    """Fail unless what the loop's thread does for ``call`` grows with ``size`` no more than in proportion."""
    costs = [float("inf"), float("inf")]
    for _ in range(_ROUNDS):
        for number, units in enumerate((size, TIMES * size)):
            started = time.thread_time()
            await call(units)
            costs[number] = min(costs[number], time.thread_time() - started)
        if costs[1] < MOST * max(costs[0], _SLACK_S):
            return
    raise AssertionError(_complaint(costs, size))


def _cost(call: Callable[[T], object], value: T) -> float:
    gc.disable()
    try:
        started = time.thread_time()
        call(value)
        return time.thread_time() - started
    finally:
        gc.enable()


def _complaint(costs: list[float], size: int) -> str:
    small, large = costs
    return (
        f"{size} units cost {small * 1e3:.2f} ms, {TIMES} times as many {large * 1e3:.2f} ms: {large / small:.1f} times"
    )
