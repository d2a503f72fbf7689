"""Cases of both dialects that no other test names, each in every lane that it has."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import openai
import pytest

from agenthub.settings import BackendSettings
from tests.hubs import ONCE, RunningHub, error_of, running_hub
from tests.upstreams import HI, PATHS, Reply, Upstream, answering, chunk, serving

CHAT = PATHS["openai"]
MODES = ("native", "openai")


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serving(answering()) as one:
        yield one


@pytest.fixture(params=MODES)
async def hub(request: pytest.FixtureRequest, upstream: Upstream) -> AsyncIterator[RunningHub]:
    async with running_hub(upstream.url, api_mode=request.param) as one:
        yield one


@pytest.mark.parametrize("name", ["a/b:c", "hf.co/a/b:Q4_K_M", "x:cloud", "x:20b-cloud", "M:1.5b@x", "naïve ☕", "a b"])
async def test_names_of_models(hub: RunningHub, upstream: Upstream, lane: tuple[str, str], name: str) -> None:
    """They go upstream as they were written, and the answer, where the hub makes it, has the same spelling."""
    body = {"model": name, "messages": HI, "stream": False}
    answer = await hub.post(PATHS[lane[0]], body)
    assert upstream.asked[0]["model"] == name
    crosses = answer.headers["X-AgentHub-Api-Mode"] != {"ollama": "native", "openai": "openai"}[lane[0]]
    assert not crosses or answer.json()["model"] == name


@pytest.mark.parametrize("spelled", ["m", "M", "m:latest", "M:Latest"])
@pytest.mark.parametrize("streamed", [True, False])
async def test_spellings_of_a_listed_model(
    upstream: Upstream, lane: tuple[str, str], spelled: str, streamed: bool
) -> None:
    """Such a server knows but the id that it lists, an Ollama each spelling; the answer has the client's."""
    async with running_hub(upstream.url, api_mode=lane[1]) as hub:
        answer = await hub.post(PATHS[lane[0]], {"model": spelled, "messages": HI, "stream": streamed})
        assert upstream.asked[0]["model"] == (spelled if lane[1] == "native" else "m")
        if lane[1] == "openai":
            named = {one.get("model", spelled) for one in answer.frames() if one != "[DONE]"}
            assert named == {spelled}
            shown = await hub.post("/api/show", {"model": spelled})
            assert (shown.status, "model_info" in shown.json()) == (200, True)


@pytest.mark.parametrize("path", ["/v1/models/nope", "/v1/models/a%2Fb", "/v1/models/a/b:c"])
async def test_models_that_are_not_there(hub: RunningHub, path: str) -> None:
    """404 as OpenAI's clients know it; the openai package raises NotFoundError and asks once."""
    answer = await hub.get(path)
    assert (answer.status, answer.json()["error"]["code"]) == (404, "model_not_found")
    with pytest.raises(openai.NotFoundError) as caught:
        await hub.openai.models.retrieve(path.removeprefix("/v1/models/"))
    assert caught.value.request_id


async def test_a_model_that_the_upstream_lacks(lane: tuple[str, str]) -> None:
    """Its 404 keeps its words, in the asking dialect's shape, and the openai package asks once."""
    words = "model 'nope' not found"
    body = {"error": words if lane[1] == "native" else {"message": words, "type": "not_found_error"}}
    async with (
        serving(lambda path, _: Reply(body, status=404)) as upstream,
        running_hub(upstream.url, api_mode=lane[1]) as hub,
    ):
        for stream in (True, False):
            answer = await hub.post(PATHS[lane[0]], {"model": "nope", "messages": HI, "stream": stream})
            assert (answer.status, error_of(answer.json())) == (404, words)
            assert answer.headers["Content-Type"].startswith("application/json")
        with pytest.raises(openai.NotFoundError, match="not found"):
            await hub.openai.with_options(max_retries=2).chat.completions.create(model="nope", messages=HI)
        assert len(upstream.asked) == 3


async def test_no_models_at_all() -> None:
    """Two empty lists, never null."""

    async with serving(lambda path, body: Reply({})) as upstream:
        upstream.listed = {"models": None, "data": None, "version": "0.9.3"}
        for mode in MODES:
            async with running_hub(upstream.url, api_mode=mode) as hub:
                assert (await hub.get("/api/tags")).json() == {"models": []}
                assert (await hub.get("/v1/models")).json() == {"object": "list", "data": []}


@pytest.mark.parametrize("stream", [True, False])
async def test_limits_of_rate(lane: tuple[str, str], stream: bool) -> None:
    """429 before the first byte stays one, with Retry-After and the rates, also where a stream was asked for."""
    headers = {"Retry-After": "7", "x-ratelimit-remaining-tokens": "0", "Set-Cookie": "a=b"}
    async with (
        serving(lambda path, body: Reply({"error": "slow down"}, status=429, headers=headers)) as upstream,
        running_hub(upstream.url, api_mode=lane[1], retries=ONCE) as hub,
    ):
        answer = await hub.post(PATHS[lane[0]], {"model": "m", "messages": HI, "stream": stream})
        assert (answer.status, error_of(answer.json())) == (429, "slow down")
        assert answer.headers["Content-Type"].startswith("application/json")
        assert {name: answer.headers.get(name) for name in headers} == headers | {"Set-Cookie": None}


async def test_where_to_sign_in(lane: tuple[str, str]) -> None:
    """Ollama's clients are told where; OpenAI's get the object that they know."""
    body = {"error": "unauthorized", "signin_url": "https://example.org/x"}
    async with (
        serving(lambda path, _: Reply(body, status=401)) as upstream,
        running_hub(upstream.url, api_mode=lane[1]) as hub,
    ):
        answer = await hub.post(PATHS[lane[0]], {"model": "m", "messages": HI})
        error = {"message": "unauthorized", "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
        assert (answer.status, answer.json()) == (401, body if lane[0] == "ollama" else {"error": error})


@pytest.mark.parametrize("words", ['"m" does not support thinking', "library/m:latest does not support tools"])
async def test_what_a_model_cannot_do(lane: tuple[str, str], words: str) -> None:
    """The upstream's 400 and its words reach each client, and are not counted against the backend."""
    async with (
        serving(lambda path, _: Reply({"error": words}, status=400)) as upstream,
        running_hub(upstream.url, api_mode=lane[1]) as hub,
    ):
        for _ in range(5):
            answer = await hub.post(PATHS[lane[0]], {"model": "m", "messages": HI})
            assert (answer.status, error_of(answer.json())) == (400, words)


async def test_ids_of_answers(hub: RunningHub) -> None:
    """Each answer to OpenAI's clients has its own id, and each chunk of one stream the same."""
    ids = set()
    for _ in range(20):
        answer = await hub.post(CHAT, {"model": "m", "messages": HI, "stream": True}, X_AgentHub_Api_Mode="native")
        (one,) = {frame["id"] for frame in answer.frames()[:-1]}
        ids.add(one)
    assert len(ids) == 20
    response = await hub.openai.chat.completions.with_raw_response.create(model="m", messages=HI)
    assert response.request_id


@pytest.mark.parametrize("usage", [None, True, False])
async def test_counts_only_if_asked_for(upstream: Upstream, usage: bool | None) -> None:
    """One chunk of counts behind the last reason, none unless it was asked for."""
    options = {} if usage is None else {"stream_options": {"include_usage": usage}}
    async with running_hub(upstream.url) as hub:
        *frames, end = (await hub.post(CHAT, {"model": "m", "messages": HI, "stream": True} | options)).frames()
    assert end == "[DONE]"
    assert [frame["choices"] == [] for frame in frames] == [False] * (len(frames) - bool(usage)) + [True] * bool(usage)


@pytest.mark.parametrize("streamed", [True, False])
async def test_figures_of_an_answer(upstream: Upstream, streamed: bool) -> None:
    """Of an OpenAI-compatible server's answer too: counts that nobody asked for, durations above 0, and a time."""
    async with running_hub(upstream.url, api_mode="openai") as hub:
        last = (await hub.post("/api/chat", {"model": "m", "messages": HI, "stream": streamed})).frames()[-1]
    assert (last["prompt_eval_count"], last["eval_count"]) == (3, 2)
    durations = [last[name] for name in ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")]
    assert all(type(one) is int and one > 0 for one in durations)
    assert last["created_at"].endswith("Z")
    assert datetime.fromisoformat(last["created_at"])
    if streamed:
        assert upstream.asked[0]["stream_options"] == {"include_usage": True}


SCHEMA = {
    "type": "object",
    "$defs": {"x": {"const": 1}},
    "properties": {
        "z": {"type": ["string", "null"]},
        "a": {"$ref": "#/$defs/x"},
        "n": {"enum": [1, 2], "maximum": 2**63},
    },
    "additionalProperties": False,
}


async def test_schemas_stay_as_they_are(hub: RunningHub, upstream: Upstream, lane: tuple[str, str]) -> None:
    """Of tools and of answers, in each lane, with the order of their keys."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    body = {"model": "m", "messages": HI, "tools": tools, "stream": False}
    body |= {"format": SCHEMA} if lane[0] == "ollama" else {"response_format": wanted}
    assert (await hub.post(PATHS[lane[0]], body)).status == 200
    asked = upstream.asked[0]
    found = asked["format"] if "format" in asked else asked["response_format"]["json_schema"]["schema"]
    assert json.dumps(found) == json.dumps(SCHEMA)
    assert json.dumps(asked["tools"]) == json.dumps(tools)


async def test_what_is_unset_stays_unset(hub: RunningHub, upstream: Upstream, lane: tuple[str, str]) -> None:
    """No defaults of one API are forced upon the other."""
    await hub.post(PATHS[lane[0]], {"model": "m", "messages": HI, "stream": False})
    assert upstream.asked == [{"model": "m", "messages": HI, "stream": False}]


@pytest.mark.parametrize(
    ("url", "data"),
    [
        ("data:image/gif;base64,R0lGODlh", "R0lGODlh"),
        ("data:image/png;charset=utf-8;base64,iVBORw0KGgo", "iVBORw0KGgo="),
        ("data:;base64,iVBORw0KGgo=", "iVBORw0KGgo="),
        ("iVBORw0KGgo", "iVBORw0KGgo="),
    ],
)
async def test_images(upstream: Upstream, url: str, data: str) -> None:
    """Any type, parameters, missing padding, or base64 alone: Ollama gets the data."""
    content = [{"type": "image_url", "image_url": {"url": url}}]
    async with running_hub(upstream.url) as hub:
        assert (await hub.post(CHAT, {"model": "m", "messages": [{"role": "user", "content": content}]})).status == 200
        assert upstream.asked[0]["messages"][0]["images"] == [data]
        remote = [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/x.png"}}]
        refused = await hub.post(CHAT, {"model": "m", "messages": [{"role": "user", "content": remote}]})
        assert (refused.status, "base64" in error_of(refused.json()), len(upstream.asked)) == (400, True, 1)


@pytest.mark.parametrize("role", ["control", "Function", "developer", "tool", "", "x" * 500])
async def test_roles_of_all_kinds(upstream: Upstream, role: str) -> None:
    """Where both sides speak one dialect each role arrives as it is; to Ollama a developer is a system."""
    body = {"model": "m", "messages": [*HI, {"role": role, "content": "x"}], "stream": False}
    async with running_hub(upstream.url) as hub:
        assert (await hub.post("/api/chat", body)).status == 200
        assert (await hub.post(CHAT, body, X_AgentHub_Api_Mode="openai")).status == 200
        assert upstream.asked == [body, body]
        assert (await hub.post(CHAT, body)).status == 200
        known = {"function": "tool", "developer": "system"}
        assert upstream.asked[2]["messages"][1]["role"] == known.get(role.lower(), role)


async def test_a_second_turn_of_the_ollama_package(hub: RunningHub, upstream: Upstream) -> None:
    """It drops ids and empty contents: a server of OpenAI's API gets a null, and the id of the answer."""
    history: list[Any] = [*HI, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}]
    history += [{"role": "tool", "tool_name": "f", "content": "5"}]
    assert (await hub.post("/api/chat", {"model": "m", "messages": history})).status == 200
    asked = upstream.asked[0]["messages"]
    if hub.hub.settings.api_mode == "native":
        assert asked == history
    else:
        assert asked[1]["content"] is None
        assert asked[1]["tool_calls"][0]["id"] == asked[2]["tool_call_id"] != ""


@pytest.mark.parametrize("adapter", ["native", "openai"])
async def test_a_vector_for_each_input(adapter: str) -> None:
    """Vectors that are missing are the upstream's failure; without numbers they stand as they came."""
    crossing = "/v1/embeddings" if adapter == "native" else "/api/embed"
    given: list[list[float]] = [[1.0, 0.0], [0.0, 1.0]]

    def reply(path: str, body: Any) -> Reply:
        if adapter == "native":
            return Reply({"model": "m", "embeddings": given})
        return Reply({"data": [{"index": None, "embedding": one} for one in given]})

    async with serving(reply) as upstream, running_hub(upstream.url, api_mode=adapter) as hub:
        good = (await hub.post(crossing, {"model": "m", "input": ["a", "b"]})).json()
        found = good["embeddings"] if "embeddings" in good else [item["embedding"] for item in good["data"]]
        assert found == [[1.0, 0.0], [0.0, 1.0]]
        given.pop()
        for inputs in (["a", "c"], ["a", "b", "c"]):
            assert (await hub.post(crossing, {"model": "m", "input": inputs})).status == 502


@pytest.mark.parametrize("streamed", [True, False])
async def test_calls_of_custom_tools(streamed: bool) -> None:
    """What only OpenAI's dialect has passes where both sides speak it, and is refused where it would have to cross."""
    custom = {"index": 0, "id": "c", "type": "custom", "custom": {"name": "f", "input": "any text"}}
    message = {"role": "assistant", "content": None, "tool_calls": [custom]}
    whole = {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    frames = [chunk(**message), chunk("tool_calls"), "[DONE]"]
    body = {"model": "m", "messages": HI, "stream": streamed, "tools": [{"type": "custom", "custom": {"name": "f"}}]}
    async with (
        serving(lambda path, _: Reply(frames=frames) if streamed else Reply(whole)) as upstream,
        running_hub({"b": BackendSettings(upstream.url, flavour="openai")}, api_mode="openai") as hub,
    ):
        answer = await hub.post(CHAT, body)
        assert (answer.status, answer.frames()) == (200, frames if streamed else [whole])
        refused = await hub.post(CHAT, body, X_AgentHub_Api_Mode="native")
        assert (refused.status, refused.json()["error"]["param"]) == (400, "tools[0].function.name")
