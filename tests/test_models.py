"""Models: which backend has them, what they are called, and how they are listed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from agenthub.settings import BackendSettings, HealthSettings, ModelSettings
from agenthub.standin import Fault, Standin, running
from tests.hubs import LANES, RunningHub, running_hub

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}


def body(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": MESSAGES, "stream": False} | fields


@pytest.fixture
def one() -> Standin:
    return Standin(models=("shared", "only-one"), text="from one")


@pytest.fixture
def two() -> Standin:
    return Standin(models=("shared", "only-two"), text="from two")


@pytest.fixture
async def urls(one: Standin, two: Standin) -> AsyncIterator[tuple[str, str]]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(running(one)), await stack.enter_async_context(running(two))


@pytest.fixture
async def hub(urls: tuple[str, str]) -> AsyncIterator[RunningHub]:
    backends = {"one": BackendSettings(url=urls[0]), "two": BackendSettings(url=urls[1], api_mode="openai")}
    async with running_hub(backends) as running_one:
        yield running_one


async def test_the_lists_are_the_union_without_duplicates(hub: RunningHub) -> None:
    """A model that two backends have is listed once."""
    tags = [model["name"] for model in (await hub.get("/api/tags")).json()["models"]]
    ids = [model["id"] for model in (await hub.get("/v1/models")).json()["data"]]
    assert sorted(tags) == sorted(ids) == ["only-one:latest", "only-two:latest", "shared:latest"]


async def test_a_model_is_found_on_the_backend_that_has_it(hub: RunningHub) -> None:
    """Whatever the spelling; the first backend wins where several have it."""
    for name, backend in [("only-one", "one"), ("only-two", "two"), ("ONLY-TWO:latest", "two"), ("shared", "one")]:
        answer = await hub.post("/api/chat", body(name))
        assert answer.headers["X-AgentHub-Backend"] == backend
        assert answer.json()["model"] == name


async def test_an_unknown_model_is_a_404_in_each_dialects_words(hub: RunningHub) -> None:
    """With several backends and no default the hub says it itself."""
    native = await hub.post("/api/chat", body("nope"))
    assert (native.status, native.json()) == (404, {"error": "model 'nope' not found"})
    completion = await hub.post("/v1/chat/completions", body("nope"))
    assert completion.status == 404
    assert completion.json()["error"] | {"message": ""} == {
        "message": "",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    assert (await hub.get("/v1/models/nope")).status == 404
    assert [line["outcome"] for line in hub.dispatches()] == ["rejected", "rejected"]


async def test_a_model_that_nobody_lists_goes_to_the_default_backend(urls: tuple[str, str], two: Standin) -> None:
    """So a model that was pulled a second ago works, and a missing one gets the upstream's own words."""
    backends = {"one": BackendSettings(url=urls[0]), "two": BackendSettings(url=urls[1])}
    settings: dict[str, Any] = {"default_backend": "two", "health": HealthSettings(models_refresh_s=0, interval_s=0)}
    async with running_hub(backends, **settings) as hub:
        assert (await hub.post("/api/chat", body("new"))).status == 404
        two.models = (*two.models, "new")  # type: ignore[assignment,arg-type]
        answer = await hub.post("/api/chat", body("new"))
        assert (answer.status, answer.headers["X-AgentHub-Backend"]) == (200, "two")


async def test_a_backend_serves_only_the_models_it_is_meant_for(urls: tuple[str, str]) -> None:
    """``models`` are patterns; others are neither listed nor sent there."""
    backends = {"one": BackendSettings(url=urls[0], models=("only-*",)), "two": BackendSettings(url=urls[1])}
    async with running_hub(backends) as hub:
        assert (await hub.post("/api/chat", body("shared"))).headers["X-AgentHub-Backend"] == "two"
        assert (await hub.post("/api/chat", body("only-one"))).headers["X-AgentHub-Backend"] == "one"


async def test_the_list_is_not_fetched_on_the_way_of_a_request(urls: tuple[str, str], one: Standin) -> None:
    """Requests for models ask the upstreams for nothing but the answer, once the list is there."""
    async with running_hub(urls[0], health=HealthSettings(models_refresh_s=0, interval_s=0)) as hub:
        await hub.post("/api/chat", body("shared"))
        before = len(one.requests)
        for _ in range(5):
            await hub.post("/api/chat", body("shared"))
        assert [received.path for received in list(one.requests)[before:]] == ["/api/chat"] * 5


async def test_a_backend_that_is_down_keeps_its_last_list(urls: tuple[str, str], one: Standin) -> None:
    """Its models stay listed; with nothing known at all, the list is an error."""
    async with running_hub(urls[0]) as hub:
        assert len((await hub.get("/api/tags")).json()["models"]) == 2
        one.down = True
        assert len((await hub.get("/api/tags")).json()["models"]) == 2
    async with running_hub(urls[0]) as hub:
        answer = await hub.get("/v1/models")
        assert answer.status == 503
        assert answer.json()["error"]["message"]


@pytest.mark.parametrize(("dialect", "adapter"), LANES)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_an_alias(urls: tuple[str, str], one: Standin, dialect: str, adapter: str, streamed: bool) -> None:
    """The upstream is asked for the target with the alias's options, the client is answered under the alias's name."""
    models = {"gpt-4o": ModelSettings(target="only-one", options={"num_predict": 2, "seed": 5})}
    async with running_hub(urls[0], api_mode=adapter, models=models) as hub:
        extra = {"options": {"seed": 9}} if dialect == "ollama" else {"seed": 9}
        answer = await hub.post(PATHS[dialect], body("gpt-4o", stream=streamed, unknown=1.50, **extra))
        frames = [frame for frame in answer.frames() if frame != "[DONE]"]
        assert {frame["model"] for frame in frames} == {"gpt-4o"}
        asked = one.requests[-1].json()
        sampling = asked.get("options") or asked
        assert asked["model"] == "only-one"
        assert sampling["seed"] == 9
        assert sampling.get("num_predict") == 2 or sampling.get("max_tokens") == 2
        same_dialect = (dialect == "ollama") == (adapter == "native")
        assert asked.get("unknown") == (1.5 if same_dialect else None)


async def test_an_alias_is_listed_under_its_name(urls: tuple[str, str]) -> None:
    """Beside its target, in both dialects, so that clients can choose it; an alias of nothing is not."""
    models = {"gpt-4o": ModelSettings(target="only-one"), "ghost": ModelSettings(target="missing")}
    async with running_hub(urls[0], models=models) as hub:
        tags = [model["model"] for model in (await hub.get("/api/tags")).json()["models"]]
        assert sorted(tags) == ["gpt-4o", "only-one:latest", "shared:latest"]
        assert (await hub.get("/v1/models/gpt-4o")).json()["id"] == "gpt-4o"
        assert (await hub.post("/api/show", {"model": "gpt-4o"})).status == 200


@pytest.mark.parametrize("path", ["/v1/models/team%2Fmodel:7b", "/v1/models/team/model:7b"])
async def test_ids_with_slashes(path: str) -> None:
    """Encoded, as the openai package sends them, or not."""
    async with running(Standin(models=("team/model:7b",))) as upstream, running_hub(upstream) as hub:
        answer = await hub.get(path)
        assert answer.json()["id"] == "team/model:7b"
        assert answer.json()["owned_by"] == "team"


async def test_version_and_ps(hub: RunningHub, one: Standin) -> None:
    """The version is an upstream's, or one that editors accept; ps is the union of what backends hold."""
    assert (await hub.get("/api/version")).json() == {"version": one.version}
    await hub.post("/api/chat", body("only-one"))
    await hub.post("/api/chat", body("only-two"))
    running_now = {model["name"] for model in (await hub.get("/api/ps")).json()["models"]}
    assert running_now == {"only-one:latest", "only-two:latest"}
    one.script(Fault.answer(500).at("/api/version"))
    assert (await hub.get("/api/version")).json()["version"].count(".") == 2


async def test_the_version_of_a_dead_default_is_not_waited_for() -> None:
    """Those that are up are asked first."""
    one, two = Standin(), Standin()
    async with running(one) as first, running(two) as second:
        backends = {"one": BackendSettings(url=first), "two": BackendSettings(url=second)}
        async with running_hub(backends, default_backend="one", health=HealthSettings(interval_s=0)) as hub:
            hub.hub.router.backends["one"].is_up = False
            assert (await hub.get("/api/version")).json() == {"version": two.version}
            assert [request.path for request in (*one.requests, *two.requests) if "version" in request.path] == [
                "/api/version"
            ]
            assert "/api/version" in [request.path for request in two.requests]


async def test_the_api_mode_of_a_request(hub: RunningHub, one: Standin) -> None:
    """X-AgentHub-Api-Mode chooses the adapter for one request; a mode that is not installed is a 400."""
    answer = await hub.post("/api/chat", body("only-one"), X_AgentHub_Api_Mode="openai")
    assert answer.headers["X-AgentHub-Api-Mode"] == "openai"
    assert one.requests[-1].path == "/v1/chat/completions"
    refused = await hub.post("/api/chat", body("only-one"), X_AgentHub_Api_Mode="grpc")
    assert refused.status == 400
    assert "native" in refused.json()["error"]
