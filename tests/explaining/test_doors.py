"""Who may have what explained, what is no description, and what is said of who asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenthub.api.described import parse_description
from agenthub.api.explained import explain_request
from agenthub.api.routes import ROUTES
from agenthub.cli.opening import open_hub
from agenthub.dialects import jsontext
from agenthub.errors import InvalidRequest
from agenthub.middleware import Caller
from agenthub.settings import BackendSettings, ClientSettings, Settings
from agenthub.standin import Standin, running
from tests.hubs import RunningHub, running_hub
from tests.upstreams import HI

CHAT: dict[str, Any] = {"model": "standin", "messages": HI}
ONE, TWO = "sk-of-number-one", "sk-of-number-two"


@pytest.fixture
async def keyed() -> AsyncIterator[RunningHub]:
    """A hub whose clients have keys: ``one`` may ask for standin only, ``two`` for all, ``three`` has none."""
    clients = {
        "one": ClientSettings(api_key=ONE, models=("standin",), operations=("chat",)),  # type: ignore[arg-type]
        "two": ClientSettings(api_key=TWO, strict=True),  # type: ignore[arg-type]
        "three": ClientSettings(),
    }
    async with running(Standin(models=("standin", "hidden"))) as url, running_hub(url, clients=clients) as hub:
        yield hub


@pytest.fixture
async def hub() -> AsyncIterator[RunningHub]:
    clients = {"known": ClientSettings(operations=("list",)), "free": ClientSettings()}
    async with running(Standin()) as url, running_hub(url, clients=clients, max_body_bytes=1000) as hub:
        yield hub


async def explained(hub: RunningHub, description: Any, **headers: str) -> Any:
    answer = await hub.post("/hub/explain", description, **headers)
    assert answer.status == 200, answer.text
    return answer.json()


async def test_explain_needs_a_key_of_its_own(keyed: RunningHub) -> None:
    """A key that is only described opens nothing; the answer is a 401 in Ollama's shape, as for any other path."""
    description = {"path": "/api/chat", "body": CHAT, "headers": {"x-api-key": ONE}}
    for headers in ({}, {"x-api-key": "wrong"}, {"X-Client-Name": "one"}):
        refused = await keyed.post("/hub/explain", description, **headers)
        assert (refused.status, list(refused.json())) == (401, ["error"])


async def test_in_whose_name(keyed: RunningHub) -> None:
    """Without a described key in the name of who asks, with one in its owner's; a name alone claims nothing."""
    for headers, name, known_by in [
        ({}, "one", "key of who asks for the explanation"),
        ({"X-Client-Name": "two"}, "one", "key of who asks for the explanation"),
        ({"x-api-key": TWO}, "two", "key"),
        ({"Authorization": f"Bearer {ONE}", "X-Client-Name": "three"}, "one", "key"),
    ]:
        told = await explained(keyed, {"path": "/api/chat", "body": CHAT, "headers": headers}, x_api_key=ONE)
        assert (told["client"]["name"], told["client"]["known_by"]) == (name, known_by)
        assert told["client"]["strict"] is (name == "two")
        assert ONE not in json.dumps(told)
        assert TWO not in json.dumps(told)
    told = await explained(keyed, {"path": "/api/chat", "body": CHAT, "headers": {"x-api-key": "nope"}}, x_api_key=ONE)
    assert (told["answer"]["status"], told["client"]) == (401, {"name": None, "known_by": None})
    assert "candidates" not in told


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/chat", CHAT | {"model": "hidden"}, 403),
        ("/api/generate", {"model": "standin", "prompt": "hi"}, 403),
        ("/api/show", {"model": "hidden"}, 403),
        ("/api/pull", {"model": "standin"}, 403),
    ],
)
async def test_nothing_is_told_beyond_ones_rights(keyed: RunningHub, path: str, body: Any, status: int) -> None:
    """The refusal is told, and nothing of who would have answered or how it would be asked."""
    told = await explained(keyed, {"path": path, "body": body}, x_api_key=ONE)
    assert told["answer"]["status"] == status
    hidden = {name: told[name] for name in ("model", "candidates", "api_mode", "losses", "upstream")}
    assert hidden == dict.fromkeys(hidden)
    assert "127.0.0.1" not in json.dumps(told)
    assert (await keyed.post(path, body, x_api_key=ONE)).status == status


async def test_a_client_by_its_name(hub: RunningHub) -> None:
    """Without keys the name is what a request may claim: its rights are told, and hold."""
    for name, configured, status in (("known", True, 403), ("free", True, None), ("nobody", False, None)):
        told = await explained(hub, {"path": "/api/chat", "body": CHAT, "headers": {"X-Client-Name": name}})
        client = told["client"]
        assert (client["name"], client["known_by"]) == (name, "X-Client-Name")
        assert (client["is_configured"], told["answer"]["status"]) == (configured, status)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON object"),
        (b"[]", "JSON object"),
        (b"{", "JSON object"),
        ({}, "path must begin"),
        ({"path": 5}, "path must be a text"),
        ({"path": "api/chat"}, "path must begin"),
        ({"path": "/a\r\nb"}, None),
        ({"path": "/api/chat", "method": "G T"}, "method must be"),
        ({"path": "/api/chat", "method": 1}, "method must be"),
        ({"path": "/api/chat", "headers": []}, "headers must be"),
        ({"path": "/api/chat", "headers": ["a"]}, "headers must be"),
        ({"path": "/api/chat", "headers": {"a": 1}}, "headers must be"),
        ({"path": "/api/chat", "headers": {"a b": "c"}}, "headers must be"),
        ({"path": "/api/chat", "headers": {"a": "b\nc"}}, "headers must be"),
        ({"path": "/api/chat", "headers": {"a": ["b", 1]}}, "headers must be"),
        ({"path": "/api/chat", "header": {}}, "'header' is not one of"),
        ({"path": "/api/chat", "method": None, "headers": None, "body": None}, None),
        ({"path": "/%zz?%ff#x", "body": 1e400}, "JSON object"),
        ({"path": "/%zz?%ff#x"}, None),
        ({"path": "//evil.example/x"}, None),
        ({"path": "/\ud800"}, None),
        (b'{"path": "/api/chat", "path": "/", "body": 1.50}', None),
    ],
    ids=str,
)
async def test_what_is_no_description(hub: RunningHub, body: Any, words: str | None) -> None:
    """A 400 in Ollama's shape that says what is wrong; whatever could be a request is explained, never a 500."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await hub.post("/hub/explain", data)
    assert answer.status == (200 if words is None else 400), answer.text
    assert words is None or words in answer.json()["error"]


async def test_what_a_described_body_is(hub: RunningHub) -> None:
    """JSON stands for the bytes in which it is written, a text for its own; one too large is a 413 as described."""
    spelled = b'{"model" :"standin", "messages": [], "x": 1.0e2}'
    for body in (spelled, json.dumps(spelled.decode()).encode()):
        told = await explained(hub, b'{"path": "/api/chat", "body": ' + body + b"}")
        assert told["upstream"]["requests"][0]["body"] == spelled.decode()
    told = await explained(hub, {"path": "/v1/chat/completions", "body": "{broken"})
    assert (told["answer"]["status"], told["answer"]["body"]["error"]["type"]) == (400, "invalid_request_error")
    large = await hub.post("/hub/explain", {"path": "/api/chat", "body": "x" * 2000})
    assert large.status == 413


async def test_who_asked_for_it_is_logged(hub: RunningHub) -> None:
    """One line, and no line of a dispatch or a refusal for what never came in."""
    await explained(hub, {"path": "/api/chat", "body": CHAT, "headers": {"Host": "evil.example"}}, X_Client_Name="me")
    lines = [line for line in hub.lines if line["event"] in ("agenthub.explained", "agenthub.request_refused")]
    (line,) = lines
    assert (line["event"], line["client"], line["asked"]) == ("agenthub.explained", "me", "POST /api/chat")
    assert hub.dispatches() == []


async def test_secrets_of_a_backend_are_stars() -> None:
    """Its key and each value of its headers, wherever they stand; the names are told."""
    secrets = {"X-Org": "org-1234567", "User-Agent": "mine", "api-key": "sk-other-00"}
    backend = BackendSettings(url="http://127.0.0.1:1", api_key="sk-key-0000", headers=secrets)  # type: ignore[arg-type]
    async with running_hub({"b": backend}) as hub:
        told = await explained(hub, {"path": "/api/chat", "body": CHAT})
        headers = dict(told["upstream"]["requests"][0]["headers"])
        assert headers["Authorization"] == "Bearer ********"
        assert [headers[name] for name in secrets] == ["********"] * 3
        assert not any(value in json.dumps(told) for value in (*secrets.values(), "sk-key-0000"))


TEXTS = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(
    ["POST", "GET", "/api/chat", "/v1/models/x", "m"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
PATHS = st.sampled_from(sorted({path for _, path, _ in ROUTES if ":" not in path})) | TEXTS.map(lambda text: f"/{text}")
DESCRIPTIONS = st.fixed_dictionaries(
    {"path": PATHS},
    optional={
        "method": st.sampled_from(["GET", "POST", "DELETE", "HEAD", "OPTIONS", "nope"]) | TEXTS,
        "headers": st.dictionaries(st.sampled_from(["Host", "Origin", "X-Client-Name", "x-enhance"]) | TEXTS, TEXTS),
        "body": st.fixed_dictionaries({"model": st.just("standin")}, optional={"messages": VALUES, "prompt": VALUES})
        | VALUES,
    },
)


@given(description=DESCRIPTIONS | VALUES)
@settings(max_examples=300)
def test_whatever_is_described(description: Any) -> None:
    """It is explained or refused with a 400, never a 500, and nothing is asked of any model."""

    async def check() -> None:
        async with open_hub(Settings(backends={"b": BackendSettings(url="http://127.0.0.1:1")})) as hub:
            hub.router.is_ready = True
            data = json.dumps(description).encode()
            try:
                described = parse_description(data, "localhost")
            except InvalidRequest:
                return
            told = await explain_request(hub, described, Caller())
            jsontext.dumps(told)
            assert told["answer"]["status"] != 500

    asyncio.run(check())
