"""What OpenAI's clients may ask and Ollama's API has no word for: the hub does it, or says that it was not done."""

from __future__ import annotations

from collections import Counter
from typing import Any

import openai
import pytest

from agenthub.settings import BackendSettings
from tests.hubs import Answered, Clock, running_hub
from tests.upstreams import Reply, serving

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
END = {"done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2, "total_duration": 9}
HI: list[Any] = [{"role": "user", "content": "hi"}]


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def answered(body: Any, **message: Any) -> Reply:
    """Answer as Ollama's /api/chat does."""
    line = {
        "model": "m",
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": ""} | message,
    }
    if not body["stream"]:
        return Reply(line | END)
    return Reply(frames=[line | {"done": False}, line | {"message": {"role": "assistant", "content": ""}} | END])


def echo(path: str, body: Any) -> Reply:
    """Answer a prompt with itself, a chat with its seed."""
    if path == "/api/chat":
        return answered(body, content=f"seed {body.get('options', {}).get('seed')}")
    line = {"model": "m", "response": body["prompt"].upper()}
    return (
        Reply(line | END)
        if not body["stream"]
        else Reply(frames=[line | {"done": False}, line | {"response": ""} | END])
    )


def callers(*names: str) -> Any:
    def reply(path: str, body: Any) -> Reply:
        if not names:
            return answered(body, content="no")
        return answered(body, tool_calls=[{"function": {"name": name, "arguments": {"a": 1}}} for name in names])

    return reply


def texts_of(answer: Answered, member: str) -> dict[int, str]:
    """Return the text of each choice of a stream."""
    texts: Counter[int] = Counter()
    said: dict[int, str] = {}
    for frame in answer.frames()[:-1]:
        for choice in frame["choices"]:
            piece = choice["delta"].get("content") if member == "delta" else choice["text"]
            said[choice["index"]] = said.get(choice["index"], "") + (piece or "")
            texts[choice["index"]] += choice["finish_reason"] is not None
    assert set(texts.values()) == {1}, "one reason for each choice"
    return said


@pytest.mark.parametrize("seed", [None, 7])
async def test_several_choices(seed: int | None) -> None:
    """``n`` is a call for each choice, with a seed of its own where one is given; the counts are added up."""
    wanted = ["seed 7", "seed 8", "seed 9"] if seed else ["seed None"] * 3
    async with serving(echo) as upstream, running_hub(upstream.url) as hub:
        body = {"model": "m", "messages": HI, "n": 3} | ({"seed": seed} if seed else {})
        whole = await hub.post(CHAT, body)
        choices = whole.json()["choices"]
        assert [choice["message"]["content"] for choice in choices] == wanted
        assert [choice["index"] for choice in choices] == [0, 1, 2]
        assert whole.json()["usage"] == {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}
        assert "X-AgentHub-Dropped" not in whole.headers
        streamed = await hub.post(CHAT, body | {"stream": True}, Cache_Control="no-store")
        assert texts_of(streamed, "delta") == dict(enumerate(wanted))
        roles = [frame["choices"][0]["delta"].get("role") for frame in streamed.frames()[:-1]]
        assert roles.count("assistant") == 3
        assert len(upstream.asked) == 6


async def test_several_choices_are_cached_as_such() -> None:
    """An answer of two choices is kept, and is not taken for that of one."""
    async with serving(echo) as upstream, running_hub(upstream.url) as hub:
        body = {"model": "m", "messages": HI, "seed": 7}
        first, again, one = [await hub.post(CHAT, body | {"n": n}) for n in (2, 2, 1)]
        assert [answer.headers["X-AgentHub-Cache"] for answer in (first, again, one)] == ["miss", "hit", "miss"]
        assert again.json()["choices"] == first.json()["choices"]
        assert len(one.json()["choices"]) == 1
        assert len(upstream.asked) == 3


async def test_several_prompts() -> None:
    """Each prompt of a completion is a call, and with ``n`` its choices stand together, as in OpenAI's API."""
    async with serving(echo) as upstream, running_hub(upstream.url) as hub:
        body = {"model": "m", "prompt": ["one", "two"], "n": 2, "stream_options": {"include_usage": True}}
        whole = (await hub.post(COMPLETIONS, body)).json()
        assert [choice["text"] for choice in whole["choices"]] == ["ONE", "ONE", "TWO", "TWO"]
        streamed = await hub.post(COMPLETIONS, body | {"stream": True})
        assert texts_of(streamed, "text") == {0: "ONE", 1: "ONE", 2: "TWO", 3: "TWO"}
        assert streamed.frames()[-2]["usage"] == {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20}
        assert {body["prompt"] for body in upstream.asked} == {"one", "two"}


@pytest.mark.parametrize("choices", [0, -1, 129, "2"])
async def test_choices_without_sense(choices: Any) -> None:
    """A count of choices that cannot be is refused by name, before anything is asked."""
    async with serving(echo) as upstream, running_hub(upstream.url) as hub:
        refused = await hub.post(CHAT, {"model": "m", "messages": HI, "n": choices})
        assert (refused.status, refused.json()["error"]["param"]) == (400, "n")
        assert upstream.asked == []


@pytest.mark.parametrize(
    ("choice", "offered"),
    [
        ("auto", ["f", "g"]),
        ("none", []),
        ("required", ["f", "g"]),
        ({"type": "function", "function": {"name": "g"}}, ["g"]),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool("f")]}}, ["f"]),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool("g")]}}, ["g"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_tool_choice(choice: Any, offered: list[str], streamed: bool) -> None:
    """Only the tools in question are sent; where a strict client's model must call one and does not, it is an error."""
    body = {"model": "m", "messages": HI, "tools": [tool("f"), tool("g")], "tool_choice": choice, "stream": streamed}
    must = choice == "required" or (isinstance(choice, dict) and choice.get("allowed_tools", {}).get("mode") != "auto")
    async with serving(callers()) as upstream, running_hub(upstream.url) as hub:
        answer = await hub.post(CHAT, body, X_AgentHub_Strict="true")
        assert [one["function"]["name"] for one in upstream.asked[0].get("tools", [])] == offered
        if must:
            assert (answer.status, "called no tool" in answer.text) == (502, True)
            assert answer.headers["x-should-retry"] == "false"
        else:
            assert (answer.status, len(upstream.asked)) == (200, 1)
        for _ in range(4):
            # The backend is not to blame: its breaker stays closed.
            assert (await hub.post(CHAT, body, X_AgentHub_Strict="true")).status == answer.status
    async with serving(callers("g")) as upstream, running_hub(upstream.url) as hub:
        assert (await hub.post(CHAT, body)).status == 200
        assert len(upstream.asked) == 1


async def test_a_tool_that_is_not_there() -> None:
    """A choice of a tool that is not among the tools is the client's mistake."""
    body = {"model": "m", "messages": HI, "tools": [tool("f")], "tool_choice": {"function": {"name": "x"}}}
    async with serving(callers("f")) as upstream, running_hub(upstream.url) as hub:
        refused = await hub.post(CHAT, body)
        assert (refused.status, refused.json()["error"]["param"]) == (400, "tool_choice")
        assert upstream.asked == []


async def test_one_call_only() -> None:
    """With ``parallel_tool_calls: false`` only the first call is passed on, and the header says so beforehand."""
    body = {"model": "m", "messages": HI, "tools": [tool("f"), tool("g")], "parallel_tool_calls": False}
    async with serving(callers("f", "g")) as upstream, running_hub(upstream.url) as hub:
        whole = await hub.post(CHAT, body)
        assert [call["function"]["name"] for call in whole.json()["choices"][0]["message"]["tool_calls"]] == ["f"]
        assert whole.headers["X-AgentHub-Dropped"] == "parallel_tool_calls"
        streamed = await hub.post(CHAT, body | {"stream": True})
        calls = [f["choices"][0]["delta"].get("tool_calls") for f in streamed.frames()[:-1]]
        assert [call["function"]["name"] for given in calls if given for call in given] == ["f"]


async def test_deprecated_functions() -> None:
    """A client of the old words asks with functions and is answered with ``function_call``, whole and streamed."""
    function = tool("f")["function"]
    body = {"model": "m", "messages": HI, "functions": [function], "function_call": {"name": "f"}}
    async with serving(callers("f", "f")) as upstream, running_hub(upstream.url) as hub:
        choice = (await hub.post(CHAT, body)).json()["choices"][0]
        assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"a":1}'}
        assert (choice["finish_reason"], "tool_calls" in choice["message"]) == ("function_call", False)
        assert upstream.asked[0]["tools"] == [{"type": "function", "function": function}]
        frames = (await hub.post(CHAT, body | {"stream": True})).frames()[:-1]
        deltas = [frame["choices"][0]["delta"] for frame in frames]
        assert [delta["function_call"] for delta in deltas if "function_call" in delta] == [
            {"name": "f", "arguments": '{"a":1}'}
        ]
        assert frames[-1]["choices"][0]["finish_reason"] == "function_call"
        history = [*HI, {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}}]
        history += [{"role": "function", "name": "f", "content": "5"}]
        assert (await hub.post(CHAT, body | {"messages": history})).status == 200
        assert upstream.asked[-1]["messages"][1:] == [
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
            {"role": "tool", "content": "5", "tool_name": "f"},
        ]


async def test_an_empty_prompt_is_still_a_stream() -> None:
    """OpenAI's clients get a stream where they asked for one, though Ollama only loads the model."""

    def load(path: str, body: Any) -> Reply:
        return Reply({"model": "m", "response": "", "done": True, "done_reason": "load"})

    async with serving(load) as upstream, running_hub(upstream.url) as hub:
        stream = await hub.openai.completions.create(model="m", prompt="", stream=True)
        assert [chunk.choices[0].finish_reason async for chunk in stream] == ["stop"]
        assert (await hub.post(COMPLETIONS, {"model": "m", "prompt": ""})).json()["choices"][0][
            "finish_reason"
        ] == "stop"


async def test_choices_with_the_openai_package() -> None:
    """The package's own types take several choices, and its helper keeps their streams apart."""
    async with serving(echo) as upstream, running_hub(upstream.url) as hub:
        whole = await hub.openai.chat.completions.create(model="m", messages=HI, n=2, seed=1)
        assert [choice.message.content for choice in whole.choices] == ["seed 1", "seed 2"]
        async with hub.openai.chat.completions.stream(model="m", messages=HI, n=2, seed=5) as stream:
            final = await stream.get_final_completion()
        assert [choice.message.content for choice in final.choices] == ["seed 5", "seed 6"]
        assert isinstance(final, openai.types.chat.ChatCompletion)


async def test_levels_of_thinking_at_an_older_ollama() -> None:
    """One that knows no levels is asked again just to think, and the level named as lost; other refusals stay."""

    def old(path: str, body: Any) -> Reply:
        if isinstance(body["think"], str):
            text = "json: cannot unmarshal string into Go struct field ChatRequest.think of type bool"
            return Reply({"error": text}, status=400)
        return answered(body, content="hm")

    async with serving(old) as upstream, running_hub(upstream.url) as hub:
        body = {"model": "m", "messages": HI, "reasoning_effort": "low"}
        for asked in (["low", True], ["low", True, True]):
            answer = await hub.post(CHAT, body)
            assert answer.json()["choices"][0]["message"]["content"] == "hm"
            assert answer.headers["X-AgentHub-Dropped"] == "reasoning_effort"
            assert [one["think"] for one in upstream.asked] == asked
        strictly = await hub.post(CHAT, body, X_AgentHub_Strict="true")
        assert (strictly.status, strictly.json()["error"]["param"]) == (400, "reasoning_effort")
        assert "X-AgentHub-Dropped" not in (await hub.post(CHAT, body | {"reasoning_effort": "none"})).headers
    refusing = {"error": '"m" does not support thinking'}
    async with serving(lambda path, body: Reply(refusing, status=400)) as upstream, running_hub(upstream.url) as hub:
        refused = await hub.post(CHAT, body)
        assert (refused.status, refused.json()["error"]["message"]) == (400, refusing["error"])
        assert len(upstream.asked) == 1


async def test_words_of_the_client_teach_nothing_about_levels() -> None:
    """An error that repeats the words of an older Ollama in the client's text is the client's to read."""
    words = "json: cannot unmarshal string into Go struct field ChatRequest.think of type bool"

    def reply(path: str, body: Any) -> Reply:
        if words in body["messages"][0]["content"] and body["think"] == "low":
            return Reply({"error": f"cannot render the template: {body['messages'][0]['content']}"}, status=400)
        return answered(body, content="hm")

    async with serving(reply) as upstream, running_hub(upstream.url) as hub:
        body = {"model": "m", "messages": [{"role": "user", "content": words}], "reasoning_effort": "low"}
        assert ((await hub.post(CHAT, body)).status, len(upstream.asked)) == (400, 1)
        answer = await hub.post(CHAT, body | {"messages": HI})
        assert (answer.status, "X-AgentHub-Dropped" in answer.headers) == (200, False)
        assert upstream.asked[-1]["think"] == "low"


async def test_levels_are_tried_again() -> None:
    """An Ollama that is updated gets the level again after ten minutes."""
    text = "json: cannot unmarshal string into Go struct field ChatRequest.think of type bool"
    clock, is_old = Clock(), True

    def reply(path: str, body: Any) -> Reply:
        return Reply({"error": text}, status=400) if is_old and body["think"] == "low" else answered(body, content="hm")

    async with serving(reply) as upstream, running_hub(upstream.url) as hub:
        adapter: Any = hub.hub.router.backends["ollama"].adapters["native"]
        adapter.clock = clock
        body = {"model": "m", "messages": HI, "reasoning_effort": "low"}
        assert (await hub.post(CHAT, body)).headers["X-AgentHub-Dropped"] == "reasoning_effort"
        is_old = False
        for seconds, think in ((599, True), (1, "low")):
            clock.now += seconds
            answer = await hub.post(CHAT, body)
            assert (upstream.asked[-1]["think"], "X-AgentHub-Dropped" in answer.headers) == (think, think is True)
        is_old = True
        clock.now += 600
        assert (await hub.post(CHAT, body)).headers["X-AgentHub-Dropped"] == "reasoning_effort"


async def test_answers_of_one_request_are_bounded() -> None:
    """Prompts times choices: one request is no licence for thousands of calls."""
    async with serving(echo) as upstream, running_hub(upstream.url) as hub:
        refused = await hub.post(COMPLETIONS, {"model": "m", "prompt": ["a"] * 256, "n": 3})
        assert (refused.status, refused.json()["error"]["param"]) == (400, "n")
        assert upstream.asked == []


@pytest.mark.parametrize(
    ("seed", "seeds"), [(7, [7, 8, 9]), (-2, [-2, -3, -4]), (2**63 - 2, [2**63 - 2, 2**63 - 1, 0]), (-1, [-1, -1, -1])]
)
async def test_seeds_of_choices(seed: int, seeds: list[int]) -> None:
    """Each choice has a seed of its own, within 64 bits; -1 is no seed, and none becomes it."""
    async with serving(echo) as upstream, running_hub(upstream.url) as hub:
        await hub.post(CHAT, {"model": "m", "messages": HI, "n": 3, "seed": seed})
        assert [body["options"]["seed"] for body in upstream.asked] == seeds


async def test_long_prompts_of_tokens_pass_where_nothing_crosses() -> None:
    """A server of OpenAI's API gets as many tokens or prompts as the client wrote."""
    answer = {"choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]}
    async with (
        serving(lambda path, body: Reply(answer)) as upstream,
        running_hub({"one": BackendSettings(url=upstream.url, api_mode="openai", flavour="generic")}) as hub,
    ):
        for prompt in ([1] * 1000, ["a"] * 1000):
            assert (await hub.post(COMPLETIONS, {"model": "m", "prompt": prompt})).status == 200
            assert upstream.asked[-1]["prompt"] == prompt
