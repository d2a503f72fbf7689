"""What all bodies together may hold: max_bodies_bytes, who waits for it, who is refused, and that it is given back."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import brotli
import pytest
from aiohttp import web
from backports import zstd

from agenthub.api import body_budget
from agenthub.api.body_budget import FREE_BYTES, BodyBudget, Share
from agenthub.api.encoding import STEP_BYTES, CannotUnpack, Unpacker
from agenthub.app import make_app, make_hub
from agenthub.errors import HubBusy, TooLarge
from agenthub.plugins import make_plugins
from agenthub.settings import BackendSettings, ProtectionSettings, Settings
from agenthub.standin import Standin, running
from tests.cli.support import clean_environ, started
from tests.hubs import Clock, RunningHub, error_of, running_hub, until
from tests.replay.wire import Message, send
from tests.test_bodies import chunked, request
from tests.test_listening import Wire, post, wire_to
from tests.upstreams import HI, PATHS

MIB = 2**20
BODY: dict[str, Any] = {"model": "standin", "messages": HI, "stream": False}
PACKERS = {
    "br": lambda data: brotli.compress(data, quality=5, lgwin=24),
    "deflate": zlib.compress,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
}


def body_of(size: int, **members: Any) -> bytes:
    """A good body of that many bytes."""
    body = json.dumps(BODY | members).encode()
    return body + b" " * (size - len(body))


@asynccontextmanager
async def hub_of(standin: Standin | None = None, mode: str = "native", **protection: Any) -> AsyncIterator[RunningHub]:
    """A hub for bodies of 4 MiB, of which all together may hold 5 MiB."""
    settings = ProtectionSettings(**({"max_bodies_bytes": 5 * MIB, "bodies_timeout_s": 0.2} | protection))
    async with (
        running(standin or Standin()) as upstream,
        running_hub(upstream, api_mode=mode, protection=settings, max_body_bytes=4 * MIB) as hub,
    ):
        yield hub


def held(hub: RunningHub) -> int:
    return hub.hub.body_budget.held_bytes


@asynccontextmanager
async def half_sent(hub: RunningHub, size: int = 4 * MIB) -> AsyncIterator[Wire]:
    """A connection that has sent half of a body, which is in the hands of the hub."""
    async with wire_to(hub) as wire:
        before = held(hub)
        await wire.send(post("/api/chat", size), b" " * (size // 2))
        await until(lambda: held(hub) == before + size)
        yield wire


def refused(answer: Message, dialect: str) -> str:
    body = json.loads(answer.body)
    assert list(body) == ["error"]
    assert isinstance(body["error"], str if dialect == "ollama" else dict)
    return error_of(body)


# --- through a hub


async def test_what_finds_no_room_is_refused_after_a_while(lane: tuple[str, str]) -> None:
    """503 with Retry-After in the dialect's shape, and the connection ends; a small request passes beside it."""
    path = PATHS[lane[0]]
    async with hub_of(mode=lane[1]) as hub, half_sent(hub):
        answer = await send(hub.url, request(path, body_of(2 * MIB)))
        assert (answer.status, answer.header("Retry-After"), answer.header("Connection")) == (503, "1", "close")
        assert refused(answer, lane[0]) == body_budget.BUSY
        assert answer.header("x-should-retry") == ""
        assert (await hub.post(path, body_of(FREE_BYTES))).status == 200
        assert (await hub.post(path, body_of(MIB))).status == 200
        assert held(hub) == 4 * MIB
    await until(lambda: held(hub) == 0)


async def test_what_waits_gets_room_when_there_is_some() -> None:
    """A body waits for another's end, and is answered; it is not read on meanwhile."""
    async with hub_of(bodies_timeout_s=20) as hub, AsyncExitStack() as stack:
        wire = await stack.enter_async_context(half_sent(hub))
        answer = asyncio.create_task(send(hub.url, request("/api/chat", body_of(3 * MIB))))
        await until(lambda: hub.hub.body_budget.waiting == 1)
        await wire.send(body_of(2 * MIB))
        assert (await wire.answer()).status == 200
        assert (await answer).status == 200
        await until(lambda: held(hub) == 0)


@pytest.mark.parametrize("framing", ["chunks", "gzip"])
async def test_a_body_of_unknown_size_is_refused_where_it_finds_no_room(framing: str) -> None:
    """It holds a part already, so it does not wait for the parts of others: 503 at once, whatever the patience."""
    body = body_of(3 * MIB)
    sent = {
        "chunks": request("/api/chat", chunked(body, 2**16), "Transfer-Encoding: chunked"),
        "gzip": request("/api/chat", gzip.compress(os.urandom(FREE_BYTES) + body), "Content-Encoding: gzip"),
    }[framing]
    async with hub_of(bodies_timeout_s=20) as hub, half_sent(hub):
        assert (await send(hub.url, sent)).status == 503
        await until(lambda: held(hub) == 4 * MIB)


ENDS = {
    "answered": (request("/api/chat", body_of(2 * MIB)), 200),
    "a stream": (request("/api/chat", body_of(2 * MIB, stream=True)), 200),
    "no JSON": (request("/api/chat", b"{" * 2 * MIB), 400),
    "too large": (request("/api/chat", chunked(body_of(5 * MIB), 2**16), "Transfer-Encoding: chunked"), 413),
    "a bomb": (request("/api/chat", gzip.compress(b" " * 5 * MIB), "Content-Encoding: gzip"), 413),
    "packed": (request("/api/chat", gzip.compress(body_of(2 * MIB)), "Content-Encoding: gzip"), 200),
    "packed badly": (request("/api/chat", zlib.compress(body_of(2 * MIB))[:-9], "Content-Encoding: deflate"), 400),
    "silence": (post("/api/chat", 2 * MIB) + b" " * MIB, 408),
    "explained": (request("/hub/explain", body_of(2 * MIB)), 400),
    "enhanced": (request("/hub/enhance", body_of(2 * MIB)), 400),
}


@pytest.mark.parametrize(("sent", "status"), ENDS.values(), ids=ENDS)
async def test_it_is_given_back_whatever_becomes_of_a_request(sent: bytes, status: int) -> None:
    """Nothing is held after the answer."""
    async with hub_of(body_timeout_s=0.3) as hub:
        assert (await send(hub.url, sent)).status == status
        await until(lambda: held(hub) == 0)
        assert not hub.hub.body_budget.reading


async def test_it_is_given_back_when_clients_leave() -> None:
    """In the middle of a body, and while they wait for room."""
    async with hub_of(bodies_timeout_s=20) as hub:
        async with half_sent(hub), wire_to(hub) as waiting:
            await waiting.send(post("/api/chat", 3 * MIB) + b" ")
            await until(lambda: hub.hub.body_budget.waiting == 1)
        await until(lambda: (held(hub), hub.hub.body_budget.waiting) == (0, 0))
        assert (await send(hub.url, request("/api/chat", body_of(4 * MIB)))).status == 200


async def test_a_stream_holds_nothing_once_it_has_begun() -> None:
    """Else a few streams of hours would keep all others out."""
    standin = Standin(endless=True, pace_s=0.005)
    async with hub_of(standin) as hub, wire_to(hub) as wire:
        await wire.send(request("/api/chat", body_of(4 * MIB, stream=True)))
        await wire.reader.readuntil(b"}\n")
        assert held(hub) == 0
        standin.endless = False


async def test_a_client_that_drips_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """While another waits, a body that does not go on is 408 before its time is up; the one that waited is answered."""
    async with hub_of(bodies_timeout_s=20, body_timeout_s=0) as hub, half_sent(hub) as dripping:
        monkeypatch.setattr(body_budget, "_SLOW_S", 0.0)
        assert (await send(hub.url, request("/api/chat", body_of(3 * MIB)))).status == 200
        answer = await dripping.answer()
        assert answer.status == 408
        assert "too slowly while others waited" in refused(answer, "ollama")


async def test_a_body_that_could_never_have_room() -> None:
    """413, however large a body may be by itself."""
    async with hub_of(max_bodies_bytes=MIB) as hub:
        assert (await send(hub.url, request("/api/chat", body_of(MIB + 1)))).status == 413
        assert (await send(hub.url, request("/api/chat", body_of(MIB)))).status == 200


async def test_zero_is_no_bound() -> None:
    """Bodies are only bounded one by one then."""
    async with hub_of(max_bodies_bytes=0) as hub, AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(half_sent(hub))
        assert (await send(hub.url, request("/api/chat", body_of(4 * MIB)))).status == 200


async def test_an_upload_is_not_counted() -> None:
    """It goes on as it comes, so that nothing of it is held."""
    async with hub_of() as hub, half_sent(hub):
        upload = request("/api/blobs/sha256:" + "0" * 64, b"x" * 3 * MIB)
        assert (await send(hub.url, upload)).status == 400
        assert held(hub) == 4 * MIB


def test_a_reload_keeps_the_budget() -> None:
    """What is held stays held, and goes by the new settings as soon as the new hub serves."""
    backends = {"ollama": BackendSettings(url="http://127.0.0.1:1")}
    before = make_hub(Settings(backends=backends), make_plugins(Settings(backends=backends).plugins))
    settings = Settings(backends=backends, protection=ProtectionSettings(max_bodies_bytes=7))
    after = make_hub(settings, before.plugins, kept=before.kept.next())
    assert after.body_budget is before.body_budget
    assert before.body_budget.settings.max_bodies_bytes != 7
    after.take_over()
    assert before.body_budget.settings.max_bodies_bytes == 7


@pytest.mark.parametrize("encoding", PACKERS)
async def test_on_a_server_that_unpacks_by_itself(encoding: str) -> None:
    """The application on aiohttp's own server takes packed bodies as well."""
    async with running(Standin()) as upstream:
        runner = web.AppRunner(make_app(Settings(backends={"ollama": BackendSettings(url=upstream)})))
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            sent = request("/api/chat", PACKERS[encoding](body_of(MIB)), f"Content-Encoding: {encoding}")
            assert (await send(f"http://127.0.0.1:{runner.addresses[0][1]}", sent)).status == 200
        finally:
            await runner.cleanup()


# --- the budget by itself


async def test_small_bodies_pass_large_ones_that_wait() -> None:
    """Room goes to the smallest of those that wait, and what is left to the next one for which it is enough."""
    clock = Clock()
    budget = BodyBudget(ProtectionSettings(max_bodies_bytes=100, bodies_timeout_s=0))
    first, large, middle, small = (Share(budget, clock) for _ in range(4))
    await first.grow(100)
    sizes = {large: 90, middle: 70, small: 20}
    waiting = {share: asyncio.create_task(share.grow(size)) for share, size in sizes.items()}
    await until(lambda: budget.waiting == 3)
    first.give_back()
    await asyncio.wait([waiting[middle], waiting[small]])
    assert (large.size, budget.held_bytes, budget.waiting) == (0, 90, 1)
    middle.give_back()
    small.give_back()
    await waiting[large]
    assert (large.size, budget.held_bytes, budget.waiting) == (90, 90, 0)
    large.give_back()
    large.give_back()
    assert budget.held_bytes == 0


async def test_only_who_holds_nothing_waits() -> None:
    """Two that hold a part each and want more do not wait for each other: the second is refused."""
    budget = BodyBudget(ProtectionSettings(max_bodies_bytes=100, bodies_timeout_s=0))
    one, two = Share(budget, Clock()), Share(budget, Clock())
    await one.grow(60)
    await two.grow(40)
    with pytest.raises(HubBusy):
        await two.grow(41)
    with pytest.raises(TooLarge):
        await two.grow(101)
    two.give_back()
    await one.grow(100)


async def test_who_is_slow() -> None:
    """Who holds memory and has not sent 64 KiB in five seconds, however much came before."""
    clock = Clock()
    budget = BodyBudget(ProtectionSettings(max_bodies_bytes=MIB))
    share = Share(budget, clock)
    await share.grow(MIB)
    share.begin()
    clock.now += 4.9
    assert not share.is_slow
    share.came(2**16)
    clock.now += 4.9
    share.came(2**16 + 1000)
    assert not share.is_slow
    clock.now += 0.2
    assert share.is_slow
    share.give_back()
    assert not share.is_slow


@pytest.mark.parametrize("encoding", PACKERS)
def test_unpacking_goes_in_steps(encoding: str) -> None:
    """What comes out is what went in, in pieces of a bounded size, however the packed bytes were cut."""
    data = os.urandom(1000) * 3000 + b"\0" * 5 * MIB
    packed = PACKERS[encoding](data)
    for cut in (1, 1000, len(packed)):
        unpacker, pieces = Unpacker(encoding), list[bytes]()
        for start in range(0, len(packed), cut):
            pieces += unpacker.feed(packed[start : start + cut])
        unpacker.close()
        assert b"".join(pieces) == data
        assert max(map(len, pieces)) <= 2 * STEP_BYTES


def test_windows_are_bounded() -> None:
    """A frame of zstd that would have 128 MiB taken for its window is refused before it is."""
    wide = zstd.compress(b"\0" * MIB * 9, options={zstd.CompressionParameter.window_log: 27})
    with pytest.raises(CannotUnpack):
        list(Unpacker("zstd").feed(wide))


# --- a process of its own

_PEAK = "VmHWM:"


def peak_mib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(_PEAK)) // 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("encoding", PACKERS)
async def test_sixty_bombs(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is refused; together they take little more than one, and an ordinary request is answered beside them."""
    monkeypatch.chdir(tmp_path)
    bomb = PACKERS[encoding](b" " * 9 * MIB)
    async with running(Standin()) as upstream:
        environ = clean_environ(OLLAMA_HOST=upstream, AGENTHUB_MAX_BODY_BYTES=str(8 * MIB), AGENTHUB_PORT="0")
        async with started("serve", environ=environ) as process:
            url = (await process.log_line("agenthub.listening"))["url"]
            before = peak_mib(process.process.pid)
            sent = request("/api/chat", bomb, f"Content-Encoding: {encoding}")
            bombs = [asyncio.create_task(send(url, sent)) for _ in range(60)]
            assert (await send(url, request("/api/chat", json.dumps(BODY).encode()))).status == 200
            assert {answer.status for answer in await asyncio.gather(*bombs)} <= {413, 503}
            assert peak_mib(process.process.pid) - before < 80
