"""What clients have used of their limits: the contract of whatever counts, and the one that counts in memory."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs

_WINDOW_S = 60.0

REFUSED = ""
"""What ``enter`` returns in the place of a ticket where there is no place."""


@attrs.frozen
class Verdict:
    """Whether a request is within its client's ``limit`` a minute, and how many more would be now.

    ``reset_s`` is when the oldest of the counted requests ceases to count: a refused one may be sent again then.
    """

    is_allowed: bool
    limit: int
    remaining: int
    reset_s: float


class Quotas(Protocol):
    """Counts what clients use, here or where several processes see it. Methods raise nothing, whatever is broken.

    A refused request is not counted. Each ticket of ``enter`` is given to ``leave`` exactly once; ``leave`` does not
    wait, since it is called while a request is being cancelled.
    """

    async def hit(self, client: str, per_minute: int) -> Verdict: ...

    async def enter(self, client: str, places: int) -> str:
        """Return a ticket for one of the ``places``, or REFUSED."""

    def leave(self, client: str, ticket: str) -> None: ...

    async def look(self, client: str, per_minute: int) -> Verdict:
        """Return what ``hit`` would at this moment, by what this process knows, and count nothing."""

    def is_full(self, client: str, places: int) -> bool:
        """Say whether ``enter`` would refuse, by what this process knows."""

    def close(self) -> None:
        """The hub ends; no request is under way."""


@attrs.define
class MemoryQuotas:
    """Counts in this process: requests in a moving window, so that no minute ever holds more than the limit.

    ``clock`` gives monotonic seconds. What a request costs does not grow with the number of those in the window, which
    the library that counts in Redis goes through.
    """

    clock: Callable[[], float] = time.monotonic
    _windows: defaultdict[str, deque[float]] = attrs.field(factory=lambda: defaultdict(deque))
    _inside: Counter[str] = attrs.field(factory=Counter)

    async def hit(self, client: str, per_minute: int) -> Verdict:
        now = self.clock()
        window = self._window(client, now)
        if is_allowed := len(window) < per_minute:
            window.append(now)
        return _verdict(window, now, per_minute, is_allowed=is_allowed)

    async def look(self, client: str, per_minute: int) -> Verdict:
        now = self.clock()
        window = self._window(client, now)
        return _verdict(window, now, per_minute, is_allowed=len(window) < per_minute)

    def _window(self, client: str, now: float) -> deque[float]:
        window = self._windows[client]
        while window and now - window[0] >= _WINDOW_S:
            window.popleft()
        return window

    def is_full(self, client: str, places: int) -> bool:
        return self._inside[client] >= places

    async def enter(self, client: str, places: int) -> str:
        if self._inside[client] >= places:
            return REFUSED
        self._inside[client] += 1
        return client

    def leave(self, client: str, ticket: str) -> None:
        self._inside[client] -= 1

    def close(self) -> None:
        pass  # nothing is open


def _verdict(window: Sequence[float], now: float, per_minute: int, *, is_allowed: bool) -> Verdict:
    reset_s = window[0] + _WINDOW_S - now if window else 0.0
    return Verdict(is_allowed, per_minute, max(per_minute - len(window), 0), reset_s)
