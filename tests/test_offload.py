"""Large bodies beside the event loop: in a thread, step by step, and with the same answer as short ones."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from agenthub import ChatRequest, Message, Source
from agenthub import offload as offloading
from agenthub.dialects import ollama, openai
from agenthub.offload import offload
from agenthub.settings import BackendSettings, CachingSettings, ClientSettings, ModelSettings
from agenthub.standin import Fault, Standin, running
from tests.hubs import LANES, RunningHub, running_hub, until

PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}
LARGE = 2**18 + 1
HELLO = {"role": "user", "content": "hello there"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
FORMS: dict[str, dict[str, Any]] = {
    "messages": {"messages": [HELLO] * 8000},
    "unknown fields": {"messages": [HELLO], **{f"field{number}": number for number in range(20_000)}},
    "one nested field": {"messages": [HELLO], "unknown": {"a": [{"b": [1, {"c": []}]}] * 20_000}},
    "tools": {"messages": [HELLO], "tools": [TOOL] * 4000},
    "a long text": {"messages": [{"role": "user", "content": "\u00e4\\n " * 80_000}]},
}


@pytest.fixture(autouse=True)
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Count what lives of this test alone, and leave the garbage collector as it was."""
    monkeypatch.setattr(offloading, "_collector", offloading._Collector())
    yield
    assert gc.isenabled()
    gc.unfreeze()


@pytest.fixture
async def hub() -> AsyncIterator[RunningHub]:
    """In front of the stand-in through both adapters, with two aliases and a client that has but some models."""
    async with running(Standin()) as url:
        backends = {
            "native": BackendSettings(url=url, api_mode="native"),
            "openai": BackendSettings(url=url, api_mode="openai"),
        }
        models = {
            "native": ModelSettings(target="standin", backends=["native"], options={"temperature": 0}),
            "openai": ModelSettings(target="standin", backends=["openai"], options={"temperature": 0}),
        }
        caching = CachingSettings(policy="all")
        clients = {"some": ClientSettings(models=["native", "openai"])}
        async with running_hub(backends, models=models, caching=caching, clients=clients) as hub:
            await hub.get("/api/tags")
            yield hub


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Note in which threads requests are parsed and rendered."""
    noted: dict[str, set[str]] = {"parse": set(), "render": set()}

    def note(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any, **kwargs: Any) -> Any:
            noted[what].add(threading.current_thread().name.rpartition("_")[0])
            return function(*args, **kwargs)

        return noting

    from agenthub.dialects import lane
    from agenthub.dialects.ollama import chat as ollama_chat
    from agenthub.dialects.openai import chat as openai_chat

    for module in (ollama_chat, openai_chat):
        monkeypatch.setattr(module, "parse_fields", note("parse", module.parse_fields))
    monkeypatch.setattr(lane, "_changes", note("render", lane._changes))
    for module in (ollama_chat, openai_chat):
        monkeypatch.setattr(module, "dump_body", note("render", module.dump_body))
    return noted


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("dialect", "adapter"), LANES)
async def test_a_large_body_leaves_the_loop_alone(
    hub: RunningHub, threads: dict[str, set[str]], form: str, dialect: str, adapter: str
) -> None:
    """It is parsed and rendered in a thread, in every lane, by a client with few rights and through the cache."""
    body = {"model": adapter, "stream": False, **FORMS[form]}
    answers = [await hub.post(PATHS[dialect], body, X_Client_Name="some") for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert [answer.headers["X-AgentHub-Cache"] for answer in answers] == ["miss", "hit"]
    assert threads == {"parse": {"agenthub-large"}, "render": {"agenthub-large"}}


async def test_a_short_one_is_parsed_at_once(hub: RunningHub, threads: dict[str, set[str]]) -> None:
    """In the loop's own thread."""
    answer = await hub.post("/api/chat", {"model": "openai", "stream": False, "messages": [HELLO]})
    assert answer.status == 200
    assert threads == {"parse": {threading.main_thread().name.rpartition("_")[0]}, "render": {""}}


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize(
    "end", [b"", b",]}", b"]]", b'],"messages":1}', b'],"model":1}', b'],"x":"\xff"}', b'],"x":[1 2]}']
)
async def test_a_fault_gets_the_same_answer(hub: RunningHub, dialect: str, end: bytes) -> None:
    """As in a short body."""
    message = json.dumps(HELLO).encode()
    short, large = [
        await hub.post(PATHS[dialect], b'{"model":"native","messages":[' + b",".join([message] * count) + end)
        for count in (2, 8000)
    ]
    assert short.status == large.status == 400
    assert large.body == short.body


async def test_the_loop_turns_while_work_is_under_way() -> None:
    """It goes on, and ends what the work waits for."""
    turned = threading.Event()

    async def turn() -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        turned.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(turn())
        assert await offload(LARGE, turned.wait, 20)


async def test_what_is_small_is_done_at_once() -> None:
    """In the same thread, with no turn of the loop between."""
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    assert await offload(LARGE - 1, threading.current_thread) is threading.current_thread()
    assert turns == []


async def test_context_goes_along() -> None:
    """Variables of the caller are seen, and errors come out as they are."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    variable.set("mine")
    assert await offload(LARGE, variable.get) == "mine"
    with pytest.raises(ZeroDivisionError):
        await offload(LARGE, lambda: 1 // 0)


async def test_one_huge_job_at_a_time_holds_up_no_large_one() -> None:
    """Huge ones wait for each other, since each takes much memory; one of some megabytes goes past them."""
    first_runs, may_end = threading.Event(), threading.Event()

    def first() -> None:
        first_runs.set()
        may_end.wait(20)

    huge = 2**22 + 1
    one = asyncio.create_task(offload(huge, first))
    two = asyncio.create_task(offload(huge, lambda: "two"))
    await asyncio.to_thread(first_runs.wait, 20)
    assert await offload(LARGE, lambda: "large") == "large"
    assert not two.done()
    may_end.set()
    assert await two == "two"
    await one


async def test_work_that_nobody_waits_for_is_not_begun() -> None:
    """A client that leaves while others are served takes its job along."""
    runs, may_end, begun = threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        runs.set()
        may_end.wait(20)

    one = asyncio.create_task(offload(LARGE, first))
    await asyncio.to_thread(runs.wait, 20)
    two = asyncio.create_task(offload(LARGE, begun.append, "two"))
    await asyncio.sleep(0)
    two.cancel()
    with pytest.raises(asyncio.CancelledError):
        await two
    may_end.set()
    await one
    await offload(LARGE, begun.append, "three")
    assert begun == ["three"]


async def test_no_collection_during_large_work() -> None:
    """It would look at each of millions of new objects while everybody waits."""
    assert not await offload(LARGE, gc.isenabled)
    assert gc.isenabled()
    gc.disable()
    try:
        await offload(LARGE, gc.isenabled)
        assert not gc.isenabled()
    finally:
        gc.enable()


async def test_what_large_work_made_is_out_of_the_collectors_sight_while_it_lives() -> None:
    """And what was taken out of its sight along with it comes back when it is freed."""

    class Circle:
        def __init__(self) -> None:
            self.itself = self

    circles: list[weakref.ref[Circle]] = []

    def parse() -> ChatRequest:
        circles.append(weakref.ref(Circle()))
        messages = tuple([Message("user", str(number)) for number in range(5000)])
        return ChatRequest(model="m", messages=messages, source=Source("ollama", "/api/chat", b"x"))

    gc.unfreeze()
    request = await offload(LARGE, parse)
    assert gc.get_freeze_count() > 5000
    gc.collect()
    assert circles[0]() is not None
    del request
    await until(lambda: circles[0]() is None)
    assert offloading._collector.alive == 0


def test_large_parts_are_found_within_others() -> None:
    """Each list, tuple or dict that would take long to free at once."""
    deep = {"a": [{"b": list(range(2000))}]}
    images = tuple(["x"] * 3000)
    messages = tuple([Message("user")] * 1500 + [Message("user", images=images)])
    found = offloading._large_parts(["x" * 5000, deep, messages, [1, 2], {}])
    assert sorted(map(len, found)) == [1501, 2000, 3000]


@pytest.mark.parametrize("dialect", PATHS)
async def test_nothing_of_a_large_request_stays(hub: RunningHub, dialect: str) -> None:
    """Neither of one that is answered, nor of one that is refused or fails."""
    body = json.dumps({"model": "openai", "stream": False, "messages": [HELLO] * 8000}).encode()
    broken = body[:-1]

    for _ in range(2):
        assert (await hub.post(PATHS[dialect], body)).status == 200
        assert (await hub.post(PATHS[dialect], broken)).status == 400
        assert (await hub.post(PATHS[dialect], body.replace(b'"openai"', b'"nobody"'))).status == 404
    await until(lambda: offloading._collector.alive == 0)
    assert sum(type(found) is Message for found in gc.get_objects()) < 8000


async def test_failing_over_with_a_large_body() -> None:
    """The next backend is asked by the same thread's work."""
    first, second = Standin(), Standin()
    first.script(Fault.answer(500), Fault.answer(500))
    async with running(first) as one, running(second) as two:
        backends = {
            "one": BackendSettings(url=one, api_mode="native", priority=1),
            "two": BackendSettings(url=two, api_mode="openai"),
        }
        async with running_hub(backends) as hub:
            body = {"model": "standin", "stream": False, "messages": [HELLO] * 8000}
            answer = await hub.post("/api/chat", body)
            assert answer.status == 200
            assert answer.headers["X-AgentHub-Backend"] == "two"
            assert len(second.requests[-1].json()["messages"]) == 8000


@pytest.mark.parametrize(("dialect", "adapter"), LANES)
async def test_a_large_body_asks_the_same(hub: RunningHub, dialect: str, adapter: str) -> None:
    """What the upstream gets is what it would get of a short one."""
    standin_body = {
        "model": adapter,
        "stream": False,
        "messages": [HELLO, {"role": "assistant", "content": "x"}] * 4000,
    }
    explained = []
    for count in (2, 4000):
        body = {**standin_body, "messages": standin_body["messages"][: 2 * count]}  # type: ignore[index]
        described = {"method": "POST", "path": PATHS[dialect], "body": body}
        answer = await hub.post("/hub/explain", described)
        (sent,) = json.loads(answer.body)["upstream"]["requests"]
        explained.append(json.loads(sent["body"]))
    short, large = explained
    assert large["messages"][:4] == short["messages"]
    assert len(large["messages"]) == 8000
    assert {**large, "messages": []} == {**short, "messages": []}


@pytest.mark.parametrize("parse", [ollama.chat.parse_request, openai.chat.parse_request])
def test_messages_of_a_huge_body_are_made_one_by_one(
    parse: Callable[[bytes], ChatRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never all of them as dicts and as messages at once, which would take twice the memory."""
    from agenthub.dialects import large

    alive, most = 0, 0

    class Counted(dict[str, Any]):
        def __init__(self, value: dict[str, Any]) -> None:
            nonlocal alive, most
            super().__init__(value)
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    run = large.PieceParser.run

    def counted(self: Any, piece: Any) -> Any:
        found = run(self, piece)
        return [Counted(item) for item in found] if isinstance(found, list) else found

    monkeypatch.setattr(large.PieceParser, "run", counted)
    body = json.dumps({"model": "m", "messages": [HELLO] * 110_000}).encode()
    assert len(body) > 2**22
    assert len(parse(body).messages) == 110_000
    assert most < 10_000
