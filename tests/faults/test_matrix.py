"""Each fault in each lane, whole and streamed: what the client gets, what the breaker makes of it, what is left."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import attrs
import pytest

from agenthub.settings import BackendSettings, CachingSettings, CircuitBreakerSettings, HealthSettings
from agenthub.standin import Standin, running
from tests.faults.conftest import Real
from tests.faults.proxy import BlackHole, Cut, Delay, Drip, Fault, FaultProxy, Garbage, Reset, proxied
from tests.faults.reading import PATHS, Got, ask_for, read
from tests.faults.traces import breaker_of, descriptors, in_flight, tasks, until
from tests.hubs import RunningHub, running_hub


@attrs.frozen
class Sizes:
    """The bytes of an answer on the wire: its head with the blank line, and all of it."""

    head: int
    total: int

    @property
    def middle(self) -> int:
        return (self.head + self.total) // 2


@attrs.frozen
class Expected:
    """All that becomes of one request; ``says`` are words of the error, ``failures`` is what the breaker counts.

    ``text`` is "all", "some" (a true part) or "none" of the answer's.
    """

    status: int
    text: str
    end: str
    says: str = ""
    outcome: str = "failed"
    failures: int = 1


OK = Expected(200, "all", "whole", outcome="ok", failures=0)
BROKE_OFF = Expected(502, "none", "error", "broke off the connection")
NO_JSON = Expected(502, "none", "error", "the upstream sent what its API does not allow")
SPOILT = Expected(502, "none", "error")
NO_HTTP = Expected(502, "none", "error", "does not speak HTTP")
SILENT = Expected(504, "none", "error", "kept silent for too long")
SHORT = 0.3
FIRST, IDLE = {"first_event_timeout_s": SHORT}, {"idle_timeout_s": SHORT}


def midway(before: Expected) -> Expected:
    """Return what becomes of a stream that fails so in its middle: the status is gone by then."""
    return attrs.evolve(before, status=200, text="some")


@attrs.frozen
class Case:
    """A fault, what is expected of a whole answer and of a stream, and the time-outs that matter, if any.

    Where there is a second way for a stream, both are right, and it is the network's chance which one it goes.
    """

    fault: Callable[[Sizes], Fault | None]
    whole: Expected
    streamed: Expected
    timeouts: dict[str, float] = attrs.field(factory=dict)
    streams_timeouts: dict[str, float] = attrs.field(default=attrs.Factory(lambda case: case.timeouts, takes_self=True))
    or_streamed: Expected | None = None


CASES = {
    "nothing": Case(lambda _: None, OK, OK),
    "delay": Case(lambda _: Delay(0.05), OK, OK),
    "drip": Case(lambda _: Drip(7), OK, OK),
    "drip, slowly": Case(lambda sizes: Drip(1 + sizes.total // 20, 0.01), OK, OK),
    "cut at once": Case(lambda _: Cut(), BROKE_OFF, BROKE_OFF),
    "cut in the head": Case(lambda _: Cut(12), BROKE_OFF, BROKE_OFF),
    "cut after the head": Case(lambda sizes: Cut(sizes.head), BROKE_OFF, BROKE_OFF),
    "cut in the middle": Case(lambda sizes: Cut(sizes.middle), BROKE_OFF, midway(BROKE_OFF)),
    # A stream has its end mark by then, and has all that its client waits for.
    "cut before the last byte": Case(lambda _: Cut(-1), BROKE_OFF, OK),
    "reset at once": Case(lambda _: Reset(), BROKE_OFF, BROKE_OFF),
    "reset in the head": Case(lambda _: Reset(12), BROKE_OFF, BROKE_OFF),
    "reset after the head": Case(lambda sizes: Reset(sizes.head), BROKE_OFF, BROKE_OFF),
    "reset in the middle": Case(lambda sizes: Reset(sizes.middle), BROKE_OFF, midway(BROKE_OFF)),
    "black hole at once": Case(lambda _: BlackHole(), SILENT, SILENT, FIRST),
    "black hole in the head": Case(lambda _: BlackHole(12), SILENT, SILENT, FIRST),
    "black hole after the head": Case(lambda sizes: BlackHole(sizes.head), SILENT, SILENT, FIRST),
    "black hole in the middle": Case(lambda sizes: BlackHole(sizes.middle), SILENT, midway(SILENT), FIRST, IDLE),
    "garbage at once": Case(lambda _: Garbage(), NO_HTTP, NO_HTTP),
    "garbage in the head": Case(lambda _: Garbage(12), NO_HTTP, NO_HTTP),
    "garbage after the head": Case(lambda sizes: Garbage(sizes.head), NO_JSON, SPOILT),
    # Frames that come in one read with what is no HTTP chunk are lost with it.
    "garbage in the middle": Case(lambda sizes: Garbage(sizes.middle), NO_JSON, midway(SPOILT), or_streamed=SPOILT),
}


@asynccontextmanager
async def in_front(
    url: str, adapter: str, breaker: CircuitBreakerSettings | None = None, **backend: Any
) -> AsyncIterator[RunningHub]:
    """A hub that keeps no answer and asks for nothing by itself after its start."""
    backends = {"ollama": BackendSettings(url=url, api_mode=adapter, **backend)}
    quiet = HealthSettings(models_refresh_s=0, interval_s=0)
    more = {"circuit_breaker": breaker} if breaker is not None else {}
    async with running_hub(backends, health=quiet, caching=CachingSettings(policy="off"), **more) as hub:
        yield hub


async def ask(hub: RunningHub, dialect: str, real: Real, *, streamed: bool) -> Got:
    body = ask_for(dialect, real.model, "hi", streamed=streamed)
    async with hub.http.post(hub.url + PATHS[dialect], json=body) as response:
        return await read(response, dialect)


def judge(hub: RunningHub, got: Got, expected: Expected, text: str) -> Expected:
    """Return what became of the latest request, in the words of what is expected of it where they agree."""
    line = hub.dispatches()[-1]
    assert (line["status"], line.get("error", "")) == (got.status, got.error)
    part = "all" if got.text == text else "none" if not got.text else "some" if text.startswith(got.text) else got.text
    says = expected.says if expected.says in got.error else got.error
    return Expected(got.status, part, got.end, says, line["outcome"], breaker_of(hub).failures)


async def settled(hub: RunningHub, before: set[Any]) -> None:
    """Wait until the hub has no request under way and no task runs that did not before."""
    await until(lambda: in_flight(hub) == 0 and tasks() <= before, lambda: (in_flight(hub), tasks() - before))


async def sizes_of(hub: RunningHub, proxy: FaultProxy, dialect: str, real: Real, *, streamed: bool) -> Sizes:
    """Ask once without a fault, and look at the wire."""
    assert await ask(hub, dialect, real, streamed=streamed) == Got(200, real.text, "whole")
    return Sizes(proxy.last.index(b"\r\n\r\n") + 4, len(proxy.last))


WAYS = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@WAYS
@pytest.mark.parametrize("name", CASES)
async def test_a_fault(
    real: Real, lane: tuple[str, str], name: str, streamed: bool, figure: Callable[..., None]
) -> None:
    """The client gets all of the answer or an error in its dialect's shape, and nothing is left of the request."""
    case, descriptors_before = CASES[name], descriptors()
    expected, timeouts = (case.whole,), case.timeouts
    if streamed:
        expected, timeouts = (case.streamed, case.or_streamed or case.streamed), case.streams_timeouts
    async with proxied(real.url, lingers_s=real.lingers_s) as proxy:
        async with in_front(proxy.url, lane[1]) as hub:
            sizes = await sizes_of(hub, proxy, lane[0], real, streamed=streamed)
        async with in_front(proxy.url, lane[1], **timeouts) as hub:
            await hub.get("/api/tags")
            before, fault = tasks(), case.fault(sizes)
            # Twice: where nothing of an answer came on a connection that was used before, it is sent once more.
            proxy.script(fault, fault)
            since = time.perf_counter()
            got = await ask(hub, lane[0], real, streamed=streamed)
            if timeouts:
                figure("time-outs", overrun_s=[time.perf_counter() - since - SHORT])
            assert judge(hub, got, expected[0], real.text) in expected
            await settled(hub, before)
            await proxy.until_open(proxy.open if got.end == "whole" else 0, timeout_s=20)
        await proxy.until_open(0, timeout_s=20)
        assert bool(proxy.struck) == (fault is not None)
    await until(lambda: descriptors() <= descriptors_before, descriptors)


@WAYS
async def test_a_refused_connection(real: Real, lane: tuple[str, str], streamed: bool) -> None:
    """Nobody listens at the backend's port: 502 at once, and the breaker counts it."""
    expected = Expected(502, "none", "error", "cannot be reached: Connection refused")
    async with proxied(real.url, lingers_s=real.lingers_s) as proxy, in_front(proxy.url, lane[1]) as hub:
        await hub.get("/api/tags")
        await proxy.stop()
        before = tasks()
        got = await ask(hub, lane[0], real, streamed=streamed)
        assert judge(hub, got, expected, real.text) == expected
        await settled(hub, before)
        await proxy.start()
        assert await ask(hub, lane[0], real, streamed=streamed) == Got(200, real.text, "whole")
        assert breaker_of(hub).failures == 0


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port whose listener accepts nobody and has no room for more who wait: the system answers no SYN."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@WAYS
async def test_a_connection_that_nobody_accepts(lane: tuple[str, str], streamed: bool) -> None:
    """504 after connect_timeout_s, and the breaker counts it."""
    expected = Expected(504, "none", "error", "did not accept a connection in time")
    with deaf_port() as port:
        async with in_front(f"http://127.0.0.1:{port}", lane[1], connect_timeout_s=SHORT) as hub:
            await hub.get("/api/tags")
            before, nobody = tasks(), Real("", "standin", "-")
            got = await ask(hub, lane[0], nobody, streamed=streamed)
            assert judge(hub, got, expected, nobody.text) == expected
            await settled(hub, before)


@WAYS
@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", [Cut, Reset, Garbage], ids=["cut", "reset", "garbage"])
async def test_at_every_byte(lane: tuple[str, str], kind: type[Cut | Reset | Garbage], streamed: bool) -> None:
    """Wherever an answer breaks, no part of it passes for the whole: a client has all of it, or an error behind a part.

    After the last byte that it needs, an answer that is merely cut is complete.
    """
    # Its clock stands still, so that each answer is as long as the first: they tell how long they took.
    standin, patient = Standin(text="Hi, ☕.", clock=lambda: 10**18), CircuitBreakerSettings(failure_threshold=100_000)
    async with running(standin) as url, proxied(url) as proxy, in_front(proxy.url, lane[1], breaker=patient) as hub:
        real = Real(url, "standin", standin.text or "")
        sizes = await sizes_of(hub, proxy, lane[0], real, streamed=streamed)
        ends = []
        for at in range(0, sizes.total, 1 if kind is Cut else 7):
            fault = kind(at)
            proxy.script(fault, fault)
            got = await ask(hub, lane[0], real, streamed=streamed)
            assert got.end in ("whole", "error"), (at, got)
            assert got.text == real.text if got.end == "whole" else real.text.startswith(got.text), (at, got)
            assert bool(got.error) == (got.end == "error"), (at, got)
            ends.append(got.end)
        whole = ends.index("whole") if "whole" in ends else len(ends)
        assert kind is not Cut or set(ends[whole:]) <= {"whole"}, (whole, sizes, ends[whole:])
        assert ends[0] == "error"
