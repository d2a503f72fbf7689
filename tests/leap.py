"""Waits that take no time: a test's event loop goes on to its next timer as soon as nothing else is left to do.

Also makes such a test independent of the machine's load: while anything is under way, no time-out comes nearer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from selectors import BaseSelector, SelectorKey
from typing import Any

import attrs

_IN_FLIGHT_S = 0.002
"""How long the kernel may take to hand over what one socket of this process has sent to another."""


@attrs.define
class _Leaps:
    """Stands in front of the loop's selector: instead of waiting it adds the time to the clock."""

    selector: BaseSelector
    jobs: int = 0
    """What threads do for the loop takes the time that it takes."""
    skipped_s: float = 0.0

    def time(self) -> float:
        return time.monotonic() + self.skipped_s

    def select(self, timeout: float | None = None) -> Sequence[tuple[SelectorKey, int]]:
        if timeout is None or timeout <= _IN_FLIGHT_S or self.jobs:
            return self.selector.select(timeout)
        started = time.monotonic()
        ready = self.selector.select(_IN_FLIGHT_S)
        if not ready:
            self.skipped_s += timeout - (time.monotonic() - started)
        return ready

    def __getattr__(self, name: str) -> Any:
        return getattr(self.selector, name)


def leap() -> Callable[[], float]:
    """Have the running loop wait no longer, to the end of the test; return its clock.

    For tests whose servers and clients all live in this loop: what another process does, nobody would wait for.
    """
    loop: Any = asyncio.get_running_loop()
    leaps = loop._selector = _Leaps(loop._selector)
    run_in_executor = loop.run_in_executor

    def run(*arguments: Any) -> asyncio.Future[Any]:
        leaps.jobs += 1
        job: asyncio.Future[Any] = run_in_executor(*arguments)
        job.add_done_callback(lambda _: setattr(leaps, "jobs", leaps.jobs - 1))
        return job

    loop.time, loop.run_in_executor = leaps.time, run
    return leaps.time
