"""Figures of promises that other tests hold in the small: shared streams, silent gaps, slow readers, breakers."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agenthub.standin import Fault, Standin, running
from tests.faults.load import SAID
from tests.faults.programs import hub_process, many_connections, raise_limits, standin_process
from tests.faults.reading import PATHS, Got, ask_for, read
from tests.faults.traces import until
from tests.hubs import LANES, running_hub
from tests.redis_server import RedisServer, redis_server
from tests.shared.support import BODY, replicas, state_of

__all__ = ["redis_server"]
TOGETHER, PING_S, LOADING_S, SLOW_READERS, MOST_MB_EACH = 100, 0.2, 2.0, 100, 2.0
pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_hundred_that_ask_the_same(lane: tuple[str, str], streamed: bool, figure: Callable[..., None]) -> None:
    """Each has the whole answer, and the upstream was asked once."""
    dialect, adapter = lane
    standin = Standin(pace_s=0.02)
    cold = {"temperature": 0} if dialect == "openai" else {"options": {"temperature": 0}}
    body = ask_for(dialect, "standin", "hi", streamed=streamed, **cold)
    async with running(standin) as url, running_hub(url, api_mode=adapter) as hub, many_connections() as http:

        async def ask() -> Got:
            async with http.post(hub.url + PATHS[dialect], json=body) as response:
                return await read(response, dialect)

        got = await asyncio.gather(*(ask() for _ in range(TOGETHER)))
        asked = [
            received.path for received in standin.requests if received.method == "POST" and "show" not in received.path
        ]
    assert got == [Got(200, SAID.format("hi"), "whole")] * TOGETHER
    assert len(asked) == 1, asked
    figure("asked together", clients=TOGETHER, upstream_requests=len(asked))


async def test_a_model_that_loads(figure: Callable[..., None]) -> None:
    """A stream of /v1 is never silent for much longer than ``sse_ping_s``, however long its model takes."""
    standin, silences = Standin(), []
    async with running(standin) as url, running_hub(url, sse_ping_s=PING_S) as hub:
        standin.script(Fault.delay(LOADING_S))
        body = ask_for("openai", "standin", "hi", streamed=True)
        last = time.perf_counter()
        async with hub.http.post(hub.url + PATHS["openai"], json=body) as response:
            async for _ in response.content.iter_any():
                silences.append(time.perf_counter() - last)
                last = time.perf_counter()
    assert len(silences) >= LOADING_S / PING_S / 2
    assert max(silences) < LOADING_S
    figure("silence while a model loads", sse_ping_s=PING_S, silence_s=silences)


async def test_clients_that_read_nothing(tmp_path: Path, figure: Callable[..., None]) -> None:
    """Each slows its upstream down: what the hub holds for it is bounded, whatever comes."""
    raise_limits()
    async with (
        standin_process(tmp_path, "--pace=0", "--endless", f"--text={'x' * 8192}", "--model=endless") as upstream,
        hub_process(tmp_path, backends__ollama__url=upstream.url) as hub,
    ):
        before_mb, files, loop = hub.memory_mb(), hub.descriptors(), asyncio.get_running_loop()
        parts = urlsplit(hub.url)
        with ExitStack() as stack:
            for number in range(SLOW_READERS):
                dialect, adapter = LANES[number % len(LANES)]
                client = stack.enter_context(socket.socket())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.setblocking(False)
                await loop.sock_connect(client, (parts.hostname, parts.port))
                body = json.dumps(ask_for(dialect, "endless", "go on", streamed=True))
                head = f"POST {PATHS[dialect]} HTTP/1.1\r\nHost: {parts.netloc}\r\nX-AgentHub-Api-Mode: {adapter}\r\n"
                await loop.sock_sendall(client, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            used = -1.0
            while used != (used := cpu_ticks(hub.pid)):  # noqa: ASYNC110 - until the hub has nothing more to do
                await asyncio.sleep(1.0)
            each_mb = (hub.memory_mb() - before_mb) / SLOW_READERS
        await until(lambda: hub.descriptors() <= files, hub.descriptors)
    assert each_mb < MOST_MB_EACH
    figure("clients that read nothing", clients=SLOW_READERS, mb_each=each_mb)


def cpu_ticks(pid: int) -> float:
    """Return the processor time that a process used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return float(fields[11]) + float(fields[12])


async def test_a_breaker_of_two(redis_server: RedisServer, figure: Callable[..., None]) -> None:
    """Tripped in one hub it is open in the other."""
    took_s = []
    for _ in range(10):
        async with replicas(redis_server, Standin(down=True)) as (one, other):
            while state_of(one) != "open":
                await one.post("/api/chat", BODY)
            since = time.perf_counter()
            await until(lambda other=other: state_of(other) == "open", lambda: "not open")  # type: ignore[misc]
            took_s.append(time.perf_counter() - since)
        async with redis_server.client() as client:
            await client.flushall()
    figure("breaker shared", open_in_the_other_after_s=took_s)
