"""OpenAI-compatible servers differ: what a native client asks reaches each of them under the names that it knows."""

from __future__ import annotations

from typing import Any

import pytest

from agenthub.settings import BackendSettings
from tests.hubs import running_hub
from tests.upstreams import Reply, serving

OPTIONS = {
    "temperature": 0.5,
    "seed": -1,
    "num_predict": 5,
    "stop": ["x"],
    "top_k": 1,
    "min_p": 0.1,
    "repeat_penalty": 1.1,
    "repeat_last_n": 9,
    "typical_p": 0.9,
    "num_keep": 2,
    "num_ctx": 99,
}
COMMON = {"temperature": 0.5, "stop": ["x"]}
MESSAGE = {"role": "assistant", "content": "hey"}
ANSWER = {"choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}
NAMED = {"temperature", "stop", "max_tokens", "max_completion_tokens", "top_k", "min_p", "repeat_penalty", "n_keep"}
NAMED |= {"repetition_penalty", "repeat_last_n", "typical_p", "num_ctx", "seed", "options"}
HI: list[Any] = [{"role": "user", "content": "hi"}]


def one(url: str, flavour: str) -> dict[str, BackendSettings]:
    return {"b": BackendSettings(url=url, api_mode="openai", flavour=flavour)}


@pytest.mark.parametrize(
    ("flavour", "sent", "dropped"),
    [
        ("generic", {"max_tokens": 5}, ["top_k", "min_p", "repeat_penalty", "repeat_last_n", "typical_p", "num_keep"]),
        ("ollama", {"max_tokens": 5}, ["top_k", "min_p", "repeat_penalty", "repeat_last_n", "typical_p", "num_keep"]),
        (
            "openai",
            {"max_completion_tokens": 5},
            ["top_k", "min_p", "repeat_penalty", "repeat_last_n", "typical_p", "num_keep"],
        ),
        (
            "vllm",
            {"max_tokens": 5, "top_k": 1, "min_p": 0.1, "repetition_penalty": 1.1},
            ["repeat_last_n", "typical_p", "num_keep"],
        ),
        (
            "llamacpp",
            {
                "max_tokens": 5,
                "top_k": 1,
                "min_p": 0.1,
                "repeat_penalty": 1.1,
                "repeat_last_n": 9,
                "typical_p": 0.9,
                "n_keep": 2,
            },
            [],
        ),
    ],
)
async def test_options(flavour: str, sent: dict[str, Any], dropped: list[str]) -> None:
    """Each option goes under the server's own name, or is named in the header; num_ctx has a home at none of them."""
    async with serving(lambda path, body: Reply(ANSWER)) as upstream, running_hub(one(upstream.url, flavour)) as hub:
        answer = await hub.post("/api/chat", {"model": "m", "messages": HI, "stream": False, "options": OPTIONS})
        assert answer.status == 200
        (body,) = upstream.asked
        assert {name: value for name, value in body.items() if name in NAMED} == COMMON | sent
        lost = answer.headers["X-AgentHub-Dropped"].split(",")
        assert lost == [f"options.{name}" for name in [*dropped, "num_ctx"]]


@pytest.mark.parametrize(
    ("flavour", "think", "sent"),
    [
        ("generic", False, {"reasoning_effort": "none"}),
        ("generic", "high", {"reasoning_effort": "high"}),
        ("openai", True, {}),
        ("vllm", True, {"chat_template_kwargs": {"enable_thinking": True}}),
        ("llamacpp", True, {"chat_template_kwargs": {"enable_thinking": True}}),
        ("llamacpp", "low", {"reasoning_effort": "low"}),
    ],
)
async def test_thinking(flavour: str, think: Any, sent: dict[str, Any]) -> None:
    """Whether and how much to think is said in the server's words; where there are none for plain true, it is noted."""
    async with serving(lambda path, body: Reply(ANSWER)) as upstream, running_hub(one(upstream.url, flavour)) as hub:
        answer = await hub.post("/api/chat", {"model": "m", "messages": HI, "stream": False, "think": think})
        names = ("reasoning_effort", "chat_template_kwargs")
        assert {name: upstream.asked[0][name] for name in names if name in upstream.asked[0]} == sent
        assert answer.headers.get("X-AgentHub-Dropped") == (None if sent else "think")


@pytest.mark.parametrize(
    ("flavour", "spelled"), [("generic", "reasoning"), ("llamacpp", "reasoning_content"), ("openai", None)]
)
async def test_thinking_in_the_history(flavour: str, spelled: str | None) -> None:
    """What the model thought before goes back under the server's name for it, or is left out and noted."""
    history = [*HI, {"role": "assistant", "content": "a", "thinking": "hm"}, *HI]
    async with serving(lambda path, body: Reply(ANSWER)) as upstream, running_hub(one(upstream.url, flavour)) as hub:
        answer = await hub.post("/api/chat", {"model": "m", "messages": history, "stream": False})
        said = upstream.asked[0]["messages"][1]
        assert said == {"role": "assistant", "content": "a"} | ({spelled: "hm"} if spelled else {})
        assert answer.headers.get("X-AgentHub-Dropped") == (None if spelled else "messages.thinking")


async def test_refusals_of_a_flavour() -> None:
    """OpenAI takes four stop sequences, and llama.cpp has no completion with a suffix: such requests are refused."""
    five = {"model": "m", "messages": HI, "options": {"stop": list("abcde")}}
    async with serving(lambda path, body: Reply(ANSWER)) as upstream:
        async with running_hub(one(upstream.url, "openai")) as hub:
            refused = await hub.post("/api/chat", five)
            assert (refused.status, "at most 4" in refused.text) == (400, True)
        async with running_hub(one(upstream.url, "vllm")) as hub:
            assert (await hub.post("/api/chat", five | {"stream": False})).status == 200
        async with running_hub(one(upstream.url, "llamacpp")) as hub:
            refused = await hub.post("/api/generate", {"model": "m", "prompt": "a", "suffix": "b"})
            assert (refused.status, "suffix" in refused.text) == (400, True)


async def test_images_of_a_tool() -> None:
    """An image that a tool returned follows in a message of the user's, after all answers of tools."""
    calls = [{"function": {"name": name, "arguments": {}}} for name in ("f", "g")]
    history = [
        *HI,
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_name": "f", "content": "see", "images": ["iVBORw0KGgo="]},
        {"role": "tool", "tool_name": "g", "content": "5"},
    ]
    async with (
        serving(lambda path, body: Reply(ANSWER)) as upstream,
        running_hub(upstream.url, api_mode="openai") as hub,
    ):
        answer = await hub.post("/api/chat", {"model": "m", "messages": history, "stream": False})
        assert [message["role"] for message in upstream.asked[0]["messages"]] == [
            "user",
            "assistant",
            "tool",
            "tool",
            "user",
        ]
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
        assert upstream.asked[0]["messages"][-1]["content"] == [image]
        assert answer.headers["X-AgentHub-Dropped"] == "messages.images"


async def test_a_server_that_refuses_stream_options() -> None:
    """It is asked again without, at once and from then on; the answer has no counts, and says nothing of it."""

    def old(path: str, body: Any) -> Reply:
        if "stream_options" in body:
            return Reply({"error": {"message": "Unrecognized request argument supplied: stream_options"}}, status=400)
        chunk = {"choices": [{"index": 0, "delta": {"content": "hey"}, "finish_reason": "stop"}]}
        return Reply(frames=[chunk, "[DONE]"])

    async with serving(old) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        for asked in (2, 3):
            frames = (await hub.post("/api/chat", {"model": "m", "messages": HI})).frames()
            assert (frames[0]["message"]["content"], frames[-1]["done"]) == ("hey", True)
            assert "eval_count" not in frames[-1]
            assert len(upstream.asked) == asked


async def test_times_of_llamacpp() -> None:
    """Where the server tells how long it took, native clients are told the same."""
    timed = ANSWER | {"timings": {"prompt_ms": 250.0, "predicted_ms": 1500.0}}
    async with (
        serving(lambda path, body: Reply(timed)) as upstream,
        running_hub(upstream.url, api_mode="openai") as hub,
    ):
        answer = (await hub.post("/api/chat", {"model": "m", "messages": HI, "stream": False})).json()
        assert (answer["prompt_eval_duration"], answer["eval_duration"]) == (250_000_000, 1_500_000_000)
        assert answer["total_duration"] > 0


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_extras_of_ollama_clients(path: str) -> None:
    """Fields of OpenAI's that an Ollama client sends reach an OpenAI-compatible server."""
    text = ANSWER | {"choices": [{"index": 0, "message": MESSAGE, "text": "hey", "finish_reason": "stop"}]}
    async with serving(lambda path, body: Reply(text)) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        body: dict[str, Any] = {"model": "m", "stream": False, "logit_bias": {"5": 1}}
        if path.endswith("chat/completions"):
            tools = [{"type": "function", "function": {"name": "f"}}]
            body |= {"messages": HI, "tools": tools, "tool_choice": "required", "parallel_tool_calls": False}
            await hub.post("/api/chat", body)
        else:
            await hub.post("/api/generate", body | {"prompt": "a", "raw": True})
        sent = upstream.asked[0]
        assert sent["logit_bias"] == {"5": 1}
        assert (sent.get("tool_choice"), sent.get("parallel_tool_calls")) == (
            body.get("tool_choice"),
            body.get("parallel_tool_calls"),
        )


async def test_a_bad_request_costs_no_counts() -> None:
    """A server that repeats the request in its refusal is not taken for one that knows no stream_options."""

    def strict(path: str, body: Any) -> Reply:
        if "temperature" in body:
            return Reply({"detail": [{"loc": ["body", "temperature"], "msg": "too hot", "input": body}]}, status=422)
        end = {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}
        return Reply(frames=[end | {"usage": {"prompt_tokens": 1, "completion_tokens": 1}}, "[DONE]"])

    async with serving(strict) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        refused = await hub.post("/api/chat", {"model": "m", "messages": HI, "options": {"temperature": 9}})
        assert (refused.status, "too hot" in refused.text) == (422, True)
        frames = (await hub.post("/api/chat", {"model": "m", "messages": HI})).frames()
        assert frames[-1]["eval_count"] == 1
        assert upstream.asked[-1]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    "shown", [{"error": "Unexpected endpoint (POST /api/show)"}, [1], {"object": "list"}, "?"], ids=str
)
async def test_servers_that_do_not_know_show(shown: Any) -> None:
    """Whatever they answer with status 200, /api/show is then made of what they list."""
    async with (
        serving(lambda path, body: Reply(shown)) as upstream,
        running_hub(upstream.url, api_mode="openai") as hub,
    ):
        answer = await hub.post("/api/show", {"model": "m"})
        assert (answer.status, answer.json()["capabilities"]) == (200, ["completion"])
        assert answer.json()["model_info"] == {"general.architecture": "unknown"}


@pytest.mark.parametrize("number", [-1, 1e308, 2**63])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_numbers_without_sense(number: Any, streamed: bool) -> None:
    """Counts and times that cannot be cost nothing of the answer that they stand beside."""
    for odd in ({"usage": {"prompt_tokens": number}}, {"timings": {"predicted_ms": number}}):
        choice = {"index": 0, "delta": {"content": "x"}, "message": MESSAGE, "finish_reason": "stop"}
        answer = {"choices": [choice]} | odd
        reply = Reply(frames=[answer, "[DONE]"]) if streamed else Reply(answer)
        async with (
            serving(lambda path, body, reply=reply: reply) as upstream,  # type: ignore[misc]
            running_hub(upstream.url, api_mode="openai") as hub,
        ):
            got = await hub.post("/api/chat", {"model": "m", "messages": HI, "stream": streamed})
            assert (got.status, "error" in got.frames()[-1]) == (200, False)
            assert "".join(frame["message"]["content"] for frame in got.frames()) == ("x" if streamed else "hey")
