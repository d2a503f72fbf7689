"""A call that OpenAI's client insists on, had from an Ollama, whose own API cannot be told to insist."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agenthub.settings import BackendSettings
from tests.hubs import Answered, running_hub, until
from tests.sharing import caching_of
from tests.upstreams import HI, Reply, line, serving

CHAT = "/v1/chat/completions"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NAMED = {"type": "function", "function": {"name": "f"}}
DROPPED = "X-AgentHub-Dropped"
Said = Callable[[Any], dict[str, Any]]


def tool(name: str, parameters: Any = CITY) -> dict[str, Any]:
    function = {"name": name, "description": f"about {name}"} | (
        {} if parameters is None else {"parameters": parameters}
    )
    return {"type": "function", "function": function}


def asking(*names: str, choice: Any = "required", **fields: Any) -> dict[str, Any]:
    """A request of a client that wants one of these tools called."""
    return {"model": "m", "messages": HI, "tools": [tool(name) for name in names], "tool_choice": choice} | fields


def saying(first: Any, second: Any = None, *, status: int = 200) -> Callable[[str, Any], Reply]:
    """Answer with the message ``first``, and with ``second`` where a form is asked for; each with 3 + 2 tokens."""

    def reply(path: str, body: Any) -> Reply:
        if "format" in body and status != 200:
            return Reply({"error": "invalid JSON schema in format"}, status=status)
        message = second if "format" in body else first
        message = {"content": message} if isinstance(message, str) else message
        if not body["stream"]:
            return Reply(line(done=True, **message))
        pieces = [line(**{name: value}) for name, value in message.items()]
        return Reply(frames=[*pieces, line(done=True)])

    return reply


def read(answer: Answered, streamed: bool) -> tuple[str, list[tuple[str, Any]], str]:
    """Return text, calls and reason of an answer, whole or streamed; each call has an id."""
    if not streamed:
        choice = answer.json()["choices"][0]
        message, reason = choice["message"], choice["finish_reason"]
    else:
        frames = [frame["choices"][0] for frame in answer.frames()[:-1] if frame["choices"]]
        text = "".join(frame["delta"].get("content") or "" for frame in frames)
        given = [call for frame in frames for call in frame["delta"].get("tool_calls") or []]
        message, reason = {"content": text, "tool_calls": given}, frames[-1]["finish_reason"]
    found = message.get("tool_calls") or []
    assert all(call["id"].startswith("call_") for call in found)
    calls = [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in found]
    return message["content"] or "", calls, reason


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
async def test_a_model_that_answers_with_text_is_asked_for_the_arguments(choice: Any, streamed: bool) -> None:
    """The second question has the parameters as its form, and its answer is the call; the tokens of both count."""
    body = asking("f", choice=choice, stream=streamed, stream_options={"include_usage": True})
    async with serving(saying("It is sunny.", '{"city": "Riga"}')) as upstream, running_hub(upstream.url) as hub:
        answer = await hub.post(CHAT, body | {"temperature": 0})
        assert (answer.status, read(answer, streamed)) == (200, ("", [("f", {"city": "Riga"})], "tool_calls"))
        assert DROPPED not in answer.headers
        usage = answer.frames()[-2]["usage"] if streamed else answer.json()["usage"]
        assert usage == {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10}
        first, second = upstream.asked
        assert (first["tools"], "format" in first) == ([tool("f")], False)
        assert (second["format"], "tools" in second, second["think"]) == (CITY, False, False)
        assert (second["options"], second["stream"]) == (first["options"], streamed)
        told, asked = second["messages"]
        assert (asked, told["role"], json.dumps(CITY, separators=(",", ":")) in told["content"]) == (
            HI[0],
            "system",
            True,
        )
        again = await hub.post(CHAT, body | {"temperature": 0})
        assert (again.headers["X-AgentHub-Cache"], read(again, streamed)) == ("hit", read(answer, streamed))


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_one_of_several_tools(streamed: bool) -> None:
    """For several tools the form is a name and its arguments; what the answer names is called."""
    said = '{"name": "g", "arguments": {"city": "Oslo", "n": 12345678901234567890123}}'
    async with serving(saying("hm", said)) as upstream, running_hub(upstream.url) as hub:
        answer = await hub.post(CHAT, asking("f", "g", stream=streamed))
        assert read(answer, streamed)[1:] == ([("g", {"city": "Oslo", "n": 12345678901234567890123})], "tool_calls")
        assert upstream.asked[1]["format"] == {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"name": {"type": "string", "enum": [name]}, "arguments": CITY},
                    "required": ["name", "arguments"],
                }
                for name in "fg"
            ]
        }


async def test_references_in_parameters() -> None:
    """References begin at the root of the form: where the parameters are a part of one, they are moved with it."""
    inner = {"$defs": {"A": {"type": "string"}}, "type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}
    recursive = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    tools = [tool("f", inner), tool("g"), tool("h", recursive)]
    async with (
        serving(saying("hm", '{"name": "f", "arguments": {"a": "x"}}')) as upstream,
        running_hub(upstream.url) as hub,
    ):
        answer = await hub.post(CHAT, asking(tools=tools))
        assert read(answer, False)[1] == [("f", {"a": "x"})]
        form = upstream.asked[1]["format"]
        assert [kind["properties"]["arguments"] for kind in form["anyOf"]] == [
            {"$ref": "#/$defs/tool_0"},
            CITY,
            {"$ref": "#/$defs/tool_2"},
        ]
        assert form["$defs"]["tool_0"]["properties"] == {"a": {"$ref": "#/$defs/tool_0/$defs/A"}}
        assert form["$defs"]["tool_2"]["properties"] == {"next": {"$ref": "#/$defs/tool_2"}}
        # Alone it is the root.
        await hub.post(CHAT, asking(tools=tools, choice=NAMED))
        assert upstream.asked[-1]["format"] == inner


async def test_a_tool_without_parameters() -> None:
    """It is called without any."""
    async with serving(saying("hm", "{}")) as upstream, running_hub(upstream.url) as hub:
        answer = await hub.post(CHAT, asking(tools=[tool("f", None)]))
        assert read(answer, False)[1] == [("f", {})]
        assert upstream.asked[1]["format"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_call_at_once(streamed: bool) -> None:
    """A model that calls is asked once, and what it says before and after the call is passed on."""
    message = {"content": "Let me see. ", "tool_calls": [{"function": {"name": "f", "arguments": {"city": "Riga"}}}]}
    async with serving(saying(message)) as upstream, running_hub(upstream.url) as hub:
        answer = await hub.post(CHAT, asking("f", "g", stream=streamed))
        assert read(answer, streamed) == ("Let me see. ", [("f", {"city": "Riga"})], "tool_calls")
        assert (len(upstream.asked), DROPPED in answer.headers) == (1, False)


def calling(*names: str) -> dict[str, Any]:
    """A message that calls these tools, with words before."""
    calls = [{"function": {"name": name, "arguments": {"city": "Riga"}}} for name in names]
    return {"content": "Let me see.", "tool_calls": calls}


WRONG: list[tuple[Any, tuple[str, ...]]] = [(NAMED, ("g",)), (NAMED, ("x",)), ("required", ("x",)), (NAMED, ("f", "g"))]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("choice", "called"), WRONG, ids=str)
async def test_a_call_of_another_tool(choice: Any, called: tuple[str, ...], streamed: bool) -> None:
    """It is no answer to the choice: the model is asked for the call as where it makes none."""
    body = asking("f", "g", choice=choice, stream=streamed, stream_options={"include_usage": True})
    second = '{"city": "Oslo"}' if choice == NAMED else '{"name": "f", "arguments": {"city": "Oslo"}}'
    for strict in ("false", "true"):
        async with serving(saying(calling(*called), second)) as upstream, running_hub(upstream.url) as hub:
            answer = await hub.post(CHAT, body, X_AgentHub_Strict=strict)
            assert (answer.status, DROPPED in answer.headers) == (200, False)
            assert read(answer, streamed) == ("", [("f", {"city": "Oslo"})], "tool_calls")
            usage = answer.frames()[-2]["usage"] if streamed else answer.json()["usage"]
            assert (usage["total_tokens"], len(upstream.asked)) == (10, 2)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("choice", "called"), WRONG, ids=str)
async def test_a_call_of_another_tool_to_the_last(choice: Any, called: tuple[str, ...], streamed: bool) -> None:
    """The first answer goes out and says so; a strict client gets 502."""
    body = asking("f", "g", choice=choice, stream=streamed)
    async with serving(saying(calling(*called), "no")) as upstream, running_hub(upstream.url) as hub:
        answer = await hub.post(CHAT, body)
        assert (answer.status, answer.headers[DROPPED]) == (200, "tool_choice")
        assert read(answer, streamed) == ("Let me see.", [(name, {"city": "Riga"}) for name in called], "tool_calls")
        refused = await hub.post(CHAT, body, X_AgentHub_Strict="true")
        assert (refused.status, "does not allow" in refused.text, called[-1] in refused.text) == (502, True, True)


async def test_several_choices_with_a_call_of_another_tool() -> None:
    """Each choice is looked at by itself."""
    counted = 0

    def reply(path: str, body: Any) -> Reply:
        nonlocal counted
        counted += "format" not in body
        return saying(calling("f" if counted == 1 else "x"), '{"city": "Oslo"}')(path, body)

    async with serving(reply) as upstream, running_hub(upstream.url) as hub:
        answer = await hub.post(CHAT, asking("f", n=2))
        made = [choice["message"]["tool_calls"][0]["function"] for choice in answer.json()["choices"]]
        assert [(call["name"], json.loads(call["arguments"])["city"]) for call in made] == [
            ("f", "Riga"),
            ("f", "Oslo"),
        ]
        assert (len(upstream.asked), DROPPED in answer.headers) == (3, False)


ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}}


async def test_calls_that_the_choice_allows() -> None:
    """Any of several, more than one, and the first where only one is wanted: the model is asked once."""
    cases: list[tuple[Any, tuple[str, ...], dict[str, Any]]] = [
        ("required", ("f", "g"), {}),
        (ALLOWED, ("f", "f"), {}),
        (NAMED, ("f", "g"), {"parallel_tool_calls": False}),
    ]
    for choice, called, more in cases:
        async with serving(saying(calling(*called))) as upstream, running_hub(upstream.url) as hub:
            answer = await hub.post(CHAT, asking("f", "g", choice=choice, **more))
            assert "tool_choice" not in answer.headers.get(DROPPED, "")
            names = [name for name, _ in read(answer, False)[1]]
            assert (names, len(upstream.asked)) == (["f"] if more else list(called), 1)


SPELLED = {
    "a fence": '```json\n{"name": "f", "arguments": {"city": "Riga"}}\n```',
    "a fence without its language": '```\n{"name": "f", "arguments": {"city": "Riga"}}\n```\n',
    "words around the fence": 'Here it is:\n```json\n{"name": "f", "arguments": {"city": "Riga"}}\n```\nDone.',
    "parameters": '{"name": "f", "parameters": {"city": "Riga"}}',
    "both": '```json\n{"name": "f", "parameters": {"city": "Riga"}}\n```',
    "arguments as a text": '{"name": "f", "arguments": "{\\"city\\": \\"Riga\\"}"}',
}


@pytest.mark.parametrize("said", SPELLED.values(), ids=SPELLED)
@pytest.mark.parametrize("tools", [("f",), ("f", "g")], ids=["one tool", "two tools"])
async def test_spellings_of_a_call(said: str, tools: tuple[str, ...]) -> None:
    """What models write where the server does not hold them to the form."""
    async with serving(saying("hm", said)) as upstream, running_hub(upstream.url) as hub:
        answer = await hub.post(CHAT, asking(*tools))
        assert read(answer, False) == ("", [("f", {"city": "Riga"})], "tool_calls")


async def test_arguments_that_look_like_a_call() -> None:
    """A tool of which name and parameters are arguments gets them."""
    own = {"type": "object", "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}}}
    said = '{"name": "f", "parameters": {"a": 1}}'
    async with serving(saying("hm", f"```json\n{said}\n```")) as upstream, running_hub(upstream.url) as hub:
        answer = await hub.post(CHAT, asking(tools=[tool("f", own)]))
        assert read(answer, False)[1] == [("f", json.loads(said))]


FAILING: dict[str, Callable[[str, Any], Reply]] = {
    "a text again": saying("It is sunny.", "It still is."),
    "nothing": saying("It is sunny.", ""),
    "cut": saying("It is sunny.", '{"city": "Ri'),
    "no object": saying("It is sunny.", '["Riga"]'),
    "another tool": saying("It is sunny.", '{"name": "x", "arguments": {}}'),
    "arguments that are no object": saying("It is sunny.", '{"name": "f", "arguments": "Riga"}'),
    "no arguments": saying("It is sunny.", '{"name": "f"}'),
    "a name that is no text": saying("It is sunny.", '{"name": ["f"], "arguments": {}}'),
    "a form that the server refuses": saying("It is sunny.", status=400),
    "a server that fails": saying("It is sunny.", status=500),
}


@pytest.mark.parametrize("reply", FAILING.values(), ids=FAILING)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_model_that_makes_no_call_at_all(reply: Callable[[str, Any], Reply], streamed: bool) -> None:
    """Its text is the answer, as from Ollama itself; header and log name what was dropped. Strict clients get 502."""
    names = ["f", "g"] if reply is not FAILING["no object"] else ["f"]
    body = asking(*names, stream=streamed, temperature=0)
    async with serving(reply) as upstream, running_hub(upstream.url) as hub:
        answer = await hub.post(CHAT, body)
        assert (answer.status, read(answer, streamed)) == (200, ("It is sunny.", [], "stop"))
        assert answer.headers[DROPPED] == "tool_choice"
        (logged,) = hub.dispatches()
        assert (logged["dropped"], logged["outcome"], logged["status"]) == (["tool_choice"], "ok", 200)
        assert len(upstream.asked) == 2
        # It is no answer for anybody else, least of all for a strict client.
        refused = await hub.post(CHAT, body, X_AgentHub_Strict="true")
        assert (refused.status, "the model called no tool" in refused.text) == (502, True)
        for _ in range(3):
            # Its breaker stays closed, too.
            again = await hub.post(CHAT, body)
            assert (again.status, again.headers["X-AgentHub-Cache"]) == (200, "miss")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_thoughts(streamed: bool) -> None:
    """What the model thought first stays; a server that takes the whole answer for a thought is read all the same."""
    reply = saying({"thinking": "a city", "content": "hm"}, {"thinking": '{"city": "Riga"}'})
    async with serving(reply) as upstream, running_hub(upstream.url) as hub:
        answer = await hub.post(CHAT, asking("f", stream=streamed, reasoning_effort="high"))
        assert read(answer, streamed) == ("", [("f", {"city": "Riga"})], "tool_calls")
        assert "a city" in answer.text
        assert [one["think"] for one in upstream.asked] == ["high", False]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("second", ['{"city": "Riga"}', "no"], ids=["called", "not called"])
async def test_several_choices(second: str, streamed: bool) -> None:
    """Each choice is a call of its own, or none; what any of them lost stands in the header."""
    counted = 0

    def reply(path: str, body: Any) -> Reply:
        nonlocal counted
        counted += "format" not in body
        return saying("hm", '{"city": "Riga"}' if counted == 1 else second)(path, body)

    async with serving(reply) as upstream, running_hub(upstream.url) as hub:
        answer = await hub.post(CHAT, asking("f", n=2, stream=streamed))
        assert (answer.status, len(upstream.asked)) == (200, 4)
        assert answer.headers.get(DROPPED) == (None if second != "no" else "tool_choice")
        if not streamed:
            choices = answer.json()["choices"]
            reasons = ["tool_calls", "stop" if second == "no" else "tool_calls"]
            assert [choice["finish_reason"] for choice in choices] == reasons
            assert answer.json()["usage"]["total_tokens"] == 20
        strict = await hub.post(CHAT, asking("f", n=2, stream=streamed, seed=1), X_AgentHub_Strict="true")
        assert strict.status == (502 if second == "no" else 200)


async def test_one_call_only() -> None:
    """``parallel_tool_calls: false`` is no obstacle; of calls at once only the first is passed on."""
    both = {"tool_calls": [{"function": {"name": name, "arguments": {"city": "x"}}} for name in "fg"]}
    for first, calls in (("hm", ["f"]), (both, ["f"])):
        reply = saying(first, '{"name": "f", "arguments": {"city": "x"}}')
        async with serving(reply) as upstream, running_hub(upstream.url) as hub:
            answer = await hub.post(CHAT, asking("f", "g", parallel_tool_calls=False))
            assert [name for name, _ in read(answer, False)[1]] == calls


async def test_deprecated_functions() -> None:
    """A client of the old words gets its ``function_call``."""
    body = {"model": "m", "messages": HI, "functions": [tool("f")["function"]], "function_call": {"name": "f"}}
    async with serving(saying("hm", '{"city": "Riga"}')) as upstream, running_hub(upstream.url) as hub:
        choice = (await hub.post(CHAT, body)).json()["choices"][0]
        assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"city": "Riga"}'}
        assert choice["finish_reason"] == "function_call"


async def test_where_the_instruction_stands() -> None:
    """Behind the client's own instructions, before the conversation, which is left as it is."""
    own = [{"role": "system", "content": "be brief"}, *HI, {"role": "assistant", "content": "yes?"}, *HI]
    async with serving(saying("hm", '{"city": "Riga"}')) as upstream, running_hub(upstream.url) as hub:
        await hub.post(CHAT, asking("f", messages=own))
        messages = upstream.asked[1]["messages"]
        assert [messages[0], *messages[2:]] == own
        assert (messages[1]["role"], '"name":"f"' in messages[1]["content"]) == ("system", True)


async def test_a_first_answer_that_fails_is_not_asked_again() -> None:
    """Only a finished answer without a call is a reason to ask for one."""

    def reply(path: str, body: Any) -> Reply:
        return Reply({"error": '"m" does not support tools'}, status=400)

    async with serving(reply) as upstream, running_hub(upstream.url) as hub:
        assert (await hub.post(CHAT, asking("f"))).status == 400
        assert len(upstream.asked) == 1


async def test_those_who_ask_the_same_at_once() -> None:
    """An answer without its call is told as such to each who waits for it."""
    gate, app = asyncio.Event(), web.Application()

    async def handle(request: web.Request) -> web.Response:
        if request.method == "POST":
            await gate.wait()
        return web.json_response(line(done=True, content="It is sunny.") | {"models": [], "version": "0.9.3"})

    app.router.add_route("*", "/{path:.*}", handle)
    async with TestServer(app) as upstream, running_hub(str(upstream.make_url("/"))) as hub:
        flights = caching_of(hub).flights
        asked = [asyncio.create_task(hub.post(CHAT, asking("f", temperature=0))) for _ in range(2)]
        await until(lambda: [len(flight.readers) for flight in flights] == [2])
        gate.set()
        answers = await asyncio.gather(*asked)
        assert sorted(answer.headers["X-AgentHub-Cache"] for answer in answers) == ["miss", "shared"]
        assert [answer.headers[DROPPED] for answer in answers] == ["tool_choice"] * 2
        assert [one["dropped"] for one in hub.dispatches()] == [["tool_choice"]] * 2


@pytest.mark.parametrize("path", ["/api/chat", CHAT])
async def test_lanes_of_one_dialect(path: str) -> None:
    """Where nothing crosses, the server gets the client's words once and its answer is passed on."""
    mode = "native" if path == "/api/chat" else "openai"

    def reply(_: str, body: Any) -> Reply:
        if mode == "native":
            return Reply(line(done=True, content="no"))
        said = {"index": 0, "message": {"role": "assistant", "content": "no"}, "finish_reason": "stop"}
        return Reply({"choices": [said]})

    async with (
        serving(reply) as upstream,
        running_hub({"one": BackendSettings(url=upstream.url, api_mode=mode, flavour="generic")}) as hub,
    ):
        body = asking("f", stream=False)
        answer = await hub.post(path, body, X_AgentHub_Strict="true")
        assert (answer.status, upstream.asked, DROPPED in answer.headers) == (200, [body], False)


async def test_with_the_openai_package() -> None:
    """The package's own types and its helper for streams take such a call."""
    fields: Any = {"model": "m", "messages": HI, "tools": [tool("f")], "tool_choice": NAMED}
    async with serving(saying("hm", '{"city": "Riga"}')) as upstream, running_hub(upstream.url) as hub:
        whole = await hub.openai.chat.completions.create(**fields)
        async with hub.openai.chat.completions.stream(**fields) as stream:
            final = await stream.get_final_completion()
        for completion in (whole, final):
            assert isinstance(completion, openai.types.chat.ChatCompletion)
            (call,) = completion.choices[0].message.tool_calls or []
            assert call.type == "function"
            assert (call.function.name, call.function.arguments) == ("f", '{"city": "Riga"}')
