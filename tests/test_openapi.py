"""/openapi.json says what the hub does: its routes, what they take, what they answer, how they fail."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator

from agenthub import __version__
from agenthub.api import add_routes
from agenthub.api.errors import ANYWHERE
from agenthub.api.openapi import OPERATIONS, make_document, managing, plain_path
from agenthub.api.openapi.headers import RATES
from agenthub.api.routes import ROUTES
from agenthub.settings import BackendSettings, ClientSettings, ProtectionSettings
from agenthub.standin import Fault, Standin, running
from tests.described import Described
from tests.dialects import recorded
from tests.hubs import ONCE, Answered, RunningHub, running_hub
from tests.replay.wire import send

DESCRIBED = Described(
    make_document([(method, path) for method, path, _ in ROUTES if path != ANYWHERE], ["native", "openai"], __version__)
)
ASKING = [route for route, described in DESCRIBED.operations().items() if OPERATIONS[route].asks]
"""The operations that are dispatched to a backend."""
TAKING = [route for route in ASKING if OPERATIONS[route].example is not None]
"""Those of them that take a JSON body."""
MODELLED = [route for route in TAKING if route not in managing.OPERATIONS]
"""Those of them that leave the models as they are."""
CHAT = ("POST", "/api/chat"), ("POST", "/v1/chat/completions")
TEXTS = (*CHAT, ("POST", "/api/generate"), ("POST", "/v1/completions"))


@pytest.fixture
def hub_settings() -> dict[str, Any]:
    return {"max_body_bytes": 100_000, "retries": ONCE}


def example(route: tuple[str, str], **members: object) -> dict[str, Any]:
    """The documented example, with a model that the stand-in has."""
    documented = DESCRIBED.operation(*route)["requestBody"]["content"]["application/json"]["example"]
    assert DESCRIBED.complaints(DESCRIBED.body_schema(*route), documented) == []
    named = {name: "standin" for name in ("model", "from", "source") if documented.get(name, "mine") != "mine"}
    return {**documented, **named, **({"model": "standin-embed"} if "embed" in route[1] else {}), **members}


async def ask(hub: RunningHub, route: tuple[str, str], body: object, **headers: str) -> Answered:
    """Send ``body`` (bytes, or anything that is JSON), whatever the method."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with hub.http.request(route[0], hub.url + route[1], data=data, headers=sent) as response:
        return Answered(response.status, response.headers, await response.read())


def asked(standin: Standin) -> list[str]:
    """The paths of what was asked of a model; the hub fetches lists by itself."""
    return [received.path for received in standin.requests if received.method in ("POST", "DELETE")]


async def test_the_document_is_served(hub: RunningHub) -> None:
    """As JSON by GET and HEAD, for the installed adapters and the installed version."""
    answer = await hub.get("/openapi.json")
    assert answer.json() == json.loads(json.dumps(DESCRIBED.document))
    assert answer.json()["info"]["version"] == __version__
    DESCRIBED.check("GET", "/openapi.json", answer, status=200)
    head = await hub.get("/openapi.json", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(answer.body))


def test_the_document_is_valid() -> None:
    """By the rules of OpenAPI 3.1, its schemas and examples included."""
    assert DESCRIBED.document["openapi"] == "3.1.0"
    assert [str(error) for error in OpenAPIV31SpecValidator(DESCRIBED.document).iter_errors()] == []


def test_routes_and_document_agree() -> None:
    """Each route that aiohttp knows is in the document, and nothing else is; a GET stands for its HEAD too.

    A slash at the end makes no other path of it.
    """
    app = web.Application()
    add_routes(app)
    routes = {
        (route.method, route.resource.canonical.rstrip("/") or "/")
        for route in app.router.routes()
        if route.resource is not None and route.method != "*"
    }
    documented = set(DESCRIBED.operations())
    assert documented | {("HEAD", path) for method, path in documented if method == "GET"} == routes


def test_a_route_that_nobody_describes_is_refused() -> None:
    """It is named, so that whoever adds it knows what to do."""
    with pytest.raises(LookupError, match=r"PUT /api/nope/\{id\} is described nowhere in agenthub\.api\.openapi"):
        make_document([("PUT", "/api/nope/{id:.+}")], [], "1")


def test_descriptions_without_a_route_stay_out() -> None:
    """Each is routed, and a document of one route holds nothing of the others."""
    routes = {(method, plain_path(path)) for method, path, _ in ROUTES if path != ANYWHERE}
    assert OPERATIONS.keys() == routes
    everything = make_document(OPERATIONS, ["native"], "1")
    assert [str(error) for error in OpenAPIV31SpecValidator(everything).iter_errors()] == []
    assert "Progress" in everything["components"]["schemas"]
    alone = make_document([("GET", "/health")], ["native"], "1")
    assert list(alone["paths"]) == ["/health"]
    assert list(alone["components"]["schemas"]) == ["Health"]


def test_every_operation_says_what_it_does() -> None:
    """A summary, one known tag, an answer, and parameters for the hub's own request headers."""
    known = {tag["name"] for tag in DESCRIBED.document["tags"]}
    wishes = {"X-Client-Name", "X-AgentHub-Api-Mode", "X-AgentHub-Strict", "Cache-Control"}
    for route, operation in DESCRIBED.operations().items():
        assert operation["summary"]
        assert set(operation["tags"]) <= known
        named = {DESCRIBED.resolve(parameter)["name"] for parameter in operation["parameters"]}
        assert "X-Request-Id" in named
        assert (wishes <= named) is (route in ASKING)


GETS = [(path, path) for (method, path), operation in OPERATIONS.items() if method == "GET" and not operation.path]


@pytest.mark.parametrize(("path", "asked"), [*GETS, ("/v1/models/{id}", "/v1/models/standin")])
async def test_what_is_listed_is_as_documented(hub: RunningHub, lane: tuple[str, str], path: str, asked: str) -> None:
    """Lists, health and the like, through either adapter, with a model in memory."""
    await hub.post("/api/chat", example(CHAT[0]), X_AgentHub_Api_Mode=lane[1])
    DESCRIBED.check("GET", path, await hub.get(asked), status=200)


def bodies(route: tuple[str, str]) -> Iterator[dict[str, Any]]:
    """Requests of every kind that the stand-in answers, whole and streamed."""
    yield example(route)
    if route not in TEXTS:
        yield from [example(route, encoding_format="base64")] if route[1] == "/v1/embeddings" else []
        return
    tool = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}
    for stream in ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}, {"stream": False}):
        yield example(route, **stream)
        yield example(route, **stream, format="json", options={"num_predict": 2, "seed": 1})
        if route in CHAT:
            yield example(route, **stream, tools=[tool], messages=[{"role": "user", "content": "use get_time"}])
            yield example(route, **stream, think=True, reasoning_effort="high")


@pytest.mark.parametrize("route", MODELLED, ids="-".join)
@pytest.mark.parametrize("adapter", ["native", "openai"])
async def test_answers_are_as_documented(hub: RunningHub, adapter: str, route: tuple[str, str]) -> None:
    """Whole or streamed, with tools, thoughts and counts, through either adapter: bodies, frames and headers."""
    kinds = set()
    for body in bodies(route):
        assert DESCRIBED.complaints(DESCRIBED.body_schema(*route), body) == []
        answer = await hub.post(route[1], body, X_AgentHub_Api_Mode=adapter)
        DESCRIBED.check(*route, answer, status=200)
        kinds.add(answer.headers["Content-Type"].partition(";")[0])
    assert kinds == set(DESCRIBED.operation(*route)["responses"]["200"]["content"])


@pytest.mark.parametrize("route", MODELLED, ids="-".join)
async def test_loading_and_losses_are_as_documented(hub: RunningHub, route: tuple[str, str]) -> None:
    """A model that is only loaded, and a field that is dropped."""
    asks_nothing = {"messages": [], "prompt": "", "input": []}
    if route[1].startswith("/api/"):
        DESCRIBED.check(*route, await hub.post(route[1], example(route, **asks_nothing)), status=200)
    dropping = "openai" if route[1].startswith("/api/") else "native"
    answer = await hub.post(route[1], example(route, no_such_field=1), X_AgentHub_Api_Mode=dropping)
    DESCRIBED.check(*route, answer, status=200)
    assert ("X-AgentHub-Dropped" in answer.headers) is (route != ("POST", "/api/show"))


@pytest.mark.parametrize("route", MODELLED, ids="-".join)
async def test_refusals_are_as_documented(hub: RunningHub, route: tuple[str, str]) -> None:
    """What the hub refuses by itself: no body, no such model, too much, an operation that the adapter has not."""
    path, good = route[1], example(route)
    DESCRIBED.check(*route, await hub.post(path, b""), status=400)
    DESCRIBED.check(*route, await hub.post(path, good, X_AgentHub_Api_Mode="nope"), status=400)
    DESCRIBED.check(*route, await hub.post(path, {**good, "model": "nope"}), status=404)
    DESCRIBED.check(*route, await hub.post(path, b" " * 100_001), status=413)
    hub.hub.router.backends["ollama"].adapters["native"].operations = frozenset()  # type: ignore[misc]
    DESCRIBED.check(*route, await hub.post(path, good), status=501)


@pytest.mark.usefixtures("fast_clock")
@pytest.mark.parametrize("route", MODELLED, ids="-".join)
async def test_failures_are_as_documented(standin: Standin, route: tuple[str, str]) -> None:
    """What an upstream does wrong, and the breaker's answer to it; a status without a description of its own too."""
    path, good = route[1], example(route)
    async with running(standin) as upstream:
        mode = "native" if path.startswith("/api/") else "openai"
        backends = {"ollama": BackendSettings(url=upstream, api_mode=mode, first_event_timeout_s=1.0)}
        async with running_hub(backends, retries=ONCE) as hub:
            for status in (429, 418):
                standin.script(Fault.answer(status, headers={"Retry-After": "7"}).at(path))
                DESCRIBED.check(*route, await hub.post(path, good), status=status, named=status == 429)
            for status, fault in ((500, Fault.answer(500)), (502, Fault.reset()), (504, Fault.hang())):
                standin.script(fault.at(path))
                DESCRIBED.check(*route, await hub.post(path, good), status=status)
            if path == "/api/show":
                return  # the breaker counts what is asked of a model
            refused = await hub.post(path, good)
            DESCRIBED.check(*route, refused, status=503)
            assert {"Retry-After", "x-should-retry"} <= refused.headers.keys()


@pytest.mark.parametrize("route", MODELLED, ids="-".join)
async def test_limits_are_as_documented(standin: Standin, route: tuple[str, str]) -> None:
    """A client's own rate, within and beyond it, and a body that does not go on."""
    path, good = route[1], example(route)
    limited = {"clients": {"ci": ClientSettings(requests_per_minute=1)}}
    slow = ProtectionSettings(body_timeout_s=0.05)
    async with running(standin) as upstream, running_hub(upstream, protection=slow, **limited) as hub:
        for status in (200, 429):
            answer = await hub.post(path, good, X_Client_Name="ci")
            DESCRIBED.check(*route, answer, status=status)
            rates = {name.lower() for name in answer.headers if "ratelimit" in name.lower()}
            assert rates == {name.lower() for name in RATES["openai" if path.startswith("/v1/") else "ollama"]}
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{{".encode()
        late = await send(hub.url, head)
        DESCRIBED.check(*route, Answered(late.status, dict(late.headers), late.body), status=408)


async def test_verbs_are_as_documented(hub: RunningHub) -> None:
    """Those that there are, done and refused, whole and streamed; at a server without them a 501."""
    other: Any = hub.hub.router.backends["ollama"].adapters["openai"]
    other.server.setting = other.server.flavour = "generic"
    for route in [route for route in TAKING if route in managing.OPERATIONS]:
        content = DESCRIBED.operation(*route)["responses"]["200"].get("content", {})
        kinds = set()
        for stream in (True, False) if content else (False,):
            answer = await ask(hub, route, example(route, stream=stream))
            DESCRIBED.check(*route, answer, status=200)
            kinds.add(answer.headers.get("Content-Type", "").partition(";")[0])
        assert kinds == set(content or [""])
        DESCRIBED.check(*route, await ask(hub, route, b""), status=400)
        DESCRIBED.check(*route, await ask(hub, route, b" " * 100_001), status=413)
        elsewhere = await ask(hub, route, example(route), X_AgentHub_Api_Mode="openai")
        DESCRIBED.check(*route, elsewhere, status=501)


async def test_blobs_are_as_documented(hub: RunningHub) -> None:
    """Absent, uploaded, there."""
    path, data = "/api/blobs/{digest}", b"some bytes"
    url = path.format(digest=f"sha256:{sha256(data).hexdigest()}")
    for method, asked_for, status in (
        ("HEAD", url, 404),
        ("POST", url, 201),
        ("POST", url, 200),
        ("HEAD", url, 200),
        ("POST", "/api/blobs/nope", 400),
    ):
        DESCRIBED.check(method, path, await ask(hub, (method, asked_for), data), status=status)


@pytest.mark.parametrize("route", TEXTS, ids="-".join)
async def test_streams_that_break_are_as_documented(hub: RunningHub, standin: Standin, route: tuple[str, str]) -> None:
    """The last frame is an error, and the schema of frames allows it."""
    standin.script(Fault.truncate(after=2))
    answer = await hub.post(route[1], example(route, stream=True))
    DESCRIBED.check(*route, answer, status=200)
    assert "error" in answer.frames()[-1]


@pytest.mark.parametrize("path", ["/api/tags", "/api/ps", "/v1/models", "/v1/models/standin", "/ready"])
async def test_lists_without_a_backend_fail_as_documented(path: str) -> None:
    """Nothing listens at the backend's URL: 502, and 503 for /ready, which says why."""
    async with running_hub("http://127.0.0.1:9") as hub:
        documented = path.replace("standin", "{id}")
        DESCRIBED.check("GET", documented, await hub.get(path), status=503 if path == "/ready" else 502)


OPEN = {("GET", "/health"), ("GET", "/ready")}
FREE = {*OPEN, ("GET", "/"), ("GET", "/openapi.json"), ("POST", "/hub/explain")}
"""What no right is needed for."""


async def test_who_may_call_is_as_documented() -> None:
    """Without a key 401, without the right 403, in the dialect's shape; /health and /ready ask for none."""
    clients = {"nobody": ClientSettings(api_key="a-key", models=(), operations=("ps",))}
    async with running(Standin()) as upstream, running_hub(upstream, clients=clients) as hub:
        for route, operation in DESCRIBED.operations().items():
            method, path = route
            url = path.replace("{id}", "standin").replace("{digest}", f"sha256:{'0' * 64}")
            body = example(route) if route in TAKING else b""
            stranger = await ask(hub, (method, url), body)
            assert ("401" in operation["responses"], "security" in operation) == (route not in OPEN, route in OPEN)
            DESCRIBED.check(*route, stranger, status=200 if route in OPEN else 401)
            if route not in FREE and path != "/api/ps":
                refused = await ask(hub, (method, url), body, Authorization="Bearer a-key")
                DESCRIBED.check(*route, refused, status=403)
    schemes = DESCRIBED.document["components"]["securitySchemes"]
    assert [{}, *({name: []} for name in schemes)] == DESCRIBED.document["security"]


async def test_a_model_that_is_not_listed_is_missing_as_documented(hub: RunningHub) -> None:
    """404 in OpenAI's shape, whatever the name consists of."""
    for name in ("a/b", "a%2Fb", "%0A", "%00%F4"):
        DESCRIBED.check("GET", "/v1/models/{id}", await hub.get(f"/v1/models/{name}"), status=404)


def ways(schema: Mapping[str, Any]) -> list[list[str]]:
    """The sets of members of which each must be there in part: ``model``, or of two names for it one."""
    named = [way["required"][0] for way in schema.get("anyOf", ())]
    return [[name] for name in schema.get("required", ())] + ([named] if named else [])


@pytest.mark.parametrize("route", TAKING, ids="-".join)
async def test_what_is_required_is_refused_when_missing(
    hub: RunningHub, standin: Standin, route: tuple[str, str]
) -> None:
    """Absent, null or empty: a 4xx, and the upstream is not asked. All the rest may be absent."""
    schema = DESCRIBED.body_schema(*route)
    assert ways(schema)
    least = {name: value for name, value in example(route).items() if [name] in ways(schema) or name == "model"}
    assert DESCRIBED.complaints(schema, least) == []
    assert (await ask(hub, route, least)).status in ((200,) if route in MODELLED else (200, 400, 404))
    standin.requests.clear()
    for names in ways(schema):
        rest = {name: value for name, value in least.items() if name not in names}
        for body in (rest, rest | dict.fromkeys(names), rest | {name: type(least.get(name, ""))() for name in names}):
            if route[1] == "/v1/embeddings" and body.get("input") == "":
                continue  # an empty text has a vector too
            answer = await ask(hub, route, body)
            DESCRIBED.check(*route, answer, status=404 if route[1] in ("/api/generate", "/api/embed") else 400)
            assert not DESCRIBED.accepts(schema, body)
    assert asked(standin) == []


WRONG: tuple[Any, ...] = ({}, [], {"a": 1}, [[]], [5], ["x"], "\x00", 1.5, -7, True)


@pytest.mark.parametrize("route", TAKING, ids="-".join)
async def test_what_has_a_type_is_refused_with_another(
    hub: RunningHub, standin: Standin, route: tuple[str, str]
) -> None:
    """Each member whose type is documented, with values of every other: 400, and the upstream is not asked."""
    schema, tried = DESCRIBED.body_schema(*route), 0
    for name, member in schema["properties"].items():
        for value in WRONG:
            if not DESCRIBED.accepts(member, value):
                body = example(route, **{name: value})
                assert not DESCRIBED.accepts(schema, body)
                answer = await ask(hub, route, body)
                assert answer.status == 400, (body, answer.text)
                DESCRIBED.check(*route, answer, status=400)
                tried += 1
    assert tried >= 6
    assert asked(standin) == []


RECORDINGS = [
    recording
    for recording in recorded.everything("ollama-*")
    if ("POST", recording.path) in MODELLED and recording.status == 200
]


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
def test_what_a_real_ollama_answers_is_as_documented(recording: recorded.Recording) -> None:
    """Most of these bytes go through unchanged to clients of the same dialect."""
    schema = DESCRIBED.operation("POST", recording.path)["responses"]["200"]["content"][recording.content_type][
        "schema"
    ]
    streamed = recording.content_type in ("application/x-ndjson", "text/event-stream")
    lines = [line.removeprefix("data: ") for line in recording.body.decode().splitlines() if line]
    frames = [json.loads(line) for line in lines if line != "[DONE]"] if streamed else []
    for value in frames or [json.loads(recording.body)]:
        assert DESCRIBED.complaints(schema, value) == [], value
