"""Places at a backend: how many requests it is asked at once, and the line of those that wait for one."""

from __future__ import annotations

import asyncio
from collections import deque

import attrs

from agenthub.errors import BackendUnavailable
from agenthub.settings import BackendSettings

_RETRY_AFTER_S = 1.0


@attrs.define(eq=False)
class Slots:
    """Up to ``settings.max_concurrency`` requests run at once (0: any number); who comes first is served first.

    ``take`` or ``wait`` before a request, then ``give_back`` exactly once.
    """

    name: str
    settings: BackendSettings
    in_flight: int = 0
    _waiting: deque[asyncio.Future[None]] = attrs.field(factory=deque, repr=False)

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """True where a request that came now would have to wait."""
        return 0 < self.settings.max_concurrency <= self.in_flight

    def take(self) -> bool:
        """Take a place if there is one; nobody jumps the line, since places that become free go to it."""
        if self.is_full:
            return False
        self.in_flight += 1
        return True

    def refusal(self) -> BackendUnavailable | None:
        """Return what ``wait`` would raise at this moment; None where there is a place, or one in the line."""
        if self.is_full and len(self._waiting) >= self.settings.queue_size:
            return self._refusal("its queue is full")
        return None

    async def wait(self) -> None:
        """Stand in line for a place; raise BackendUnavailable where the line is full, or after ``queue_timeout_s``."""
        if self.take():
            return
        if (refusal := self.refusal()) is not None:
            raise refusal
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(self.settings.queue_timeout_s or None):
                await place
        except BaseException as error:
            if not place.cancelled():
                # It was handed over in the very moment in which it was given up.
                self.give_back()
            elif place in self._waiting:
                self._waiting.remove(place)
            if isinstance(error, TimeoutError):
                raise self._refusal(f"no place in {self.settings.queue_timeout_s:g} s") from None
            raise

    def give_back(self) -> None:
        """End a request: its place goes to the first in line."""
        self.in_flight -= 1
        self._hand_out()

    def adapt(self, settings: BackendSettings) -> None:
        """Go by other settings from now on: what runs counts, and what more there is room for begins."""
        self.settings = settings
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and not self.is_full:
            place = self._waiting.popleft()
            if not place.done():
                self.in_flight += 1
                place.set_result(None)

    def _refusal(self, why: str) -> BackendUnavailable:
        return BackendUnavailable(f"backend {self.name} is busy: {why}", retry_after_s=_RETRY_AFTER_S)
