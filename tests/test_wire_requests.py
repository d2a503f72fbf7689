"""Requests that are unusual but legal: what of them reaches an upstream of the other API, and what is named as lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenthub.settings import BackendSettings, ModelSettings
from tests.hubs import RunningHub, running_hub
from tests.upstreams import HI, PATHS, Upstream, answering, serving

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
DROPPED = "X-AgentHub-Dropped"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
PNG, MP3 = "iVBORw0KGgo=", "SUQzBAAAAAAA"


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serving(answering()) as one:
        yield one


@pytest.fixture
async def hub(upstream: Upstream) -> AsyncIterator[RunningHub]:
    async with running_hub({"b": BackendSettings(upstream.url, flavour="generic")}) as one:
        yield one


def said(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [fields]}


@pytest.mark.parametrize(
    ("message", "sent", "dropped"),
    [
        (
            {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "x"}}]},
            {"content": "a"},
            "content.text.cache_control",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG}, "min_pixels": 1}]},
            {"content": "", "images": [PNG]},
            "content.image_url.min_pixels",
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": None}]},
            {"content": "\n"},
            None,
        ),
        (
            {"role": "assistant", "tool_calls": [CALL | {"extra_content": {"x": 1}}]},
            {"content": "", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"a": 1}}}]},
            "tool_calls.extra_content",
        ),
        (
            {"role": "assistant", "tool_calls": [CALL | {"index": 0}]},
            {"content": "", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"a": 1}}}]},
            None,
        ),
        ({"role": "assistant", "content": "a", "refusal": "no"}, {"content": "a\nno"}, None),
        (
            {"role": "assistant", "content": "a", "reasoning": "x", "reasoning_content": "x"},
            {"content": "a", "thinking": "x"},
            None,
        ),
        (
            {"role": "assistant", "content": "a", "reasoning": "x", "reasoning_content": "y"},
            {"content": "a", "thinking": "x"},
            "reasoning_content",
        ),
        (
            {"role": "assistant", "content": "a", "reasoning_details": [{"type": "reasoning.text", "text": "x"}]},
            {"content": "a", "thinking": "x"},
            None,
        ),
        (
            {"role": "assistant", "content": "a", "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]},
            {"content": "a"},
            "reasoning_details",
        ),
        ({"role": "assistant", "content": "a", "reasoning": {"x": 1}}, {"content": "a"}, "reasoning"),
        ({"Role": "User", "CONTENT": [{"type": "text", "text": "a"}]}, {"content": "a"}, None),
        ({"role": "user", "content": "a", "name": None, "tool_calls": None, "weight": None}, {"content": "a"}, None),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_members_of_a_message_of_openai(
    hub: RunningHub, upstream: Upstream, message: dict[str, Any], sent: dict[str, Any], dropped: str | None
) -> None:
    """Each member, at whatever level, is part of what Ollama is told, or is named as dropped."""
    answer = await hub.post(CHAT, {"model": "m", "messages": [message]})
    assert answer.status == 200
    (arrived,) = upstream.asked[0]["messages"]
    assert arrived == {"role": arrived["role"]} | sent
    assert answer.headers.get(DROPPED) == (f"messages.{dropped}" if dropped else None)


@pytest.mark.parametrize(
    ("message", "sent", "dropped"),
    [
        ({"role": "user", "content": "a", "name": "ann", "foo": 1}, {"content": "a"}, "messages.name,messages.foo"),
        (
            {"role": "user", "content": "a", "tool_call_id": "x", "tool_name": "f"},
            {"content": "a"},
            "messages.tool_call_id,messages.tool_name",
        ),
        ({"role": "user", "content": "a", "foo": None, "bar": []}, {"content": "a"}, None),
        (
            {"role": "assistant", "tool_calls": [{"Function": {"Name": "f", "Arguments": {"a": 1}}, "x": 1}]},
            {"content": None, "tool_calls": [CALL | {"id": "call_00000001"}]},
            "messages.tool_calls.x",
        ),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "a", "function": {"index": 3, "name": "f", "arguments": {"a": 1}}}],
            },
            {"content": None, "tool_calls": [CALL]},
            None,
        ),
        (
            {"role": "user", "content": "", "images": [MP3]},
            {"content": [{"type": "input_audio", "input_audio": {"data": MP3, "format": "mp3"}}]},
            None,
        ),
        (
            {"role": "user", "content": "", "images": ["//uQxAAAAAAA"]},
            {"content": [{"type": "input_audio", "input_audio": {"data": "//uQxAAAAAAA", "format": "mp3"}}]},
            None,
        ),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_members_of_a_message_of_ollama(
    hub: RunningHub, upstream: Upstream, message: dict[str, Any], sent: dict[str, Any], dropped: str | None
) -> None:
    """The other way round the same; on the way to an Ollama nothing is lost, since its bytes are the client's."""
    body = {"model": "m", "messages": [message], "stream": False}
    answer = await hub.post("/api/chat", body, X_AgentHub_Api_Mode="openai")
    assert upstream.asked[0]["messages"] == [{"role": message["role"]} | sent]
    assert answer.headers.get(DROPPED) == dropped
    same = await hub.post("/api/chat", body)
    assert (same.status, same.headers.get(DROPPED), upstream.asked[1]) == (200, None, body)


@pytest.mark.parametrize(
    ("kinds", "dropped"),
    [("ti", None), ("it", None), ("tit", "messages.content.order"), ("iti", "messages.content.order"), ("ttii", None)],
)
async def test_texts_and_images_in_turns(hub: RunningHub, upstream: Upstream, kinds: str, dropped: str | None) -> None:
    """Ollama has texts and images apart from each other, so where they take turns the order is lost, and named."""
    parts = {"t": {"type": "text", "text": "x"}, "i": {"type": "image_url", "image_url": {"url": PNG}}}
    answer = await hub.post(CHAT, said(role="user", content=[parts[kind] for kind in kinds]))
    assert answer.headers.get(DROPPED) == dropped
    assert len(upstream.asked[0]["messages"][0]["images"]) == kinds.count("i")


async def test_answers_of_tools_find_their_calls(hub: RunningHub, upstream: Upstream) -> None:
    """One that says its id takes that call; those without an id get the next of their name, whatever their order."""
    calls = [{"id": "a", "function": {"name": "f"}}, {"function": {"name": "f"}}, {"function": {"name": "g"}}]
    answers = [{"tool_name": "g"}, {"tool_call_id": "a", "tool_name": "f"}, {"tool_name": "f"}]
    history = [*HI, {"role": "assistant", "tool_calls": calls}]
    history += [{"role": "tool", "content": str(number)} | one for number, one in enumerate(answers)]
    await hub.post("/api/chat", {"model": "m", "messages": history}, X_AgentHub_Api_Mode="openai")
    ids = [call["id"] for call in upstream.asked[0]["messages"][1]["tool_calls"]]
    assert [message["tool_call_id"] for message in upstream.asked[0]["messages"][2:]] == [ids[2], "a", ids[1]]


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({"tools": [TOOL], "functions": [{"name": "g"}]}, "functions"),
        ({"tools": [TOOL], "functions": [], "function_call": "auto"}, None),
        ({"function_call": {"name": "g"}}, "function_call"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "strict": False, "description": "d", "schema": {}},
                }
            },
            "response_format.json_schema.description",
        ),
        ({"response_format": {"type": "json_object", "schema": {"type": "object"}}}, "response_format.schema"),
        ({"reasoning": {"effort": None, "enabled": True, "exclude": None}}, "reasoning.enabled"),
        ({"stream_options": None, "tools": None, "tool_choice": None, "stop": None, "n": None, "options": None}, None),
        ({"tools": [], "tool_choice": "none", "stop": [], "logit_bias": {}, "options": {}, "stream_options": {}}, None),
        ({"METADATA": {"a": "b"}, "Zzz": 1}, "metadata,zzz"),
    ],
    ids=str,
)
async def test_members_of_a_request(hub: RunningHub, fields: dict[str, Any], dropped: str | None) -> None:
    """What asks for nothing is nothing; all else that Ollama cannot be told is named, or refused when strict."""
    body = {"model": "m", "messages": HI} | fields
    answer = await hub.post(CHAT, body)
    assert (answer.status, answer.headers.get(DROPPED)) == (200, dropped)
    strict = await hub.post(CHAT, body, X_AgentHub_Strict="1", Cache_Control="no-cache, no-store")
    assert (strict.status, strict.json().get("error", {}).get("param")) == (
        (400, dropped.split(",")[0]) if dropped else (200, None)
    )
    same = await hub.post(CHAT, body, X_AgentHub_Strict="1", X_AgentHub_Api_Mode="openai")
    assert (same.status, same.headers.get(DROPPED)) == (200, None)


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "f"}}], ids=["required", "named"]
)
@pytest.mark.parametrize("tools", [{}, {"tools": []}, {"tools": None}], ids=str)
async def test_a_forced_call_of_no_tool(
    hub: RunningHub, upstream: Upstream, choice: Any, tools: dict[str, Any]
) -> None:
    """A tool that must be called and is not there is the client's mistake; it is never ignored."""
    refused = await hub.post(CHAT, {"model": "m", "messages": HI, "tool_choice": choice} | tools)
    assert (refused.status, refused.json()["error"]["param"], upstream.asked) == (400, "tool_choice", [])


@pytest.mark.parametrize("prompt", [["a", 5], [5, "a"], ["a", None], ["a", [1]], [1.5], {}, [{}], [[["a"]]], True])
async def test_prompts_of_no_kind(hub: RunningHub, upstream: Upstream, prompt: Any) -> None:
    """Texts, tokens and lists of tokens are never mixed: refused by name, and nothing is asked."""
    refused = await hub.post(COMPLETIONS, {"model": "m", "prompt": prompt})
    assert (refused.status, refused.json()["error"]["param"], upstream.asked) == (400, "prompt", [])


@pytest.mark.parametrize("value", [[1, 2], [[1], [2]], ["a", 1], ["a", None], [], None, {}, 5, [True], [["a"]]])
async def test_inputs_of_no_kind(hub: RunningHub, upstream: Upstream, value: Any) -> None:
    """Ollama embeds nothing but texts; an OpenAI-compatible server is asked with the client's own bytes."""
    refused = await hub.post(EMBEDDINGS, {"model": "m", "input": value})
    assert (refused.status, refused.json()["error"]["param"], upstream.asked) == (400, "input", [])
    if value in ([1, 2], [[1], [2]]):
        body = {"model": "m", "input": value}
        assert (await hub.post(EMBEDDINGS, body, X_AgentHub_Api_Mode="openai")).status == 200
        assert upstream.asked == [body]


@pytest.mark.parametrize("spelled", ["100000000000000000000", "-9223372036854775809", "1.0", "12345678901234567"])
async def test_numbers_of_arguments(hub: RunningHub, upstream: Upstream, spelled: str) -> None:
    """Integers of any length reach an OpenAI-compatible server with every digit, and 1.0 stays 1.0."""
    arguments = '{"b":X,"a":[X]}'.replace("X", spelled)
    call = '{"function":{"name":"f","arguments":' + arguments + "}}"
    body = '{"model":"m","messages":[{"role":"assistant","tool_calls":[' + call + ']}],"stream":false}'
    assert (await hub.post("/api/chat", body.encode(), X_AgentHub_Api_Mode="openai")).status == 200
    function = upstream.asked[0]["messages"][0]["tool_calls"][0]["function"]
    assert function["arguments"] == arguments


@pytest.mark.parametrize(
    ("flavour", "sent"),
    [
        ("generic", {"max_tokens": 5}),
        ("openai", {"max_completion_tokens": 5}),
        ("vllm", {"max_tokens": 5, "top_k": 2, "repetition_penalty": 1.5}),
        ("llamacpp", {"max_tokens": 5, "top_k": 2, "repeat_penalty": 1.5}),
    ],
)
@pytest.mark.parametrize("dialect", ["ollama", "openai"])
async def test_options_of_an_alias(upstream: Upstream, flavour: str, sent: dict[str, Any], dialect: str) -> None:
    """They go under the server's own names in either dialect; what it does not know is named."""
    options = {"num_predict": 5, "top_k": 2, "repeat_penalty": 1.5, "num_ctx": 9}
    backends = {"b": BackendSettings(url=upstream.url, api_mode="openai", flavour=flavour)}
    async with running_hub(backends, models={"alias": ModelSettings(target="m", options=options)}) as hub:
        body = {"model": "alias", "messages": HI, "stream": False}
        answer = await hub.post(PATHS[dialect], body)
        assert upstream.asked == [body | sent | {"model": "m"}]
        lost = {name for name in ("top_k", "repeat_penalty") if name not in str(sent) and flavour != "vllm"} | {
            "num_ctx"
        }
        assert set(answer.headers[DROPPED].split(",")) == {f"options.{name}" for name in lost}
        embedded = await hub.post(EMBEDDINGS, {"model": "alias", "input": "x"})
        assert upstream.asked[-1] == {"model": "m", "input": "x"}
        assert set(embedded.headers[DROPPED].split(",")) == {f"options.{name}" for name in options}


async def test_tools_of_the_responses_api(hub: RunningHub, upstream: Upstream) -> None:
    """A tool without its function would reach the model without a name, so it is refused."""
    body = {"model": "m", "messages": HI, "tools": [{"type": "function", "name": "f", "parameters": {}}]}
    refused = await hub.post(CHAT, body)
    assert (refused.status, refused.json()["error"]["param"], upstream.asked) == (400, "tools[0].function.name", [])


@pytest.mark.parametrize("data", ["UklGRg==", "UklGRg", "data:audio/wav;base64,UklGRg=="])
async def test_sound_of_openai(hub: RunningHub, upstream: Upstream, data: str) -> None:
    """It is plain base64 among Ollama's images, however it was written."""
    part = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    assert (await hub.post(CHAT, said(role="user", content=[part]))).status == 200
    assert upstream.asked[0]["messages"][0]["images"] == ["UklGRg=="]


@pytest.mark.parametrize("fields", [{"best_of": 1.0}, {"n": 1.0}, {"max_tokens": 1e1}, {"seed": 5.0}], ids=str)
async def test_integral_floats(hub: RunningHub, fields: dict[str, Any]) -> None:
    """JavaScript's clients write them where an integer is meant."""
    answer = await hub.post(COMPLETIONS, {"model": "m", "prompt": "a"} | fields)
    assert (answer.status, answer.headers.get(DROPPED)) == (200, None)


@pytest.mark.parametrize("raw", [True, False])
async def test_extras_of_a_prompt(hub: RunningHub, upstream: Upstream, raw: bool) -> None:
    """What generate knows of OpenAI's fields is carried whether it goes as a chat or not, the rest is named."""
    body = {"model": "m", "prompt": "a", "raw": raw, "logit_bias": {"5": 1}, "tools": [TOOL], "messages": HI}
    answer = await hub.post("/api/generate", body, X_AgentHub_Api_Mode="openai")
    assert answer.headers[DROPPED] == "tools,messages"
    (asked,) = upstream.asked
    assert asked["logit_bias"] == {"5": 1}
    assert asked.get("messages", [{"role": "user", "content": "a"}]) == [{"role": "user", "content": "a"}]
    assert "tools" not in asked
