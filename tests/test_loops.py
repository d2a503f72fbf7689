"""Hubs that are their own backends: what would go in a circle ends, and is named."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import pytest
import structlog
from aiohttp import ClientSession, web

from agenthub.api.hub import SERVING
from agenthub.api.listening import make_runner
from agenthub.app import make_app
from agenthub.hops import HUB_ID, LOOPS, MOST_ASKING_ALL, MOST_HUBS, Hops, make_hub_id
from agenthub.settings import BackendSettings, CircuitBreakerSettings, HealthSettings, Settings
from agenthub.standin import Standin, running
from tests.hubs import RunningHub, error_of, installed_plugins, running_hub, until
from tests.upstreams import Reply, served, serving

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": False}
ASKS = [
    ("POST", "/api/chat", CHAT),
    ("POST", "/api/chat", {**CHAT, "stream": True}),
    ("POST", "/api/generate", {"model": "m", "prompt": "hi"}),
    ("POST", "/api/embed", {"model": "m", "input": "hi"}),
    ("POST", "/api/embeddings", {"model": "m", "prompt": "hi"}),
    ("POST", "/api/show", {"model": "m"}),
    ("POST", "/api/pull", {"model": "m"}),
    ("POST", "/api/push", {"model": "m"}),
    ("POST", "/api/create", {"model": "n", "from": "m"}),
    ("POST", "/api/copy", {"source": "m", "destination": "n"}),
    ("DELETE", "/api/delete", {"model": "m"}),
    ("HEAD", f"/api/blobs/sha256:{'0' * 64}", None),
    ("POST", f"/api/blobs/sha256:{'0' * 64}", b"data"),
    ("POST", "/v1/chat/completions", CHAT),
    ("POST", "/v1/chat/completions", {**CHAT, "stream": True}),
    ("POST", "/v1/completions", {"model": "m", "prompt": "hi"}),
    ("POST", "/v1/embeddings", {"model": "m", "input": "hi"}),
]
LISTS = ["/api/tags", "/api/ps", "/v1/models", "/v1/models/m"]
NEVER = HealthSettings(interval_s=0, models_refresh_s=0)


def backend(url: str) -> BackendSettings:
    return BackendSettings(url=url)


@attrs.define
class Hubs:
    """Hubs whose URLs were known before they were made; ``asked`` counts the requests to each by their paths."""

    members: list[RunningHub] = attrs.field(factory=list)
    asked: list[Counter[str]] = attrs.field(factory=list)
    lines: list[Any] = attrs.field(factory=list)

    @property
    def requests(self) -> int:
        return sum(counter.total() for counter in self.asked)

    def logged(self, event: str) -> list[Mapping[str, Any]]:
        return [line for line in self.lines if line["event"] == event]


@asynccontextmanager
async def hubs(
    count: int, backends: Callable[[int, Sequence[str]], Mapping[str, BackendSettings]], **settings: Any
) -> AsyncIterator[Hubs]:
    """Serve ``count`` hubs, each a hub of its own; ``backends`` gives those of one by its number and all URLs."""
    sockets = [_bound() for _ in range(count)]
    urls = [f"http://127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    served = Hubs()
    async with AsyncExitStack() as stack:
        served.lines = stack.enter_context(structlog.testing.capture_logs())
        http = await stack.enter_async_context(ClientSession())
        for number, (opened, url) in enumerate(zip(sockets, urls, strict=True)):
            named = HUB_ID.set(make_hub_id())
            chosen = Settings(**{"health": NEVER, **settings, "backends": backends(number, urls)})
            app = make_app(chosen, plugins=installed_plugins(chosen.plugins))
            HUB_ID.reset(named)
            app.middlewares.append(_counter(served))
            runner = make_runner(app, chosen, shutdown_timeout_s=1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.SockSite(runner, opened).start()
            served.members.append(RunningHub(url, app[SERVING].hub, http, served.lines, stack))
        yield served


def _bound() -> socket.socket:
    """Return a socket that refuses connections until it is served: the first of a ring does not wait for the next."""
    opened = socket.socket()
    opened.bind(("127.0.0.1", 0))
    return opened


def _counter(served: Hubs) -> Any:
    counter: Counter[str] = Counter()
    served.asked.append(counter)

    @web.middleware
    async def count(http_request: web.Request, handler: Any) -> web.StreamResponse:
        counter[http_request.path] += 1
        answer: web.StreamResponse = await handler(http_request)
        return answer

    return count


def ring(number: int, urls: Sequence[str]) -> Mapping[str, BackendSettings]:
    """The backends of a hub that has only the next one."""
    return {"next": backend(urls[(number + 1) % len(urls)])}


def mesh(number: int, urls: Sequence[str]) -> Mapping[str, BackendSettings]:
    return {f"hub{other}": backend(url) for other, url in enumerate(urls) if other != number}


def ask(hub: RunningHub, method: str, path: str, body: Any, **headers: str) -> Any:
    data = {"data": body} if isinstance(body, bytes | None) else {"json": body}
    return hub.http.request(method, hub.url + path, headers=headers, **data)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("method", "path", "body"), ASKS, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("api_mode", ["native", "openai"])
async def test_a_request_ends_where_it_began(api_mode: str, method: str, path: str, body: Any, count: int) -> None:
    """Each hub of a ring is asked once and the first refuses it; what it says reaches the client in its dialect."""
    if api_mode == "openai" and path.startswith("/api/") and path not in ("/api/chat", "/api/generate", "/api/embed"):
        pytest.skip("this adapter does not pass it on")
    async with hubs(count, ring, api_mode=api_mode) as served, ask(served.members[0], method, path, body) as answer:
        assert answer.status == 508
        if method == "HEAD":
            return
        told = error_of(await answer.json())
        assert answer.headers["x-should-retry"] == "false"
    ids = [member.hub.router.hub_id for member in served.members]
    assert " -> ".join((*ids, ids[0])) in told
    assert "`agenthub check`" in told
    # The first is asked by the client, each by the one before it, and never again.
    passed_on = [
        sum(times for one, times in asked.items() if one not in (*LISTS, "/api/version")) for asked in served.asked
    ]
    assert passed_on == [2, *[1] * (count - 1)]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("path", [*LISTS, "/ready"])
async def test_what_asks_every_backend(path: str, count: int) -> None:
    """Lists and readiness say what is wrong where nothing but the ring is known."""
    async with hubs(count, ring) as served:
        answer = await served.members[0].get(path)
    if path == "/ready":
        assert answer.status == 503
        assert "goes in a circle" in answer.json()["backends"]["next"]
    else:
        assert (answer.status, "goes in a circle" in error_of(answer.json())) == (508, True)
    assert len(served.logged("agenthub.backend_unreachable")) == count
    assert len(served.logged("agenthub.loop_refused")) <= count


@pytest.mark.parametrize("path", ["/health", "/", "/api/version", "/openapi.json"])
async def test_what_a_client_still_gets(path: str) -> None:
    """The process is up, and says so; editors get a version."""
    async with hubs(2, ring) as served:
        assert (await served.members[0].get(path)).status == 200


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("api_mode", ["native", "openai", "auto"])
async def test_the_log_does_not_grow(api_mode: str, count: int) -> None:
    """A ring that nobody asks anything writes its few lines, and then no more, however often it checks itself."""
    health = HealthSettings(interval_s=0.01, models_refresh_s=0.01)
    async with hubs(count, ring, health=health, api_mode=api_mode) as served:
        await until(lambda: all(asked.total() > 20 for asked in served.asked), 20.0)
        before = -1
        while before != len(served.lines):  # what is found out late, such as that a backend is down, is said once
            before, requests = len(served.lines), served.requests
            assert before <= 8 * count
            await until(lambda requests=requests: served.requests > 3 * requests, 20.0)  # type: ignore[misc]


async def test_what_hubs_ask_themselves_is_bounded() -> None:
    """One round of checks asks each member of a ring of three so often that a client's could not be told from it."""
    async with hubs(3, ring) as served:
        await asyncio.gather(*(member.hub.router.refresh() for member in served.members))
        await asyncio.sleep(0)
        before = served.requests
        await served.members[0].hub.router.refresh()
        assert served.requests - before <= 3


async def test_a_mesh_of_hubs() -> None:
    """Hubs that all name each other, each with a model of its own, list all models at a bounded price."""
    async with AsyncExitStack() as stack:
        ours = [await stack.enter_async_context(running(Standin(models=(f"m{number}",)))) for number in range(4)]
        served = await stack.enter_async_context(
            hubs(4, lambda number, urls: {"own": backend(ours[number]), **mesh(number, urls)})
        )
        for member in served.members:
            await member.hub.router.refresh()
        before = served.requests
        listed = await served.members[0].get("/api/tags")
        assert served.requests - before <= 1 + 3 + 3 * 3
        assert {model["name"].removesuffix(":latest") for model in listed.json()["models"]} == {"m0", "m1", "m2", "m3"}
        answer = await served.members[0].post("/api/chat", {**CHAT, "model": "m0"})
        assert answer.status == 200
        ways = [line["way"] for line in served.logged("agenthub.backend_loops")]
        assert len(ways) == len(set(map(str, served.logged("agenthub.backend_loops")))) <= 12


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_rings_do_not_wait_for_each_other(path: str) -> None:
    """Two hubs that are asked the same at the same time do not wait for the answer that the other waits for."""
    async with hubs(2, ring) as served:
        # Each would share the answer of the other's request, if hops did not tell them apart.
        body = {**CHAT, "temperature": 0, "seed": 1, "options": {"temperature": 0}}
        async with asyncio.timeout(15):
            answers = await asyncio.gather(*(member.post(path, body) for member in served.members * 4))
    assert {answer.status for answer in answers} == {508}


async def test_lists_do_not_wait_for_each_other() -> None:
    """The same for lists, of which a hub has one under way for all that ask."""
    async with hubs(2, ring, health=attrs.evolve(NEVER, ping_timeout_s=15.0)) as served, asyncio.timeout(10):
        answers = await asyncio.gather(*(member.get("/api/tags") for member in served.members * 4))
    assert {answer.status for answer in answers} == {508}


async def test_a_508_is_not_repeated() -> None:
    """It is neither tried again nor elsewhere, and the breaker lets the next request by."""
    breaker = CircuitBreakerSettings(failure_threshold=1)
    async with (
        serving(lambda path, body: Reply({"error": "this goes in a circle"}, status=508)) as one,
        serving(lambda path, body: Reply({"error": "no"}, status=500)) as two,
    ):
        backends = {"one": attrs.evolve(backend(one.url), priority=1), "two": backend(two.url)}
        async with running_hub(backends, circuit_breaker=breaker, health=NEVER) as hub:
            for path in ("/api/chat", "/v1/chat/completions", "/api/show"):
                answer = await hub.post(path, CHAT)
                assert (answer.status, error_of(answer.json())) == (508, "this goes in a circle")
                assert answer.headers["x-should-retry"] == "false"
    assert len(one.paths) == 3
    assert two.paths == []


def via(count: int) -> str:
    return ", ".join(f"1.1 {make_hub_id()}" for _ in range(count))


@pytest.mark.parametrize(
    ("path", "most"), [("/api/chat", MOST_HUBS), ("/api/tags", MOST_ASKING_ALL), ("/ready", MOST_ASKING_ALL)]
)
async def test_too_many_hubs(path: str, most: int) -> None:
    """Replicas behind one address have different names: what came through too many hubs is refused as well."""
    method = "POST" if path == "/api/chat" else "GET"
    async with running(Standin(models=("m",))) as url, running_hub(url) as hub:
        async with ask(hub, method, path, CHAT, Via=via(most - 1)) as answer:
            assert answer.status == 200
        async with ask(hub, method, path, CHAT, Via=via(most)) as answer:
            assert answer.status == 508
            assert f"through {most} hubs" in error_of(await answer.json())
        async with ask(hub, "GET", "/health", None, Via=f"1.1 {hub.hub.router.hub_id}") as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (["1.1 nginx"], "1.1 nginx"),
        (["1.0 fred (a, comment), 1.1 p.example.net:80"], "1.0 fred (a, comment), 1.1 p.example.net:80"),
        (["1.1 a", "HTTP/2 b"], "1.1 a, HTTP/2 b"),
        (["", " , "], ""),
        (["1.1 \xff\xfe, 1.1 b"], "1.1 b"),
        (["1.1 " + "x" * 300 + ", 1.1 b"], "1.1 b"),
        ([", ".join(["1.1 x"] * 2000)], ""),
        ([", ".join(["1.1 x"] * 99), "1.1 agenthub-0123456789abcdef"], "1.1 agenthub-0123456789abcdef"),
    ],
)
async def test_via_is_passed_on(given: list[str], passed: str) -> None:
    """What proxies say goes on with the hub at its end, tamed and bounded; of a long one only hubs are kept."""
    seen: list[str] = []

    async def note(http_request: web.Request) -> web.Response:
        seen.append(", ".join(http_request.headers.getall("Via")))
        return web.json_response({"message": {"role": "assistant", "content": "hi"}, "done": True})

    async with served_by(note) as url, running_hub(url, health=NEVER) as hub:
        seen.clear()
        headers = [("Via", value) for value in given]
        async with hub.http.post(f"{hub.url}/api/chat", json=CHAT, headers=headers) as answer:
            assert answer.status == 200
        assert seen == [", ".join(filter(None, (passed, f"1.1 {hub.hub.router.hub_id}")))]


@asynccontextmanager
async def served_by(handler: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    """Serve any POST by ``handler``, with lists as an Ollama without models has them."""

    async def answer(http_request: web.Request) -> web.StreamResponse:
        if http_request.method == "POST":
            response: web.StreamResponse = await handler(http_request)
            return response
        assert "Via" in http_request.headers
        return web.json_response({"models": [], "data": [], "version": "0.9.3"})

    async with served(answer) as url:
        yield url


async def test_two_hubs_in_line() -> None:
    """A hub behind a hub works, whole and streamed, and its models are listed."""
    async with running(Standin(models=("m",))) as url, running_hub(url) as inner, running_hub(inner.url) as outer:
        assert (await outer.post("/api/chat", CHAT)).status == 200
        assert (await outer.post("/v1/chat/completions", {**CHAT, "stream": True})).status == 200
        assert [model["id"] for model in (await outer.get("/v1/models")).json()["data"]] == ["m:latest"]
        assert LOOPS not in (await outer.get("/api/tags")).headers


def test_the_cost_of_a_long_header_is_linear() -> None:
    """Twice as many members of Via, and no more than twice the members are looked at; none of them is passed on."""
    assert Hops.parse(["a (" * 100_000, ", ," * 100_000], "agenthub-0", 8).via == "1.1 agenthub-0"
