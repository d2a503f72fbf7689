"""What becomes of requests when ``agenthub serve`` is told to stop, as a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from agenthub.cli.server import Server
from agenthub.settings import BackendSettings, Settings
from agenthub.standin import Fault, Standin, running
from tests.cli.support import LIMIT_S, Started, clean_environ, started

MESSAGES = [{"role": "user", "content": "Hello"}]
CHAT: dict[str, Any] = {"model": "standin", "messages": MESSAGES}
STREAMS = {
    "/api/chat": CHAT,
    "/v1/chat/completions": CHAT | {"stream": True},
    "/api/generate": {"model": "standin", "prompt": "Hello"},
    "/v1/completions": {"model": "standin", "prompt": "Hello", "stream": True},
}
PATIENCE = aiohttp.ClientTimeout(total=LIMIT_S)


@asynccontextmanager
async def serving(
    standin: Standin, drain_s: float, *more: str
) -> AsyncIterator[tuple[Started, str, aiohttp.ClientSession]]:
    """Serve in front of ``standin``; yield the process, its URL and a client without a limit on connections."""
    arguments = ("serve", "--port", "0", "--set", f"drain_s={drain_s}", *more)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        running(standin) as upstream,
        started(*arguments, environ=clean_environ(OLLAMA_HOST=upstream)) as hub,
        aiohttp.ClientSession(connector=connector, timeout=PATIENCE) as session,
    ):
        yield hub, (await hub.log_line("agenthub.listening"))["url"], session


async def asked(standin: Standin, count: int) -> None:
    """Return when the stand-in was asked ``count`` questions."""
    async with asyncio.timeout(LIMIT_S):
        while sum(request.method == "POST" for request in standin.requests) < count:
            await standin.received.reach(standin.received.count + 1, LIMIT_S)


def outcomes(hub: Started) -> list[tuple[str, str, int, str]]:
    """Return operation, outcome, status and error of each dispatch in the log, sorted."""
    return sorted(
        (line["operation"], line["outcome"], line["status"], line.get("error", "")) for line in hub.dispatches()
    )


async def test_nothing_that_was_accepted_is_lost() -> None:
    """50 streams and 50 whole answers, in both dialects, that run at a signal are all answered to their ends.

    New connections are refused meanwhile; on open ones /ready says stopping, /health that the process is up, and each
    answer is the last on its connection. The log has one line for each request, and the end is no error.
    """
    standin = Standin(pace_s=0.02, text="one two three four five six seven eight nine ten " * 4)
    paths = [*STREAMS, *STREAMS] * 6 + [*STREAMS][:2]
    async with serving(standin, 20) as (hub, url, session):

        async def ask(path: str, body: dict[str, Any]) -> tuple[int, bytes]:
            async with session.post(url + path, json=body) as response:
                return response.status, await response.read()

        open_connections = [aiohttp.ClientSession(timeout=PATIENCE) for _ in range(2)]
        for client in open_connections:
            await (await client.get(f"{url}/health")).read()
        streams = [asyncio.create_task(ask(path, STREAMS[path])) for path in paths]
        wholes = [asyncio.create_task(ask(path, STREAMS[path] | {"stream": False})) for path in paths]
        await asked(standin, 100)
        hub.signal(signal.SIGTERM)
        await hub.log_line("agenthub.stopping")
        watched = []
        for client, path in zip(open_connections, ("/ready", "/health"), strict=True):
            async with client.get(url + path) as response:
                watched.append((response.status, await response.json(), response.headers.get("Connection")))
            await client.close()
        answers = await asyncio.gather(*streams), await asyncio.gather(*wholes)
        status, _, _ = await hub.end()
    assert watched == [(503, {"status": "stopping"}, "close"), (200, {"status": "ok"}, "close")]
    assert {status for status, _ in answers[0] + answers[1]} == {200}
    ends = [body.rstrip().splitlines()[-1] for _, body in answers[0]]
    assert [end == b"data: [DONE]" or json.loads(end)["done"] is True for end in ends] == [True] * 50
    assert [bool(json.loads(body)) for _, body in answers[1]] == [True] * 50
    assert standin.abandoned.count == 0
    assert (status, len(outcomes(hub)), {outcome for _, outcome, *_ in outcomes(hub)}) == (0, 100, {"ok"})


async def test_what_runs_for_too_long_gets_a_last_word() -> None:
    """After drain_s each stream ends with an error frame of its dialect, and its HTTP message properly; whoever has
    no answer yet gets a 503 with Retry-After; each dispatch is logged as failed with the status that the client saw.
    """
    standin = Standin(endless=True, pace_s=0.02)
    async with serving(standin, 0.3) as (hub, url, session):

        async def ask(path: str, body: dict[str, Any]) -> tuple[int, str | None, bytes]:
            async with session.post(url + path, json=body) as response:
                return response.status, response.headers.get("Retry-After"), await response.read()

        standin.script(*[Fault.hang() for _ in range(4)])
        waiting = [asyncio.create_task(ask(path, body | {"stream": False})) for path, body in STREAMS.items()]
        await asked(standin, 4)
        streams = [asyncio.create_task(ask(path, body)) for path, body in STREAMS.items()]
        await asked(standin, 8)
        hub.signal(signal.SIGTERM)
        refused, ended = await asyncio.gather(*waiting), await asyncio.gather(*streams)
        status, _, _ = await hub.end()
    words = "the hub is stopping"
    shown = {"message": words, "type": "server_error", "param": None, "code": "overloaded"}
    assert [(status, after, json.loads(body)["error"]) for status, after, body in refused] == [
        (503, "1", words),
        (503, "1", shown),
    ] * 2
    native, chat, generate, completion = [body.decode().rstrip("\n").split("\n") for _, _, body in ended]
    for lines in (native, generate):
        assert json.loads(lines[-1]) == {"error": words}
    for lines in (chat, completion):
        assert json.loads(lines[-1].removeprefix("data: ")) == {"error": shown}
        assert "data: [DONE]" not in lines
    failed = [(operation, "failed", status, words) for operation in ("chat", "generate") for status in (200, 503)]
    assert (status, outcomes(hub)) == (0, sorted(failed * 2))


async def test_long_verbs_do_not_hold_the_stop() -> None:
    """A pull and an upload that go on for ever are told that the hub stops, as is a client that reads nothing."""
    standin = Standin(endless=True)
    standin.script(Fault.stall(2).at("/api/pull"))
    async with serving(standin, 0.2) as (hub, url, session):

        async def upload() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.01)

        async def send() -> tuple[int, Any]:
            async with session.post(f"{url}/api/blobs/sha256:{'0' * 64}", data=upload()) as response:
                return response.status, await response.json()

        pulling = await session.post(f"{url}/api/pull", json={"model": "new"})
        sending = asyncio.create_task(send())
        reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"), limit=1)
        body = json.dumps(CHAT)
        writer.write(f"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        await reader.read(1)
        assert b"status" in await pulling.content.readline()
        hub.signal(signal.SIGTERM)
        pulled = (await pulling.read()).splitlines()
        sent = await sending
        status, _, err = await hub.end()
        writer.close()
    assert json.loads(pulled[-1]) == {"error": "the hub is stopping"}
    assert sent == (503, {"error": "the hub is stopping"})
    assert (status, "Traceback" in err) == (0, False)


async def test_clients_that_keep_their_connections() -> None:
    """Clients that ask again and again, each on its connection, get every answer until one says that it is the last."""
    standin = Standin()
    async with serving(standin, 10) as (hub, url, _):

        async def ask_on() -> int:
            async with aiohttp.ClientSession(timeout=PATIENCE) as client:
                for count in range(1, 100_000):
                    async with client.post(f"{url}/api/chat", json=CHAT | {"stream": count % 2 == 0}) as response:
                        assert response.status == 200
                        assert json.loads((await response.read()).splitlines()[-1])["done"] is True
                        if response.headers.get("Connection") == "close":
                            return count
            raise AssertionError("the hub never stopped")

        clients = [asyncio.create_task(ask_on()) for _ in range(20)]
        await asked(standin, 200)
        hub.signal(signal.SIGTERM)
        counts = await asyncio.gather(*clients)
        status, _, _ = await hub.end()
    assert (status, len(outcomes(hub))) == (0, sum(counts))


async def test_last_words_of_odd_streams() -> None:
    """A stream that has only been pinged, and streams that share one answer, each get their last word too."""
    standin = Standin(endless=True, pace_s=0.02)
    standin.script(Fault.hang())
    async with serving(standin, 0.2, "--set", "sse_ping_s=0.05") as (hub, url, session):
        pinged = await session.post(f"{url}/v1/chat/completions", json=CHAT | {"stream": True})
        assert await pinged.content.readline() == b": ping\n"
        same = CHAT | {"options": {"temperature": 0}}
        sharing = [await session.post(f"{url}/api/chat", json=same) for _ in range(2)]
        assert [stream.headers["X-AgentHub-Cache"] for stream in sharing] == ["miss", "shared"]
        hub.signal(signal.SIGTERM)
        frames = (await pinged.read()).decode().split("\n\n")
        lines = [(await stream.read()).splitlines()[-1] for stream in sharing]
        status, _, _ = await hub.end()
    assert json.loads(frames[-2].rpartition("data: ")[2])["error"]["message"] == "the hub is stopping"
    assert [json.loads(line) for line in lines] == [{"error": "the hub is stopping"}] * 2
    assert (status, outcomes(hub)) == (0, [("chat", "failed", 200, "the hub is stopping")] * 3)


@pytest.mark.parametrize("turns", range(12))
async def test_nobody_is_forgotten_at_the_door(turns: int) -> None:
    """Whoever connects in whichever turn of the event loop while the port is being closed is answered or refused."""
    server = Server(Settings(port=0, drain_s=0, backends={"one": BackendSettings("http://127.0.0.1:9")}))
    url = await server.__aenter__()
    closing = asyncio.create_task(server.__aexit__(None, None, None))
    for _ in range(turns):
        await asyncio.sleep(0)
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=5) as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(10):
                await loop.sock_sendall(client, b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                while data := await loop.sock_recv(client, 65536):
                    answer += data
    except ConnectionError:
        pass
    await closing
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
