"""Whole requests that are long in one place: each field of each endpoint, and each part of a head.

What the hub does for one grows no faster than the request, nothing is a crash, and no refusal quotes all of it.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from aiohttp import web

from agenthub.settings import BackendSettings, ModelSettings
from tests.costs import assert_linear_async
from tests.hubs import ONCE, RunningHub, error_of, running_hub
from tests.test_openapi import DESCRIBED, TAKING, example
from tests.upstreams import LISTED, served

SIZE = 4000
MODEL = "same"
"""An alias with an option of its own, so that the hub changes what the client wrote."""


@pytest.fixture
async def hub() -> AsyncIterator[RunningHub]:
    """A hub before an upstream that lists one model, and refuses whatever it is asked in few words."""

    async def refuse(request: web.Request) -> web.Response:
        async for _ in request.content.iter_any():
            pass
        if request.method == "GET":
            return web.json_response(LISTED)
        return web.json_response({"error": "no"}, status=400)

    async with served(refuse, max_body_bytes=2**30) as url:
        backends = {"ollama": BackendSettings(url=url)}
        models = {MODEL: ModelSettings(target="m", options={"top_k": 40})}
        async with running_hub(backends, models=models, retries=ONCE) as running:
            yield running


def wrapped(opening: str, inside: str, closing: str, n: int) -> str:
    return opening * n + inside + closing * n


LONG: dict[str, tuple[int, Callable[[int], str]]] = {
    "letters": (4000, lambda n: json.dumps("a" * n)),
    "digits in a text": (4000, lambda n: json.dumps("1" * n)),
    "blanks": (4000, lambda n: json.dumps(" " * n)),
    "quotes": (4000, lambda n: json.dumps('"' * n)),
    "escaped surrogates": (1000, lambda n: '"' + r"\ud800" * n + '"'),
    "data URL": (4000, lambda n: json.dumps("data:" + "," * n)),
    "digits": (4000, lambda n: "1" * n),
    "decimals": (4000, lambda n: "0." + "1" * n),
    "numbers": (1000, lambda n: json.dumps([0] * n)),
    "texts": (500, lambda n: json.dumps([str(number) for number in range(n)])),
    "objects": (
        150,
        lambda n: json.dumps([{"role": "user", "content": "a", "type": str(number)} for number in range(n)]),
    ),
    "members": (200, lambda n: json.dumps({f"k{number}": number for number in range(n)})),
    "deep lists": (100, partial(wrapped, "[", "", "]")),
    "deep objects": (100, partial(wrapped, '{"a":', "1", "}")),
}
"""JSON values, and of how many units they are at first."""


def fields(schema: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the way to each field of a schema: names of members, and an empty one into a list."""
    schema = DESCRIBED.resolve(schema)
    for option in (schema, *map(DESCRIBED.resolve, schema.get("anyOf", ()))):
        for name, inside in option.get("properties", {}).items():
            yield (*path, name)
            if len(path) < 3:
                yield from fields(inside, *path, name)
        if "items" in option and len(path) < 3:
            yield from fields(option["items"], *path, "")


def nested(path: tuple[str, ...], value: str) -> str:
    """Return JSON text in which ``value`` stands at the end of the way."""
    for name in reversed(path):
        value = f"[{value}]" if not name else f"{{{json.dumps(name)}:{value}}}"
    return value


def body(usual: Mapping[str, Any], path: tuple[str, ...], value: str) -> bytes:
    """Return the usual body with one field that holds ``value``."""
    rest = {name: held for name, held in usual.items() if name != path[0]}
    return f"{json.dumps(rest)[:-1]}{', ' if rest else ''}{json.dumps(path[0])}: {nested(path[1:], value)}}}".encode()


async def send(hub: RunningHub, route: tuple[str, str], sent: bytes, **headers: str) -> None:
    """Have it answered, whatever the answer is: not by a crash, and a refusal in few words."""
    async with hub.http.request(route[0], hub.url + route[1], data=sent, headers=headers) as response:
        answer = await response.read()
    assert response.status != 500, (sent[:200], answer[:200])
    assert response.status < 400 or route[1].startswith("/hub/") or len(answer) < 20_000, (sent[:200], answer[:200])
    assert not [line for line in hub.logged if line["event"] == "agenthub.request_crashed"]


ROUTES = [*TAKING, ("POST", "/hub/enhance")]


@pytest.mark.parametrize("made", LONG)
@pytest.mark.parametrize("route", ROUTES, ids="".join)
async def test_each_field(hub: RunningHub, route: tuple[str, str], made: str) -> None:
    """Through an alias, and in the lane to either kind of upstream: of whatever type the value is."""
    named = {name: MODEL if name in ("model", "source", "from") else held for name, held in example(route).items()}
    size, make = LONG[made]
    for path in dict.fromkeys(fields(DESCRIBED.body_schema(*route))):
        for mode in ("native", "openai"):

            async def ask(n: int, path: tuple[str, ...] = path, mode: str = mode) -> None:
                await send(hub, route, body(named, path, make(n)), **{"X-AgentHub-Api-Mode": mode})

            await assert_linear_async(ask, size)


@pytest.mark.parametrize("route", ROUTES, ids="".join)
async def test_each_field_many_times(hub: RunningHub, route: tuple[str, str]) -> None:
    """Of 4,000 members of one name the last counts, or they are a mistake; in whatever case the names are."""
    named = {name: MODEL if name in ("model", "source", "from") else held for name, held in example(route).items()}
    for name in {path[0] for path in fields(DESCRIBED.body_schema(*route))}:
        for spelled in (name, name.upper()):

            async def ask(n: int, name: str = name, spelled: str = spelled) -> None:
                value = json.dumps(named.get(name, "5"))
                again = f"{json.dumps(spelled)}: {value}, " * n
                await send(hub, route, f"{{{again}{json.dumps(named)[1:]}".encode())

            await assert_linear_async(ask, 1000)


TWINS = {
    "/api/chat": ("model", "keep_alive", "options", "messages"),
    "/v1/chat/completions": ("model", "temperature", "options", "messages"),
    "/api/generate": ("model", "keep_alive", "options"),
    "/api/embed": ("model", "keep_alive", "options"),
    "/api/show": ("model", "name"),
    "/api/copy": ("source",),
    "/api/create": ("from",),
}


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, names in TWINS.items() for name in names])
async def test_what_is_replaced_is_not_repeated_at_will(hub: RunningHub, path: str, name: str) -> None:
    """A member that the hub replaces may be there 16 times; more often it is a mistake, which names it."""
    values = {"keep_alive": "5", "options": {"seed": 1}, "messages": [], "temperature": 1}
    usual = {"model": MODEL, "source": MODEL, "from": MODEL, "destination": "new", "messages": []}
    if path.startswith("/v1/"):
        usual["messages"] = values["messages"] = [{"role": "user", "content": "a"}]
    value, usual = json.dumps(values.get(name, MODEL)), {held: usual[held] for held in usual if held != name}
    is_replaced = name in ("model", "source", "from", "keep_alive") or (name == "options" and path.startswith("/api/"))
    headers = {"X-AgentHub-Api-Mode": "openai" if path.startswith("/v1/") else "native"}
    for count in (1, 16, 17, 50_000):
        sent = ("{" + f'"{name}": {value}, ' * count + json.dumps(usual)[1:]).encode()
        async with hub.http.request("POST", hub.url + path, data=io.BytesIO(sent), headers=headers) as response:
            said = error_of(await response.json(content_type=None))
        assert response.status == 400
        refusal = f'the field "{name}" is given more than 16 times'
        assert said == (refusal if count > 16 and is_replaced else "no")


KEEP_ALIVES = ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/v1/chat/completions", "/v1/embeddings")


@pytest.mark.parametrize("path", KEEP_ALIVES)
@pytest.mark.parametrize(
    "text", ["1" * 20_000, "1" * 200_000, "1." * 100_000, "1m" * 100_000 + "x"], ids=lambda t: t[:3]
)
async def test_a_keep_alive_without_end(hub: RunningHub, path: str, text: str) -> None:
    """It is refused in Go's words, at once and shortened."""
    sent = {
        "model": "m",
        "messages": [{"role": "user", "content": "a"}],
        "prompt": "a",
        "input": "a",
        "keep_alive": text,
    }
    answer = await hub.post(path, sent)
    assert answer.status == 400
    assert "time: invalid duration" in answer.text
    assert len(answer.body) < 5000


@pytest.mark.parametrize("part", ["/", "/a", "/v1", "/%2f", "/é"])
async def test_a_path_of_many_parts(hub: RunningHub, part: str) -> None:
    """It has no route, in the dialect that it begins like; so in explain, where it may be longer than a head."""
    for path in (part * 2000, "/v1/models" + part * 1000, "/api/blobs/" + part * 1000):
        answer = await hub.get(path)
        assert answer.status in (404, 405), answer.text
    for count, status in ((100, 404), (1000, 404), (100_000, 431)):
        told = (await hub.post("/hub/explain", {"method": "GET", "path": "/v1/models/x" + part * count})).json()
        assert told["answer"]["status"] == status, told


async def test_explaining_costs_no_more_than_its_question(hub: RunningHub) -> None:
    """A path, a header or a body of any size."""
    for described in (
        lambda n: {"path": "/a" * n},
        lambda n: {"path": "/" + "?" * n},
        lambda n: {"path": "/api/chat", "headers": {"x-api-key": ["a"] * n}},
        lambda n: {"path": "/api/chat", "headers": {f"h{number}": "a" for number in range(n)}},
        lambda n: {"path": "/api/chat", "body": {"model": MODEL, "messages": [], "keep_alive": "1" * n}},
        lambda n: {"path": "/api/chat", "body": "{" + '"model": "same",' * n + '"messages": []}'},
        lambda n: {"a" * n: 1},
        lambda n: {"method": "A" * n, "path": "/"},
    ):

        async def ask(n: int, described: Callable[[int], Any] = described) -> None:
            await send(hub, ("POST", "/hub/explain"), json.dumps(described(n)).encode())

        await assert_linear_async(ask, SIZE)


@pytest.mark.parametrize("name", ["[]", "{}", "1", "null", '""', "[[[]]]"])
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_the_name_of_a_tool_is_any_json(hub: RunningHub, path: str, name: str) -> None:
    """What is no text is no name: neither the tool nor the choice among them is a crash."""
    tool = f'{{"type": "function", "function": {{"name": {name}}}}}'
    for choice in (tool, f'{{"type": "allowed_tools", "allowed_tools": {{"mode": "auto", "tools": [{tool}]}}}}'):
        asked = '"model": "same", "messages": [{"role": "user", "content": "a"}]'
        sent = f'{{{asked}, "tools": [{tool}], "tool_choice": {choice}}}'
        await send(hub, ("POST", path), sent.encode())
