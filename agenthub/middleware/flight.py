"""Single flight: one answer of an upstream, read by all who ask the same while it is under way.

A task of its own, the pump, owns the rest of the chain. What a reader has not yet taken waits for it; while much waits
for each, the pump rests: so a slow client slows its upstream, but no other client.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import aclosing
from itertools import chain
from types import TracebackType

import attrs

from agenthub.canonical import Batch, Finished, RawFrames
from agenthub.errors import AgentHubError, BackendUnavailable, LeftBehind
from agenthub.middleware import Dispatch, Handler
from agenthub.middleware.bell import Bell
from agenthub.middleware.cache_entry import Entry, Recording

AHEAD_BYTES = 64 * 2**10
"""How much may wait for the fastest reader before the pump rests, as an estimate in memory."""
LAG_BYTES = 16 * 2**20
"""How much more may wait for a reader than for the fastest of its flight."""


@attrs.define(eq=False)
class Reader:
    """One client of a flight. ``pending`` is what waits for it."""

    flight: Flight
    dispatch: Dispatch
    pending: list[Batch] = attrs.field(factory=list, repr=False)
    pending_bytes: int = 0
    is_left_behind: bool = False
    bell: Bell = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.bell = Bell(self.flight.loop)

    async def take(self) -> Batch | None:
        """Return all that came since the last time as one batch, None after the end; raise what the chain raised."""
        flight = self.flight
        while not self.pending:
            if self.is_left_behind:
                raise LeftBehind(f"the client is more than {LAG_BYTES} bytes behind others who read the same answer")
            if flight.is_over:
                if flight.error is None:
                    return None
                self._share()
                raise _own(flight.error, flight.trace)
            await self.bell.wait()
        if self.dispatch.asked_at is None:
            self._share()
        batch = self.pending[0] if len(self.pending) == 1 else tuple(chain.from_iterable(self.pending))
        self.pending.clear()
        self.pending_bytes = 0
        flight.bell.ring()
        return batch

    def give(self, batch: Batch, size_bytes: int) -> None:
        """Lay a batch ready."""
        self.pending.append(batch)
        self.pending_bytes += size_bytes
        self.bell.ring()

    def _share(self) -> None:
        """Tell of the dispatch that its answer is the leader's."""
        dispatch, led = self.dispatch, self.flight.dispatch
        if dispatch is led:
            return
        if led.adapter is not None and led.adapter is not dispatch.adapter:
            dispatch.losses = led.adapter.losses(dispatch.request)
        dispatch.backend, dispatch.adapter, dispatch.api_mode = led.backend, led.adapter, led.api_mode
        if led.asked_at is not None:
            dispatch.asked_at = max(led.asked_at, dispatch.started_at)

    async def leave(self) -> None:
        """Read no more. The last one who leaves stops the pump, and returns when the chain is closed."""
        await self.flight.leave(self)


@attrs.define(eq=False)
class Flight:
    """An answer under way. ``finished`` is told what to keep when the end came, before any reader has the end.

    The leader, whose dispatch it is, gets the batches as they come, raw frames included; those who join it get what is
    kept of them, and all that came before first.
    """

    dispatch: Dispatch
    handler: Handler
    recording: Recording
    finished: Callable[[Entry], Awaitable[None]]
    loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.get_running_loop)
    readers: list[Reader] = attrs.field(factory=list)
    error: Exception | None = None
    trace: TracebackType | None = None
    is_over: bool = False
    task: asyncio.Task[None] = attrs.field(init=False)
    _is_keeping: bool = False
    _is_closed: bool = False
    bell: Bell = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.bell = Bell(self.loop)
        # Known as the first reader only: with a name of its own it would be garbage that nobody but a collector finds.
        self.readers.append(Reader(self, self.dispatch))
        self.task = self.loop.create_task(self._run())

    @property
    def is_joinable(self) -> bool:
        """True as long as one who joins gets all of it: not once too much came, nor once the end is on its way."""
        return not (self._is_closed or self.is_over or self.recording.is_given_up)

    def join(self, dispatch: Dispatch) -> Reader:
        """Return a reader that gets the answer from the start."""
        reader = Reader(self, dispatch, list(self.recording.batches), self.recording.size_bytes)
        self.readers.append(reader)
        return reader

    async def leave(self, reader: Reader) -> None:
        """Forget a reader, see there."""
        if reader in self.readers:
            self.readers.remove(reader)
        if self.readers:
            return
        if self.is_over:
            if isinstance(self.error, AgentHubError):
                # Its traceback knows the pump, and so this flight: they would keep each other.
                self.error.__traceback__ = self.trace = None
            return
        self._is_closed = True
        if not self._is_keeping:
            self.task.cancel()
        await asyncio.wait([self.task])

    async def _run(self) -> None:
        try:
            async with aclosing(self.handler(self.dispatch)) as batches:
                await self._pump(batches)
        except asyncio.CancelledError:
            self._end(BackendUnavailable("the answer was stopped", retry_after_s=1.0))
            raise
        except Exception as error:
            self._end(error)
        else:
            self._end(None)

    async def _pump(self, batches: AsyncGenerator[Batch, None]) -> None:
        async for batch in batches:
            kept, size_bytes = self.recording.add(batch, self.dispatch.losses)
            if type(batch[-1]) is Finished:
                await self._keep()
            self._publish(batch, kept, size_bytes)
            # After the end there is nothing more to come that could be too much.
            while self._is_ahead and not self._is_closed:
                await self.bell.wait()
            if not self.readers:
                return

    async def _keep(self) -> None:
        if self.recording.is_finished:
            self._is_keeping = True
            await self.finished(self.recording.entry())
            self._is_keeping = False
        self._is_closed = True

    @property
    def _is_ahead(self) -> bool:
        """True while much waits for each reader: there is no need for more."""
        for reader in self.readers:
            if reader.pending_bytes <= AHEAD_BYTES:
                return False
        return bool(self.readers)

    def _publish(self, batch: Batch, kept: Batch, size_bytes: int) -> None:
        most = 0
        for reader in self.readers:
            if reader.dispatch is self.dispatch:
                reader.give(batch, size_bytes + sum([len(event.data) for event in batch if type(event) is RawFrames]))
            elif kept:
                reader.give(kept, size_bytes)
            most = max(most, reader.pending_bytes)
        if most > LAG_BYTES:
            self._leave_behind()

    def _leave_behind(self) -> None:
        """Give up those who are too far behind the fastest; so never the only one, nor one that waits for one batch."""
        most = min([reader.pending_bytes for reader in self.readers]) + LAG_BYTES
        for reader in [reader for reader in self.readers if reader.pending_bytes > most and len(reader.pending) > 1]:
            self.readers.remove(reader)
            reader.is_left_behind = True
            reader.pending.clear()

    def _end(self, error: Exception | None) -> None:
        self.is_over, self.error = True, error
        self.trace = error.__traceback__ if error is not None else None
        self.recording.release()
        for reader in self.readers:
            reader.bell.ring()


@attrs.define
class Flights:
    """Those under way, by what makes requests alike."""

    _joinable: dict[Hashable, Flight] = attrs.field(factory=dict)
    _all: set[Flight] = attrs.field(factory=set)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._all)

    def find(self, keys: Iterable[Hashable]) -> Flight | None:
        """Return the first that can be joined."""
        for key in keys:
            flight = self._joinable.get(key)
            if flight is not None and flight.is_joinable:
                return flight
        return None

    def add(self, key: Hashable, flight: Flight) -> None:
        """Know a flight until it ends; of several with one key only the last can be joined."""
        self._joinable[key] = flight
        self._all.add(flight)

        def forget(task: object) -> None:
            self._all.discard(flight)
            if self._joinable.get(key) is flight:
                del self._joinable[key]

        flight.task.add_done_callback(forget)

    def stop(self) -> None:
        """Stop all; readers that there still are get an error."""
        for flight in self._all:
            flight.task.cancel()


def _own(error: Exception, trace: TracebackType | None) -> Exception:
    """Return an error for one more reader; the same one raised again and again would grow its traceback."""
    if not isinstance(error, AgentHubError):
        return error.with_traceback(trace)
    twin = type(error).__new__(type(error), *error.args)
    twin.__dict__.update(error.__dict__)
    twin.__cause__ = error
    return twin
