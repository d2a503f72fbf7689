"""Waits in a tenth of the time: while nothing happens in a test's event loop, its clock runs ten times as fast.

A busy machine brings no time-out nearer, since no time is added while there is anything to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from selectors import BaseSelector, SelectorKey
from typing import Any

import attrs

_SPEED = 10
_LOOK_S = 0.005
"""No more is waited at once: what the kernel of a busy machine delivers late still comes before a time-out."""


@attrs.define
class _Clock:
    """Stands in front of the loop's selector, and adds to the loop's time what it waited in vain, times nine."""

    selector: BaseSelector
    jobs: int = 0
    """While threads do something for the loop, time is what it is."""
    ahead_s: float = 0.0

    def time(self) -> float:
        return time.monotonic() + self.ahead_s

    def select(self, timeout: float | None = None) -> Sequence[tuple[SelectorKey, int]]:
        if timeout is None or timeout <= 0 or self.jobs:
            return self.selector.select(timeout)
        wait_s = min(timeout / _SPEED, _LOOK_S)
        ready = self.selector.select(wait_s)
        if not ready:
            self.ahead_s += wait_s * (_SPEED - 1)
        return ready

    def __getattr__(self, name: str) -> Any:
        return getattr(self.selector, name)


def speed_up() -> None:
    """Have the running loop's clock run fast, to the end of the test.

    For tests whose servers and clients all live in this loop: another process has its own clock.
    """
    loop: Any = asyncio.get_running_loop()
    clock = loop._selector = _Clock(loop._selector)
    run_in_executor = loop.run_in_executor

    def run(*arguments: Any) -> asyncio.Future[Any]:
        clock.jobs += 1
        job: asyncio.Future[Any] = run_in_executor(*arguments)
        job.add_done_callback(lambda _: setattr(clock, "jobs", clock.jobs - 1))
        return job

    loop.time, loop.run_in_executor = clock.time, run
