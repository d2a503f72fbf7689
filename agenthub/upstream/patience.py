"""How long to wait for an upstream: a time-out that costs next to nothing while data keeps coming."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

import attrs


@attrs.define
class Patience:
    """Turns the wait inside its block into TimeoutError once it has lasted ``limit_s`` seconds; 0: never.

    ``pause`` and ``resume`` stop and start the count, which begins anew with each. ``asyncio.timeout`` would make and
    drop a timer for each batch of a stream; here one timer looks at the clock when it rings, and sets itself again.
    The loop is given, since to ask for the running one is a system call before Python 3.12.
    """

    limit_s: float
    loop: asyncio.AbstractEventLoop
    _since: float | None = None
    _timer: asyncio.TimerHandle | None = None
    _task: asyncio.Task[object] | None = None
    _cancelling: int = 0
    _expired: bool = False

    def __enter__(self) -> Self:
        self._task = asyncio.current_task(self.loop)
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        self.resume(self.limit_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # As in asyncio.timeout: a cancellation that came from elsewhere at the same time stays one.
        alone = self._expired and self._task is not None and self._task.uncancel() <= self._cancelling
        if alone and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def pause(self) -> None:
        """Somebody else is waited for."""
        self._since = None

    def resume(self, limit_s: float) -> None:
        """The upstream is waited for, from now on for ``limit_s`` at the longest."""
        self.limit_s = limit_s
        now = self._since = self.loop.time()
        if limit_s and (self._timer is None or now + limit_s < self._timer.when()):
            self._set(now + limit_s)

    def _set(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._since is None or not self.limit_s:
            # resume() sets the timer again.
            return
        deadline = self._since + self.limit_s
        if self.loop.time() < deadline:
            self._set(deadline)
        elif self._task is not None:
            self._expired = True
            self._task.cancel()
