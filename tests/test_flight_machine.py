"""A flight against a simple model of it: whoever joins, reads, leaves, and whatever the upstream does, in any order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from agenthub.canonical import Batch, ChatRequest, Finished, RawFrames, Started, TextDelta, Usage
from agenthub.errors import LeftBehind, UpstreamStatus
from agenthub.middleware import Caller, Dispatch, flight
from agenthub.middleware.cache_entry import Entry, Recording, Room, size_of
from agenthub.middleware.flight import Flight, Reader

AHEAD, LAG, LARGEST = 2_000, 4_000, 3_000
"""Bounds, in bytes of the estimate, that a few batches of up to ``LARGEST`` reach."""


@attrs.define
class Upstream:
    """The rest of the chain: gives what it is told, and knows how it ended."""

    said: asyncio.Queue[Batch | Exception | None] = attrs.field(factory=asyncio.Queue)
    taken: int = 0
    is_closed: bool = False

    async def handler(self, dispatch: Dispatch) -> AsyncGenerator[Batch, None]:
        try:
            while (batch := await self.said.get()) is not None:
                if isinstance(batch, Exception):
                    raise batch
                self.taken += 1
                yield batch
        finally:
            self.is_closed = True


@attrs.define(eq=False)
class Client:
    """A reader, with what it has read so far, as text."""

    reader: Reader
    is_leader: bool
    backlog_bytes: int = 0
    text: str = ""
    started: int = 0
    raw: int = 0
    ended: str = ""
    finished: bool = False

    def note(self, batch: Batch) -> None:
        self.started += sum(isinstance(event, Started) for event in batch)
        self.raw += sum(isinstance(event, RawFrames) for event in batch)
        self.text += "".join(event.text for event in batch if isinstance(event, TextDelta))
        self.finished = isinstance(batch[-1], Finished)


class FlightMachine(RuleBasedStateMachine):
    """``produced`` is all that the upstream was told to say; the loop runs until nothing moves after each step."""

    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.bounds = flight.AHEAD_BYTES, flight.LAG_BYTES
        flight.AHEAD_BYTES, flight.LAG_BYTES = AHEAD, LAG
        self.upstream, self.room = Upstream(), Room()
        self.produced: list[str] = []
        self.all: list[Client] = []
        self.here: list[Client] = []
        self.kept: list[Entry] = []
        self.ending = ""
        self.inherited_bytes = 0

    @property
    def present(self) -> list[Client]:
        """Those who read, and were not given up."""
        return [client for client in self.here if not client.reader.is_left_behind]

    def settle(self) -> None:
        """Run the loop until nothing in it moves."""
        for _ in range(10):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    @initialize(target=clients, max_bytes=st.sampled_from([1_500, 10**6]))
    def take_off(self, max_bytes: int) -> Client:
        async def keep(entry: Entry) -> None:
            await asyncio.sleep(0)
            self.kept.append(entry)

        async def start() -> Flight:
            dispatch = Dispatch(ChatRequest(model="m"), Caller(), "m")
            return Flight(dispatch, self.upstream.handler, Recording(max_bytes, room=self.room), keep)

        self.flight = self.loop.run_until_complete(start())
        return self.add(self.flight.readers[0], is_leader=True)

    def add(self, reader: Reader, *, is_leader: bool = False) -> Client:
        client = Client(reader, is_leader, reader.pending_bytes)
        self.all.append(client)
        self.here.append(client)
        return client

    @rule(target=clients)
    def join(self) -> object:
        if not self.flight.is_joinable:
            return multiple()
        assert self.here, "one without readers takes nobody"
        return self.add(self.flight.join(Dispatch(ChatRequest(model="m"), Caller(), "m")))

    @precondition(lambda self: not self.ending)
    @rule(size=st.integers(1, LARGEST), letter=st.characters(codec="ascii", categories=["Ll"]))
    def say(self, size: int, letter: str) -> None:
        opening: Batch = () if self.produced else (Started(True, "/x", {"X": "y"}),)
        self.produced.append(letter * size)
        self.upstream.said.put_nowait((*opening, RawFrames(b"r" * 10), TextDelta(letter * size)))
        waiting = [client.reader.pending_bytes for client in self.present]
        fastest = [client for client in self.present if client.reader.pending_bytes == min(waiting)]
        self.settle()
        assert not any(client.reader.is_left_behind for client in fastest)

    @precondition(lambda self: not self.ending)
    @rule(client=clients, sizes=st.lists(st.integers(LARGEST // 2, LARGEST), max_size=12))
    def keep_up(self, client: Client, sizes: list[int]) -> None:
        """One reads all that comes, the others nothing."""
        for size in sizes:
            self.say(size, "k")
            self.read(client)

    @precondition(lambda self: not self.ending and self.produced)
    @rule(how=st.sampled_from(["finished", "failed"]))
    def end(self, how: str) -> None:
        self.ending = how
        if how == "finished":
            self.upstream.said.put_nowait((RawFrames(b"r"), Finished(usage=Usage(1, 2))))
            self.upstream.said.put_nowait(None)
        else:
            self.upstream.said.put_nowait(UpstreamStatus(503, "no", headers={"a": "b"}))
        self.settle()

    @precondition(lambda self: not self.ending and not self.produced)
    @rule()
    def refuse(self) -> None:
        self.ending = "failed"
        self.upstream.said.put_nowait(UpstreamStatus(503, "no", headers={"a": "b"}))
        self.settle()

    @rule(client=clients)
    def read(self, client: Client) -> None:
        """Read once, if there is something to read: one who would wait does nothing."""
        if client.ended:
            return
        task = self.loop.create_task(client.reader.take())
        self.settle()
        if not task.done():
            task.cancel()
            self.settle()
            assert not client.reader.pending
            return
        error = task.exception()
        if error is None:
            batch = task.result()
            if batch is None:
                self.leave_quietly(client, "end")
            else:
                client.note(batch)
        else:
            assert isinstance(error, LeftBehind | UpstreamStatus), error
            assert getattr(error, "headers", {"a": "b"}) == {"a": "b"}
            assert getattr(error, "status", None) == 503
            self.leave_quietly(client, type(error).__name__)
        self.settle()

    def leave_quietly(self, client: Client, why: str) -> None:
        client.ended = why
        self.here.remove(client)
        self.loop.run_until_complete(client.reader.leave())
        # One that lagged behind the one that left may now be the fastest, with all that waits for it.
        self.inherited_bytes = min([other.reader.pending_bytes for other in self.present], default=0)

    @rule(client=consumes(clients))
    def leave(self, client: Client) -> None:
        if not client.ended:
            self.leave_quietly(client, "left")
            self.settle()

    @invariant()
    def each_has_a_prefix(self) -> None:
        """And at its end exactly what was produced; the leader has the raw frames, the others have none."""
        whole = "".join(self.produced)
        for client in self.all:
            assert whole.startswith(client.text)
            assert client.started == (1 if client.text or client.finished else 0)
            assert client.is_leader or not client.raw
            if client.ended == "end":
                assert client.finished
                assert (client.text, self.ending) == (whole, "finished")
            if client.ended == "UpstreamStatus":
                assert (client.text, self.ending) == (whole, "failed")

    @invariant()
    def the_pump_runs_as_long_as_somebody_reads(self) -> None:
        if not self.present or self.flight.is_over:
            assert self.flight.task.done()
        else:
            assert not self.flight.task.done()
            assert not self.upstream.is_closed
        if any(client.reader.pending_bytes <= AHEAD for client in self.present):
            assert self.upstream.said.empty(), "it rests, though somebody wants more"
        if self.flight.task.done() and self.upstream.taken:
            assert self.upstream.is_closed

    @invariant()
    def what_is_held_is_bounded(self) -> None:
        one = LARGEST + 1_000
        for client in self.here:
            assert client.reader.pending_bytes <= client.backlog_bytes + AHEAD + LAG + 2 * one
        if self.present:
            fastest = min(self.present, key=lambda client: client.reader.pending_bytes)
            waiting_bytes = fastest.reader.pending_bytes
            # The pump may be waiting for a batch, which it adds before it rests.
            assert waiting_bytes <= max(fastest.backlog_bytes + AHEAD, self.inherited_bytes) + one
            if waiting_bytes <= AHEAD:
                self.inherited_bytes = 0
        recorded_bytes = sum(map(size_of, self.flight.recording.batches))
        assert self.room.used_bytes == recorded_bytes <= self.flight.recording.max_bytes

    @invariant()
    def it_is_kept_once_and_whole(self) -> None:
        is_whole = self.flight.is_over and self.flight.error is None
        assert len(self.kept) == (is_whole and self.flight.recording.size_bytes <= self.flight.recording.max_bytes)
        for entry in self.kept:
            text = "".join(event.text for event in entry.batch if isinstance(event, TextDelta))
            assert text == "".join(self.produced)
            assert isinstance(entry.batch[0], Started)
            assert not any(isinstance(event, RawFrames) for event in entry.batch)
            assert len(entry.offsets_s) == len(entry.batches)

    def teardown(self) -> None:
        for client in list(self.here):
            self.leave_quietly(client, "left")
        self.settle()
        assert not asyncio.all_tasks(self.loop)
        assert self.room.used_bytes == 0
        self.loop.close()
        flight.AHEAD_BYTES, flight.LAG_BYTES = self.bounds


def test_one_that_becomes_the_fastest_has_all_that_waits_for_it() -> None:
    """When a faster one leaves: more than the pump would lay ready for it; one batch is added at most."""
    machine = FlightMachine()
    slow = machine.take_off(10**6)
    fast = machine.join()
    assert isinstance(fast, Client)
    for _ in range(2):
        machine.say(LARGEST, "a")
        machine.read(fast)
    machine.leave(fast)
    inherited_bytes = slow.reader.pending_bytes
    assert AHEAD + LARGEST + 1_000 < inherited_bytes <= AHEAD + LAG + 2 * (LARGEST + 1_000)
    machine.what_is_held_is_bounded()
    for _ in range(3):
        machine.say(LARGEST, "b")
        assert inherited_bytes < slow.reader.pending_bytes <= inherited_bytes + LARGEST + 1_000
        machine.what_is_held_is_bounded()
    machine.read(slow)
    machine.the_pump_runs_as_long_as_somebody_reads()
    machine.what_is_held_is_bounded()
    machine.teardown()


TestFlight = FlightMachine.TestCase
TestFlight.settings = settings(max_examples=200, stateful_step_count=40)
