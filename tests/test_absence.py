"""A model that may be on a backend that is down is not absent: 503 with the backend's name, and no 404."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agenthub.health import Health
from agenthub.settings import BackendSettings, ClientSettings, HealthSettings, ModelSettings
from agenthub.standin import Standin, running
from tests.hubs import Answered, RunningHub, error_of, running_hub
from tests.ports import free_port
from tests.upstreams import HI

QUIET = HealthSettings(models_refresh_s=0, interval_s=0)
CHAT = {"messages": HI, "stream": False}
CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "chat": ("POST", "/api/chat", CHAT),
    "streamed": ("POST", "/api/chat", {"messages": HI}),
    "generate": ("POST", "/api/generate", {"prompt": "hi"}),
    "embed": ("POST", "/api/embed", {"input": "hi"}),
    "show": ("POST", "/api/show", {}),
    "copy": ("POST", "/api/copy", {"destination": "n"}),
    "delete": ("DELETE", "/api/delete", {}),
    "push": ("POST", "/api/push", {}),
    "openai chat": ("POST", "/v1/chat/completions", CHAT),
    "openai completion": ("POST", "/v1/completions", {"prompt": "hi"}),
    "openai embeddings": ("POST", "/v1/embeddings", {"input": "hi"}),
}
PATTERN, EVERY = ("dead",), ("*",)


@asynccontextmanager
async def two(*patterns: str, standin: Standin | None = None, **settings: Any) -> AsyncIterator[tuple[RunningHub, int]]:
    """A hub with the backend ``up``, which has the model m, and ``down``, where nobody listens yet: its port."""
    port = free_port()
    async with running(standin or Standin(models=("m",))) as url:
        backends = {
            "up": BackendSettings(url=url),
            "down": BackendSettings(url=f"http://127.0.0.1:{port}", models=patterns or EVERY),
        }
        async with running_hub(backends, **{"health": QUIET} | settings) as hub:
            yield hub, port


async def call(hub: RunningHub, name: str, model: str) -> Answered:
    method, path, fields = CALLS[name]
    body = {"source" if name == "copy" else "model": model} | fields
    async with hub.http.request(method, hub.url + path, data=json.dumps(body)) as response:
        return Answered(response.status, response.headers, await response.read())


def check_unavailable(answer: Answered, model: str, backend: str = "down", retry_after: str = "10") -> None:
    """It names the model, the backend and why that cannot tell; the client may ask again later."""
    assert answer.status == 503, answer.text
    text = error_of(answer.json())
    assert text.startswith(f"model '{model}' may be on backend {backend}, which cannot tell: backend ")
    assert "cannot be reached: Connection refused" in text
    assert (answer.headers["Retry-After"], answer.headers["x-should-retry"]) == (retry_after, "false")


@pytest.mark.parametrize("patterns", [PATTERN, EVERY], ids=["named", "unknown"])
@pytest.mark.parametrize("name", CALLS)
async def test_it_may_be_on_a_backend_that_is_down(name: str, patterns: tuple[str, ...]) -> None:
    """That a pattern names, or whose list could never be fetched; the very first request as well."""
    async with two(*patterns) as (hub, _):
        for _ in range(2):
            answer = await call(hub, name, "dead")
            check_unavailable(answer, "dead")
            assert set(answer.json()) == {"error"}
            assert isinstance(answer.json()["error"], dict if "openai" in name else str)


@pytest.mark.parametrize("name", CALLS)
async def test_no_backend_that_is_down_may_have_it(name: str) -> None:
    """Its patterns do not fit the model, and those that may have it do not list it: 404 as before."""
    async with two(*PATTERN) as (hub, _):
        assert (await call(hub, name, "nope")).status == 404


@pytest.mark.parametrize("name", ["chat", "openai chat", "show", "delete"])
async def test_an_alias_whose_target_is_there(name: str) -> None:
    """It stands for its target; the client reads the name that it wrote."""
    models = {"pinned": ModelSettings(target="x", backends=("down",)), "loose": ModelSettings(target="dead")}
    async with two(*PATTERN, "x", models=models) as (hub, _):
        for alias in models:
            check_unavailable(await call(hub, name, alias), alias)


async def test_an_alias_to_a_backend_that_is_up() -> None:
    """What an alias does not name is not waited for."""
    async with two(models={"pinned": ModelSettings(target="x", backends=("up",))}) as (hub, _):
        assert (await call(hub, "chat", "pinned")).status == 404


async def test_one_model_of_the_openai_api() -> None:
    """404 where no backend may have it, 503 where one may, for an alias too."""
    async with two(*PATTERN, models={"other": ModelSettings(target="dead")}) as (hub, _):
        for name in ("dead", "other"):
            check_unavailable(await hub.get(f"/v1/models/{name}"), name)
        assert (await hub.get("/v1/models/nope")).status == 404
        assert (await hub.get("/v1/models/m")).status == 200


async def test_a_client_without_the_right() -> None:
    """What it may not use is absent to it, and no backend is named."""
    clients = {"me": ClientSettings(models=("m",))}
    async with two(*PATTERN, clients=clients) as (hub, _):
        answer = await hub.get("/v1/models/dead", X_Client_Name="me")
        assert (answer.status, "down" in answer.text) == (404, False)
        answer = await hub.post("/api/show", {"model": "dead"}, X_Client_Name="me")
        assert (answer.status, "down" in answer.text) == (404, False)


async def test_all_lists_are_known() -> None:
    """A backend's last list tells what it has also when it is down: 404 for what was not there."""
    async with two() as (hub, port):
        await hub.hub.router.refresh()
        standin = Standin(models=("dead",))
        async with running(standin, port=port):
            await hub.hub.router.refresh()
            assert (await call(hub, "chat", "dead")).status == 200
            assert (await call(hub, "chat", "nope")).status == 404
        await hub.hub.router.refresh()
        assert (await call(hub, "chat", "nope")).status == 404
        assert (await hub.get("/v1/models/nope")).status == 404
        gone = await call(hub, "chat", "dead")
        assert (gone.status, "backend down at" in gone.text) == (502, True)


async def test_a_named_backend_that_went_down() -> None:
    """It may have got the model since it told its list: 503; while it is up its word stands: 404."""
    async with two("dead*") as (hub, port):
        await hub.hub.router.refresh()
        async with running(Standin(models=("dead",)), port=port):
            await hub.hub.router.refresh()
            assert (await call(hub, "chat", "dead-2")).status == 404
        await hub.hub.router.refresh()
        check_unavailable(await call(hub, "chat", "dead-2"), "dead-2")
        async with running(Standin(models=("dead", "dead-2")), port=port):
            await hub.hub.router.refresh()
            assert (await call(hub, "chat", "dead-2")).status == 200


async def test_a_backend_that_the_health_checks_find_down() -> None:
    """That its list was there a moment ago does not make it up."""
    async with two("dead*") as (hub, port):
        await hub.hub.router.refresh()
        async with running(Standin(models=("dead",)), port=port):
            await hub.hub.router.refresh()
            hub.hub.router.backends["down"].is_up = False
            answer = await call(hub, "chat", "dead-2")
            assert answer.status == 503
            assert "backend down does not answer the health checks" in answer.text


async def test_a_named_backend_that_goes_down_meanwhile() -> None:
    """The default backend was asked while it was up, and is not from then on."""
    async with two("dead*", default_backend="up") as (hub, port):
        await hub.hub.router.refresh()
        async with running(Standin(models=("dead",)), port=port):
            await hub.hub.router.refresh()
            assert (await call(hub, "chat", "dead-2")).status == 404
        await Health(hub.hub.router).check()
        assert (await call(hub, "chat", "dead-2")).status == 503


@pytest.mark.parametrize(("patterns", "status"), [(EVERY, 200), (PATTERN, 503)], ids=["unknown", "named"])
async def test_a_default_backend(patterns: tuple[str, ...], status: int) -> None:
    """It is asked for what no backend lists, unless a pattern names another that is down."""
    fresh = Standin(models=("m",))
    async with two(*patterns, standin=fresh, default_backend="up") as (hub, _):
        await hub.hub.router.refresh()
        fresh.models = (*fresh.models, "dead")  # type: ignore[assignment,arg-type]
        answer = await call(hub, "chat", "dead")
        assert answer.status == status, answer.text
        if status == 503:
            check_unavailable(answer, "dead")
        assert (await call(hub, "chat", "nope")).status == 404


async def test_a_default_backend_that_is_down_itself() -> None:
    """The request goes there, and says what becomes of it."""
    async with two(*PATTERN, default_backend="down") as (hub, _):
        answer = await call(hub, "chat", "dead")
        assert (answer.status, "backend down at" in answer.text) == (502, True)


async def test_several_may_have_it() -> None:
    """All are named, one that a pattern names first; Retry-After is when the health checks look again."""
    ports = [free_port(), free_port()]
    backends = {
        "any": BackendSettings(url=f"http://127.0.0.1:{ports[0]}"),
        "own": BackendSettings(url=f"http://127.0.0.1:{ports[1]}", models=PATTERN),
        "not": BackendSettings(url=f"http://127.0.0.1:{ports[1]}", models=("other",)),
    }
    health = HealthSettings(models_refresh_s=0, interval_s=3600)
    async with running_hub(backends, health=health) as hub:
        check_unavailable(await call(hub, "chat", "dead"), "dead", "own or any", "3600")


async def test_a_pull_goes_to_the_backend_that_is_named() -> None:
    """It needs no model that is there; that its backend is down is its answer."""
    async with two(*PATTERN) as (hub, _):
        answer = await hub.post("/api/pull", {"model": "dead"})
        assert (answer.status, "backend down at" in answer.text) == (502, True)


async def explained(hub: RunningHub, path: str, **fields: Any) -> Any:
    return (await hub.post("/hub/explain", {"path": path} | fields)).json()


async def test_what_explain_says() -> None:
    """The same status, Retry-After and words, and which backend may have it."""
    async with two(*PATTERN) as (hub, _):
        body = CHAT | {"model": "dead"}
        for path in ("/api/chat", "/v1/chat/completions"):
            answer, said = await hub.post(path, body), await explained(hub, path, body=body)
            assert said["answer"] == {
                "status": 503,
                "by": "hub",
                "headers": {"Retry-After": answer.headers["Retry-After"]},
                "body": answer.json(),
            }
            assert said["model"]["why"] == "no alias; listed by no backend that tells, but down may have it"
        missing = await explained(hub, "/api/chat", body=body | {"model": "nope"})
        assert missing["answer"]["status"] == 404
        assert missing["model"]["why"] == "no alias; listed by no backend, and there is no default one for it"
        for name, status in (("dead", 503), ("nope", 404), ("m", 200)):
            assert (await explained(hub, f"/v1/models/{name}", method="GET"))["answer"]["status"] == status
