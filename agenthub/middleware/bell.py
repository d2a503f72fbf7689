"""How one task tells another to look again."""

from __future__ import annotations

import asyncio

import attrs


@attrs.define
class Bell:
    """Wakes the one task that waits for it; to ring when none does is nothing, so look before you wait."""

    loop: asyncio.AbstractEventLoop
    _waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake it."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Return when it rings."""
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
