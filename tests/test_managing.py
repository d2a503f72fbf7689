"""The verbs that manage models, through the whole hub: pull, push, create, copy, delete, show and ps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import ollama
import pytest

from agenthub.settings import BackendSettings, CircuitBreakerSettings, HealthSettings, ModelSettings
from agenthub.standin import Fault, Standin, running
from tests.hubs import Answered, RunningHub, running_hub

NO_REFRESH = HealthSettings(models_refresh_s=0, interval_s=0)
SUCCESS = {"status": "success"}


@pytest.fixture
def standin() -> Standin:
    return Standin(models=("standin", "standin-embed"))


@pytest.fixture
async def upstream(standin: Standin) -> AsyncIterator[str]:
    async with running(standin) as url:
        yield url


@pytest.fixture(params=["native", "openai"])
async def hub(upstream: str, request: pytest.FixtureRequest) -> AsyncIterator[RunningHub]:
    """Through either API: what an Ollama's OpenAI API lacks is asked by its own."""
    async with running_hub(upstream, health=NO_REFRESH, api_mode=request.param) as running_one:
        yield running_one


async def send(hub: RunningHub, method: str, path: str, body: object = None) -> Answered:
    """Send JSON, or bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with hub.http.request(method, hub.url + path, data=data) as response:
        return Answered(response.status, response.headers, await response.read())


async def names(hub: RunningHub) -> set[str]:
    return {model["id"] for model in (await hub.get("/v1/models")).json()["data"]}


def outcomes(hub: RunningHub) -> list[tuple[str, str, int | None]]:
    return [(line["operation"], line["outcome"], line["status"]) for line in hub.dispatches()]


async def test_a_pull_streams_its_progress(hub: RunningHub, upstream: str, standin: Standin) -> None:
    """The upstream's lines byte for byte, and one line in the log; the model can be used at once, listed or not."""
    answer = await send(hub, "POST", "/api/pull", {"model": "fresh"})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
    frames = answer.frames()
    assert (frames[0], frames[-1]) == ({"status": "pulling manifest"}, SUCCESS)
    assert any(frame.get("completed") for frame in frames)
    direct = hub.http.post(f"{upstream}/api/pull", json={"model": "fresh"})
    async with direct as response:
        assert answer.body == await response.read()
    assert hub.hub.router.find("fresh") is not None
    assert outcomes(hub) == [("pull", "ok", 200)]
    assert hub.dispatches()[0]["model"] == "fresh"


@pytest.mark.parametrize("verb", ["pull", "push", "create"])
async def test_a_whole_answer_is_the_last_line(hub: RunningHub, verb: str) -> None:
    """With ``stream: false``."""
    body = {"model": "standin", "stream": False} | ({"from": "standin-embed"} if verb == "create" else {})
    answer = await send(hub, "POST", f"/api/{verb}", body)
    assert (answer.status, answer.json()) == (200, SUCCESS)
    assert answer.headers["Content-Type"] == "application/json"


async def test_copy_show_and_delete(hub: RunningHub) -> None:
    """An empty body is the answer, without a type; lists and routing know at once."""
    copied = await send(hub, "POST", "/api/copy", {"source": "standin", "destination": "twin"})
    assert (copied.status, copied.body) == (200, b"")
    assert "Content-Type" not in copied.headers
    assert hub.hub.router.find("twin") is not None
    assert (await hub.post("/api/show", {"model": "twin"})).status == 200
    deleted = await send(hub, "DELETE", "/api/delete", {"model": "twin"})
    assert (deleted.status, deleted.body) == (200, b"")
    assert hub.hub.router.find("twin") is None
    assert await names(hub) == {"standin:latest", "standin-embed:latest"}
    missing = await send(hub, "DELETE", "/api/delete", {"model": "twin"})
    assert (missing.status, missing.json()) == (404, {"error": "model 'twin' not found"})
    assert outcomes(hub) == [
        ("copy", "ok", 200),
        ("show", "ok", 200),
        ("delete", "ok", 200),
        ("delete", "rejected", 404),
    ]


async def test_the_old_word_for_a_model(hub: RunningHub) -> None:
    """``name`` is taken for ``model``, keys in any case."""
    assert (await send(hub, "POST", "/api/pull", {"name": "old-word"})).frames()[-1] == SUCCESS
    assert (await send(hub, "POST", "/api/create", {"Name": "made", "FROM": "old-word"})).frames()[-1] == SUCCESS
    assert (await send(hub, "POST", "/api/push", {"name": "made"})).frames()[-1] == SUCCESS
    assert (await send(hub, "POST", "/api/show", {"name": "made"})).status == 200
    assert (await send(hub, "DELETE", "/api/delete", {"name": "made"})).status == 200
    assert await names(hub) == {"standin:latest", "standin-embed:latest", "old-word:latest"}


PULL, PUSH, CREATE = ("POST", "/api/pull"), ("POST", "/api/push"), ("POST", "/api/create")
COPY, DELETE = ("POST", "/api/copy"), ("DELETE", "/api/delete")
UNMARSHAL = "json: cannot unmarshal {} into Go struct field {} of type {}"
REFUSED: list[tuple[tuple[str, str], bytes, str]] = [
    *((call, b"", "missing request body") for call in (PULL, PUSH, CREATE, COPY, DELETE)),
    *((call, b'{"model":', "unexpected EOF") for call in (PULL, PUSH, CREATE, COPY, DELETE)),
    (PULL, b"[]", "json: cannot unmarshal array into Go value of type api.PullRequest"),
    (PULL, b"x", "invalid character 'x' looking for beginning of value"),
    (PULL, b"{}", "invalid model name"),
    (PULL, b'{"model":"a b"}', "invalid model name"),
    (PULL, b'{"model":5}', UNMARSHAL.format("number", "PullRequest.model", "string")),
    (PULL, b'{"model":"m","stream":"x"}', UNMARSHAL.format("string", "PullRequest.stream", "bool")),
    (PUSH, b'{"model":""}', "model is required"),
    (CREATE, b'{"from":"standin"}', "invalid model name"),
    (CREATE, b'{"model":"m","stream":false}', "neither 'from' or 'files' was specified"),
    (CREATE, b'{"model":"m","files":5}', UNMARSHAL.format("number", "CreateRequest.files", "map[string]string")),
    (COPY, b"{}", 'source "" is invalid'),
    (COPY, b'{"source":"standin"}', 'destination "" is invalid'),
    (COPY, b'{"source":"standin","destination":"a b"}', 'destination "a b" is invalid'),
    (DELETE, b"{}", "model is required"),
    (DELETE, b'{"model":"a b"}', 'name "a b" is invalid'),
]  # fmt: skip


@pytest.mark.parametrize(("call", "body", "words"), REFUSED)
async def test_bad_bodies_are_refused_in_ollamas_words(
    hub: RunningHub, call: tuple[str, str], body: bytes, words: str
) -> None:
    """400, and the same words as the upstream's own."""
    answer = await send(hub, *call, body)
    assert (answer.status, answer.json()) == (400, {"error": words})


async def test_a_model_that_the_registry_lacks(hub: RunningHub) -> None:
    """An error line after the first, passed as it is; whole a 500 with the same words. No fault of the backend."""
    for _ in range(3):
        streamed = await send(hub, "POST", "/api/pull", {"model": "nope"})
        error = {"error": "pull model manifest: file does not exist"}
        assert (streamed.status, streamed.frames()) == (200, [{"status": "pulling manifest"}, error])
        whole = await send(hub, "POST", "/api/pull", {"model": "nope", "stream": False})
        assert (whole.status, whole.json()) == (500, error)
    assert (await hub.post("/api/show", {"model": "standin"})).status == 200
    assert set(outcomes(hub)) == {("pull", "failed", 200), ("pull", "failed", 500), ("show", "ok", 200)}
    assert hub.dispatches()[0]["error"] == error["error"]


async def test_what_follows_an_error_line_is_passed_on(hub: RunningHub, standin: Standin) -> None:
    """Ollama 0.9.3 says error and then success, when it made a model of one that it could not pull: a failure."""
    lines = b'{"status":"pulling manifest"}\n{"error":"no such host","status":400}\n{"status":"success"}\n'
    kind = {"Content-Type": "application/x-ndjson"}
    standin.script(Fault.answer(200, body=lines, headers=kind).at("/api/create"))
    answer = await send(hub, "POST", "/api/create", {"model": "m", "from": "nope"})
    assert (answer.status, answer.body) == (200, lines)
    assert outcomes(hub) == [("create", "failed", 200)]


@pytest.mark.parametrize(
    ("asked", "body", "kind", "status", "expected"),
    [
        (True, b'{"status":"success"}', "application/json", 200, [SUCCESS]),
        (False, b'{"status":"a"}\n{"status":"success"}\n', "application/x-ndjson", 200, [SUCCESS]),
        (False, b'{"status":"a"}\n{"error":"gone"}\n', "application/x-ndjson", 500, [{"error": "gone"}]),
        (False, b'{"error":"gone"}', "application/json", 500, [{"error": "gone"}]),
    ],
)
async def test_an_upstream_that_answers_in_the_wrong_form_is_put_right(
    hub: RunningHub, standin: Standin, asked: bool, body: bytes, kind: str, status: int, expected: object
) -> None:
    """Whole to a streamed request, or streamed to a whole one."""
    standin.script(Fault.answer(200, body=body, headers={"Content-Type": kind}).at("/api/pull"))
    answer = await send(hub, "POST", "/api/pull", {"model": "m", "stream": asked})
    assert (answer.status, answer.frames()) == (status, expected)
    assert answer.headers["Content-Type"].startswith("application/x-ndjson" if asked else "application/json")


@pytest.mark.parametrize(
    "fault", [Fault.truncate(after=3), Fault.reset(after=3), Fault.close(after=3), Fault.garbage(after=3)]
)
async def test_a_stream_without_an_end_mark_is_an_error(upstream: str, standin: Standin, fault: Fault) -> None:
    """The lines that came, then an error line, never success; the breaker counts it, and opens."""
    one_failure = CircuitBreakerSettings(failure_threshold=1)
    async with running_hub(upstream, health=NO_REFRESH, circuit_breaker=one_failure) as hub:
        standin.script(fault.at("/api/pull"))
        answer = await send(hub, "POST", "/api/pull", {"model": "fresh"})
        frames = answer.frames()
        assert answer.status == 200
        assert [list(frame) for frame in frames].count(["error"]) == 1
        assert "error" in frames[-1]
        assert SUCCESS not in frames
        assert (await send(hub, "POST", "/api/pull", {"model": "fresh"})).status == 503
    assert standin.find("fresh") is None


async def test_a_backend_that_is_down_is_counted(standin: Standin) -> None:
    """A connection that fails is a fault of the backend's; an answer of 503 too."""
    async with running(standin) as upstream:
        standin.down = True
        async with running_hub(upstream, health=NO_REFRESH) as hub:
            assert [(await send(hub, *PULL, {"model": "m"})).status for _ in range(4)] == [503] * 4
            assert "circuit breaker" in (await send(hub, *PULL, {"model": "m"})).json()["error"]
    async with running_hub(upstream, health=NO_REFRESH) as hub:
        assert [(await send(hub, *DELETE, {"model": "m"})).status for _ in range(4)] == [502] * 3 + [503]


async def test_silence_is_no_failure_of_a_pull(standin: Standin) -> None:
    """Verifying and writing take minutes without a line: neither the first line nor the next is timed."""
    standin.pace_s = 0.03
    async with running(standin) as upstream:
        impatient = {"box": BackendSettings(url=upstream, first_event_timeout_s=0.01, idle_timeout_s=0.01)}
        async with running_hub(impatient, health=NO_REFRESH) as hub:
            standin.script(Fault.delay(0.1).at("/api/pull"))
            assert (await send(hub, *PULL, {"model": "fresh"})).frames()[-1] == SUCCESS
            chat = await hub.post("/api/chat", {"model": "standin", "messages": [{"content": "hi"}]})
            assert "silent" in chat.frames()[-1]["error"]


async def test_a_client_that_leaves_ends_the_pull(hub: RunningHub, standin: Standin) -> None:
    """The upstream's connection closes soon, so that Ollama stops pulling; nothing is counted."""
    standin.pace_s = 0.05
    async with hub.http.post(hub.url + "/api/pull", json={"model": "fresh"}) as response:
        await response.content.readany()
        response.close()
    await standin.abandoned.reach(1, timeout_s=10.0)
    assert [line["outcome"] for line in hub.dispatches()] == ["abandoned"]
    assert standin.find("fresh") is None


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/pull", {"model": "standin"}),
        ("POST", "/api/push", {"model": "standin"}),
        ("POST", "/api/create", {"model": "m", "from": "standin"}),
        ("POST", "/api/create", {"model": "m", "files": {"a": "sha256:00"}}),
        ("POST", "/api/copy", {"source": "standin", "destination": "m"}),
        ("DELETE", "/api/delete", {"model": "standin"}),
        ("POST", "/api/blobs/sha256:" + 64 * "0", {}),
        ("HEAD", "/api/blobs/sha256:" + 64 * "0", {}),
    ],
)
async def test_an_api_without_the_verb_says_so(
    upstream: str, standin: Standin, method: str, path: str, body: object
) -> None:
    """501 before any line, naming the backend; nothing is sent upstream. The header can choose the other API."""
    other = {"ollama": BackendSettings(url=upstream, api_mode="openai", flavour="generic")}
    async with running_hub(other, health=NO_REFRESH) as hub:
        answer = await send(hub, method, path, body)
        verb = path.split("/")[2]
        assert answer.status == 501
        if method != "HEAD":
            words = f"{verb} is not supported by backend ollama through its openai API"
            assert answer.json() == {"error": words}
        assert outcomes(hub) == [(verb, "failed", 501)]
        assert [request.path for request in standin.requests if request.method != "GET"] == []
        native = {"X-AgentHub-Api-Mode": "native"}
        async with hub.http.request(method, hub.url + path, json=body, headers=native) as response:
            assert response.status != 501


async def test_aliases_apply_and_all_else_keeps_its_bytes(upstream: str, standin: Standin) -> None:
    """What must be there is called by its own name upstream; the name of what is made stays as it was written."""
    aliases = {"nick": ModelSettings(target="standin", options={"num_ctx": 512})}
    async with running_hub(upstream, models=aliases, health=NO_REFRESH) as hub:
        sent = [
            (COPY, b'{ "destination":"nick2", "source" : %s,"x":1.50 }', b'"nick"'),
            (CREATE, b'{"model":"nick","from":%s,"parameters":{"seed":1e0}}', b'"NICK"'),
            (PUSH, b'{"model":%s, "insecure":true}', b'"nick:latest"'),
            (PULL, b'{"name":"nick","model":%s}', b'""'),
            (DELETE, b'{"model": %s}', b'"nick"'),
        ]
        for call, body, name in sent:
            answer = await send(hub, *call, body % name)
            assert answer.status == 200
            assert "X-AgentHub-Dropped" not in answer.headers
            asked = [request for request in standin.requests if request.path == call[1]]
            assert asked[-1].body == body % b'"standin"'
    assert {model.name for model in standin.models} == {"standin-embed", "nick2", "nick"}


async def test_the_ollama_package(hub: RunningHub) -> None:
    """Its calls, asynchronous: whole, streamed, and its errors."""
    client = hub.ollama
    assert (await client.pull("fresh")).status == "success"
    parts = [part async for part in await client.pull("fresh", stream=True)]
    assert parts[-1].status == "success"
    assert any(part.completed and part.total for part in parts)
    assert (await client.create("made", from_="fresh", system="Be brief.")).status == "success"
    assert [part async for part in await client.create("made", from_="fresh", stream=True)][-1].status == "success"
    assert (await client.push("made")).status == "success"
    assert [part async for part in await client.push("made", stream=True)][-1].status == "success"
    assert (await client.copy("made", "copied")).status == "success"
    assert (await client.show("copied")).modelinfo is not None
    assert (await client.delete("copied")).status == "success"
    with pytest.raises(ollama.ResponseError, match="not found") as missing:
        await client.delete("copied")
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="file does not exist") as failed:
        await client.pull("nope")
    assert failed.value.status_code == 500
    with pytest.raises(ollama.ResponseError, match="file does not exist"):
        [part async for part in await client.pull("nope", stream=True)]


async def test_the_synchronous_ollama_package(hub: RunningHub) -> None:
    """The same, blocking."""

    def calls() -> list[str | None]:
        client = ollama.Client(host=hub.url)
        try:
            streamed = [*client.pull("fresh", stream=True)][-1], [*client.push("fresh", stream=True)][-1]
            created = [*client.create("made", from_="fresh", stream=True)][-1]
            whole = client.pull("fresh"), client.push("fresh"), client.create("made", from_="fresh")
            return [part.status for part in (*streamed, created, *whole, client.copy("made", "b"), client.delete("b"))]
        finally:
            client._client.close()

    assert await asyncio.to_thread(calls) == ["success"] * 8


@pytest.fixture
async def several() -> AsyncIterator[Callable[..., Any]]:
    """Makes a hub in front of stand-ins, one for each name, and gives them by name too."""
    async with AsyncExitStack() as stack:

        async def make(backends: dict[str, dict[str, Any]], **settings: Any) -> tuple[RunningHub, dict[str, Standin]]:
            standins = {name: Standin(models=(f"only-{name}", "shared")) for name in backends}
            made = {
                name: BackendSettings(url=await stack.enter_async_context(running(standins[name])), **fields)
                for name, fields in backends.items()
            }
            hub = await stack.enter_async_context(running_hub(made, health=NO_REFRESH, **settings))
            return hub, standins

        yield make


async def where(hub: RunningHub, call: tuple[str, str], body: object) -> str:
    """Return the backend that a call went to, or its status."""
    answer = await send(hub, *call, body)
    return answer.headers.get("X-AgentHub-Backend") or str(answer.status)


BLOB = ("HEAD", "/api/blobs/sha256:" + 64 * "0")
FILES = {"files": {"a.gguf": "sha256:" + 64 * "0"}}


async def test_where_verbs_go_without_a_default(several: Callable[..., Any]) -> None:
    """To the backend that has the model; what is new to the one that its name fits, else to the first that can."""
    backends = {
        "v": {"api_mode": "openai", "flavour": "generic", "models": ("only-*", "shared")},
        "a": {},
        "b": {"models": ("b-*", "only-b")},
    }
    aliases = {"pinned": ModelSettings(target="new", backends=("a",))}
    hub, standins = await several(backends, models=aliases)
    assert await where(hub, PULL, {"model": "only-a"}) == "a"
    assert await where(hub, PULL, {"model": "shared"}) == "a"
    assert await where(hub, PULL, {"model": "b-new"}) == "b"
    assert await where(hub, PULL, {"model": "pinned"}) == "a"
    assert await where(hub, PULL, {"model": "anything"}) == "a"
    assert await where(hub, PULL, {"model": "only-v"}) == "501"
    assert await where(hub, PULL, {"model": "only-new"}) == "501"
    assert await where(hub, COPY, {"source": "only-b", "destination": "only-b:2"}) == "b"
    assert await where(hub, PUSH, {"model": "only-b"}) == "b"
    assert await where(hub, CREATE, {"model": "b-made", "from": "only-b"}) == "b"
    assert await where(hub, CREATE, {"model": "made", "from": "unknown"}) == "a"
    assert await where(hub, CREATE, {"model": "made", "from": "only-b"} | FILES) == "a"
    assert await where(hub, CREATE, {"model": "made"}) == "a"
    assert await where(hub, BLOB, None) == "404"
    assert [request.path for request in standins["a"].requests if request.method == "HEAD"] == [BLOB[1]]
    assert await where(hub, DELETE, {"model": "only-b"}) == "b"
    assert await where(hub, DELETE, {"model": "only-b"}) == "404"
    assert standins["b"].find("b-new") is not None


async def test_where_verbs_go_with_a_default(several: Callable[..., Any]) -> None:
    """What is new, and files, go to the default backend, unless it lacks the verb."""
    hub, standins = await several({"a": {}, "b": {}}, default_backend="b")
    assert await where(hub, PULL, {"model": "anything"}) == "b"
    assert await where(hub, PULL, {"model": "only-a"}) == "a"
    assert await where(hub, CREATE, {"model": "made"} | FILES) == "b"
    assert await where(hub, CREATE, {"model": "made", "from": "only-a"}) == "a"
    assert await where(hub, BLOB, None) == "404"
    assert [request.method for request in standins["b"].requests if request.path == BLOB[1]] == ["HEAD"]
    assert await where(hub, DELETE, {"model": "unknown"}) == "404"
    assert [request.path for request in standins["b"].requests if request.method == "DELETE"] == ["/api/delete"]


async def test_a_default_without_the_verb(several: Callable[..., Any]) -> None:
    """Then the first backend that has it."""
    hub, _ = await several({"v": {"api_mode": "openai", "flavour": "generic"}, "a": {}}, default_backend="v")
    assert await where(hub, PULL, {"model": "anything"}) == "a"
    assert await where(hub, PUSH, {"model": "only-v"}) == "501"


async def test_an_ollama_behind_its_openai_api_is_a_default_like_any_other(several: Callable[..., Any]) -> None:
    """It has the verbs, whether it was found out or a setting names it."""
    for flavour in ("auto", "ollama"):
        hub, standins = await several({"v": {"api_mode": "openai", "flavour": flavour}, "a": {}}, default_backend="v")
        assert await where(hub, PULL, {"model": "anything"}) == "v"
        assert await where(hub, PUSH, {"model": "only-v"}) == "v"
        assert await where(hub, CREATE, {"model": "made"} | FILES) == "v"
        assert await where(hub, BLOB, None) == "404"
        assert [request.path for request in standins["v"].requests if request.method == "HEAD"] == [BLOB[1]]


async def test_a_model_that_no_backend_is_meant_for(several: Callable[..., Any]) -> None:
    """Is not pulled to where nobody could ask it."""
    hub, _ = await several({"a": {"models": ("x*",)}, "b": {"models": ("y*",)}})
    answer = await send(hub, *PULL, {"model": "z"})
    assert (answer.status, answer.json()) == (404, {"error": "model 'z' not found"})


async def test_a_list_asked_for_before_a_change_does_not_undo_it(hub: RunningHub, standin: Standin) -> None:
    """One that comes late, because it was asked for earlier, is not taken for the newer."""
    await hub.get("/api/tags")
    stale = json.dumps({"models": [{"name": "standin:latest"}]}).encode()
    late = Fault.answer(200, body=stale, headers={"Content-Type": "application/json"})
    standin.script(Fault(status=200, body=stale, headers=late.headers, delay_s=0.3, path="/api/tags"))
    asked = standin.received.count
    refreshing = asyncio.create_task(hub.hub.router.refresh())
    await standin.received.reach(asked + 1)
    await send(hub, *PULL, {"model": "fresh"})
    await refreshing
    assert hub.hub.router.find("fresh") is not None


@pytest.mark.parametrize("capabilities", [None, [], "tools"])
async def test_show_has_what_clients_need(hub: RunningHub, standin: Standin, capabilities: object) -> None:
    """``model_info`` and ``capabilities``, also of an Ollama that is too old to tell; other bytes stay as they were."""
    body = b'{"template":"{{ .Tools }} {{ .Suffix }}","size": 1.50'
    if capabilities is not None:
        body += b',"model_info":null,"capabilities":' + json.dumps(capabilities).encode()
    standin.script(Fault.answer(200, body=body + b"}", headers={"Content-Type": "application/json"}).at("/api/show"))
    answer = await hub.post("/api/show", {"model": "standin"})
    shown = answer.json()
    assert (shown["model_info"], shown["capabilities"]) == ({}, ["completion", "tools", "insert"])
    assert answer.body.startswith(b'{"template":"{{ .Tools }} {{ .Suffix }}","size": 1.50,')


@pytest.mark.parametrize("hub", ["native"], indirect=True)
async def test_show_of_what_is_no_object_is_the_upstreams_failure(hub: RunningHub, standin: Standin) -> None:
    """502, logged as failed. The openai adapter then makes the answer of what is listed."""
    standin.script(Fault.answer(200, body=b"[]", headers={"Content-Type": "application/json"}).at("/api/show"))
    answer = await hub.post("/api/show", {"model": "standin"})
    assert answer.status == 502
    assert outcomes(hub) == [("show", "failed", 502)]


@pytest.mark.parametrize("adapter", ["native", "openai"])
async def test_show_for_copilot(upstream: str, adapter: str) -> None:
    """GitHub Copilot shows its user the name that was asked for; others get what the upstream says."""
    aliases = {"nick": ModelSettings(target="standin")}
    async with running_hub(upstream, api_mode=adapter, models=aliases) as hub:
        for name in ("standin", "nick"):
            shown = await hub.post("/api/show", {"model": name}, User_Agent="GitHubCopilotChat/0.31.0")
            plain = await hub.post("/api/show", {"model": name}, User_Agent="curl/8")
            info = shown.json()["model_info"]
            assert info.pop("general.basename") == name
            assert shown.json() | {"model_info": info} == plain.json()
            assert plain.json()["capabilities"]


async def test_ps_joins_the_backends(several: Callable[..., Any]) -> None:
    """Latest expiry first; expiry and context length as each backend knows them."""
    hub, standins = await several({"a": {}, "v": {"api_mode": "openai", "flavour": "generic"}, "b": {}})
    now = iter(range(1_900_000_000, 1_900_001_000))
    for standin in standins.values():
        standin.clock = lambda: next(now) * 10**9
    for name in ("only-b", "only-a"):
        await hub.post("/api/generate", {"model": name})
    await hub.post("/api/generate", {"model": "only-v"})
    entries = (await hub.get("/api/ps")).json()["models"]
    assert [entry["name"] for entry in entries] == ["only-a:latest", "only-b:latest", "only-v:latest"]
    assert [entry.get("context_length") for entry in entries] == [2048, 2048, None]
    assert sorted((entry["expires_at"] for entry in entries), reverse=True) == [
        entry["expires_at"] for entry in entries
    ]
    assert all(isinstance(entry["size_vram"], int) for entry in entries)
