"""Body budget: how much memory the bodies of all requests may take together, and who waits for a part of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import attrs

from agenthub.errors import HubBusy, TooLarge
from agenthub.settings import ProtectionSettings

FREE_BYTES = 2**16
"""A body up to this size is not counted, so that ordinary requests pass whatever others send."""
_SLOW_S = 5.0
_SLOW_BYTES = 2**16
"""While others wait, a body must go on by so much in that time, or be whole."""
_WATCH_S = 1.0
BUSY = "the hub holds as many request bodies as it may at the moment"
TOO_LARGE = "http: request body too large"


@attrs.define(eq=False)
class Share:
    """What one body takes of the budget, from its first bytes until it is given back. ``clock`` is its loop's.

    While others wait, a body whose client sends next to nothing is broken off (``is_broken_off``): the read that is
    under way, or else the next one, ends in a TimeoutError.
    """

    budget: BodyBudget = attrs.field(repr=False)
    clock: Callable[[], float] = attrs.field(repr=False)
    size: int = 0
    is_broken_off: bool = False
    _limit: asyncio.Timeout | None = None
    _moved_at: float = 0.0
    _moved_bytes: int = 0

    async def grow(self, size: int) -> None:
        """Have ``size`` bytes in all; raise HubBusy, or TooLarge for what the budget could never give."""
        if size > self.size:
            await self.budget.take(self, size)

    def begin(self) -> None:
        """Note that the client sends from now on."""
        self._moved_at = self.clock()
        self.budget.reading.add(self)

    def came(self, received: int) -> None:
        """Note that so many bytes are here."""
        if received - self._moved_bytes >= _SLOW_BYTES:
            self._moved_at, self._moved_bytes = self.clock(), received

    def end_reading(self) -> None:
        """Note that all of the body is here."""
        self.budget.reading.discard(self)

    @property
    def is_slow(self) -> bool:
        """True where the client keeps memory and sends next to nothing."""
        return self.size > 0 and self.clock() - self._moved_at >= _SLOW_S

    def break_off(self) -> None:
        """End the read that is under way, or the next one."""
        self.is_broken_off = True
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(0.0)

    @contextmanager
    def reading_within(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Let ``break_off`` end what the block waits for; it waits within ``limit``."""
        self._limit = limit
        if self.is_broken_off:
            limit.reschedule(0.0)
        try:
            yield
        finally:
            self._limit = None

    def give_back(self, ended: object = None) -> None:
        """Give it all back; does nothing the second time. ``ended`` is the task that read it, where that has ended."""
        self.budget.put_back(self)


@attrs.define(eq=False)
class BodyBudget:
    """Memory that bodies share.

    A body waits only while it holds nothing, so that no two wait for each other's parts: it asks for all that its head
    announces at once. One that has begun and finds no room for more is refused.
    """

    settings: ProtectionSettings
    held_bytes: int = 0
    reading: set[Share] = attrs.field(factory=set, repr=False)
    """Those whose clients still send."""
    _waiting: dict[asyncio.Future[None], tuple[Share, int]] = attrs.field(factory=dict, repr=False)
    _watch: asyncio.TimerHandle | None = None
    _turn: asyncio.Lock = attrs.field(factory=asyncio.Lock, repr=False)

    @property
    def waiting(self) -> int:
        """How many bodies wait."""
        return len(self._waiting)

    def adapt(self, settings: ProtectionSettings) -> None:
        """Go by other settings from now on; what is held stays."""
        self.settings = settings
        self._hand_out()

    async def take(self, share: Share, size: int) -> None:
        """Give ``share`` ``size`` bytes in all, as soon as there is room."""
        most = self.settings.max_bodies_bytes
        if 0 < most < size:
            raise TooLarge(TOO_LARGE)
        if self._has_room(size - share.size):
            self._charge(share, size)
        elif share.size:
            raise HubBusy(BUSY)
        else:
            await self._wait(share, size)

    def _has_room(self, more: int) -> bool:
        most = self.settings.max_bodies_bytes
        return not most or self.held_bytes + more <= most

    def _charge(self, share: Share, size: int) -> None:
        self.held_bytes += size - share.size
        share.size = size

    async def _wait(self, share: Share, size: int) -> None:
        granted = asyncio.get_running_loop().create_future()
        self._waiting[granted] = share, size
        self._look()
        try:
            async with asyncio.timeout(self.settings.bodies_timeout_s or None):
                await granted
        except TimeoutError:
            if not share.size:
                raise HubBusy(BUSY) from None
        finally:
            self._waiting.pop(granted, None)

    def put_back(self, share: Share) -> None:
        """Take back what ``share`` holds."""
        self.reading.discard(share)
        self.held_bytes -= share.size
        share.size = 0
        if self._waiting:
            self._hand_out()

    def _hand_out(self) -> None:
        # The smallest first, so that large bodies, which few clients need, do not hold up the rest.
        for granted, (share, size) in sorted(self._waiting.items(), key=lambda waiting: waiting[1][1]):
            if not granted.done() and self._has_room(size):
                self._charge(share, size)
                granted.set_result(None)

    def _look(self) -> None:
        """Break off those that come too slowly, now and each second, for as long as anybody waits."""
        if self._watch is None and self._waiting:
            for share in [share for share in self.reading if share.is_slow]:
                share.break_off()
            self._watch = asyncio.get_running_loop().call_later(_WATCH_S, self._look_again)

    def _look_again(self) -> None:
        self._watch = None
        self._look()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Unpack one large body at a time; raise HubBusy where it takes too long until it is this one's turn."""
        try:
            async with asyncio.timeout(self.settings.bodies_timeout_s or None):
                await self._turn.acquire()
        except TimeoutError:
            raise HubBusy(BUSY) from None
        try:
            yield
        finally:
            self._turn.release()
