"""How long to wait for an upstream: a time-out that costs next to nothing while data keeps coming."""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Self

import attrs


@attrs.define(eq=False)
class Patience:
    """Turns the wait inside its block into TimeoutError once it has lasted ``limit_s`` seconds; 0: never.

    ``pause`` and ``resume`` stop and start the count, which begins anew with each. ``asyncio.timeout`` would make and
    drop a timer for each batch of a stream; here all waits for one upstream share the timer of their ``watch``.
    """

    limit_s: float
    watch: Watch
    deadline: float = math.inf
    _task: asyncio.Task[object] | None = None
    _cancelling: int = 0
    _expired: bool = False

    def __enter__(self) -> Self:
        self._task = asyncio.current_task(self.watch.loop)
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        self.watch.waits.add(self)
        self.resume(self.limit_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.watch.waits.discard(self)
        # As in asyncio.timeout: a cancellation that came from elsewhere at the same time stays one.
        alone = self._expired and self._task is not None and self._task.uncancel() <= self._cancelling
        if alone and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def pause(self) -> None:
        """Somebody else is waited for."""
        self.deadline = math.inf

    def resume(self, limit_s: float) -> None:
        """The upstream is waited for, from now on for ``limit_s`` at the longest."""
        self.limit_s = limit_s
        self.deadline = self.watch.loop.time() + limit_s if limit_s else math.inf
        if self.deadline < self.watch.rings_at:
            self.watch.set(self.deadline)

    def expire(self) -> None:
        """It has lasted too long."""
        self.deadline = math.inf
        if self._task is not None:
            self._expired = True
            self._task.cancel()


@attrs.define(eq=False)
class Watch:
    """The timer of all waits for one upstream. It rings when the first might be over, and looks which are.

    The loop is given, since to ask for the running one is a system call before Python 3.12.
    """

    loop: asyncio.AbstractEventLoop
    waits: set[Patience] = attrs.field(factory=set, repr=False)
    rings_at: float = math.inf
    _timer: asyncio.TimerHandle | None = None

    def set(self, when: float) -> None:
        """Ring at a time of the loop's, which is before the one that it is set for."""
        self.close()
        self.rings_at, self._timer = when, self.loop.call_at(when, self._ring)

    def close(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
        self.rings_at, self._timer = math.inf, None

    def _ring(self) -> None:
        self.rings_at, self._timer = math.inf, None
        now = self.loop.time()
        for patience in [patience for patience in self.waits if patience.deadline <= now]:
            patience.expire()
        if (first := min([patience.deadline for patience in self.waits], default=math.inf)) < math.inf:
            self.set(first)
