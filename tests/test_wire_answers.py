"""Answers that are unusual but legal, or of servers with habits of their own: what a client of the other API reads."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from tests.hubs import Answered, running_hub
from tests.upstreams import END, HI, PATHS, USAGE, Reply, chunk, line, serving

COUNTS = {"choices": [], "usage": USAGE}


@attrs.frozen
class Said:
    """What an answer says: ``calls`` are names with arguments, ``logprobs`` tokens; ``end`` is a reason or an error."""

    text: str = ""
    thinking: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    logprobs: str = ""
    end: str = "stop"
    counts: tuple[int, int] | None = None


def call(index: int | None = None, id: str = "", name: str = "", arguments: str | None = None) -> dict[str, Any]:
    """Return one fragment in a delta; what is not given is left out."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value or value == ""}
    members = {"index": index, "id": id or None, "function": function if name else {"arguments": arguments}}
    return {"tool_calls": [{key: value for key, value in members.items() if value is not None}]}


def of_ollama(answer: Answered) -> Said:
    """Read an answer of /api/chat, whole or streamed, which must end properly or with an error."""
    *lines, last = answer.frames()
    if "error" in last:
        lines, end = lines, last["error"]
    else:
        assert last["done"] is True
        lines, end = [*lines, last], last["done_reason"]
    messages = [one["message"] for one in lines]
    calls = [one["function"] for message in messages for one in message.get("tool_calls", ())]
    assert [one["index"] for one in calls] == list(range(len(calls)))
    return Said(
        "".join(message["content"] for message in messages),
        "".join(message.get("thinking", "") for message in messages),
        tuple((one["name"], str(one["arguments"]).replace("'", '"').replace(" ", "")) for one in calls),
        "".join(item["token"] for one in lines for item in one.get("logprobs", ())),
        end,
        (last["prompt_eval_count"], last["eval_count"]) if "eval_count" in last else None,
    )


A, B = ("f", '{"a":1}'), ("g", '{"b":2}')


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("frames", "said"),
    [
        pytest.param(
            [chunk(**call(None, "", *A)), chunk(**call(None, "", *B))], Said(calls=(A, B)), id="neither index nor id"
        ),
        pytest.param([chunk(**call(0, "", *A)), chunk(**call(0, "", *A))], Said(calls=(A, A)), id="the same twice"),
        pytest.param([chunk(**call(0, "x", *A)), chunk(**call(0, "x", *B))], Said(calls=(A, B)), id="one id for two"),
        pytest.param(
            [chunk(**call(0, "x", "f", "")), chunk(**call(0, "y", "g", ""))],
            Said(calls=(("f", "{}"), ("g", "{}"))),
            id="two without arguments on one index",
        ),
        pytest.param(
            [chunk(**call(0, "r1", "f", '{"a"')), chunk(**call(0, "r2", "", ":1}")), chunk(**call(0, "r3", "", ""))],
            Said(calls=(A,)),
            id="an id for each fragment",
        ),
        pytest.param(
            [chunk(**call(0, "", "f", "")), chunk(**call(0, "x", "", A[1]))], Said(calls=(A,)), id="a late id"
        ),
        pytest.param(
            [chunk(**call(1, "y", *B)), chunk(**call(0, "x", *A))], Said(calls=(B, A)), id="numbered backwards"
        ),
        pytest.param(
            [chunk(content="c", reasoning="r", **call(0, "x", *A))],
            Said("c", "r", (A,)),
            id="all in one chunk",
        ),
        pytest.param([chunk("tool_calls", **call(0, "x", *A))], Said(calls=(A,)), id="with the reason"),
        pytest.param([chunk("length", **call(0, "x", "f", '{"a'))], Said(end="length"), id="cut by the length"),
        pytest.param(
            [chunk(content="a"), chunk(reasoning_content="r"), chunk(content="b")], Said("ab", "r"), id="late thoughts"
        ),
        pytest.param(
            [chunk(reasoning_details=[{"type": "x", "text": "r"}, {"type": "y", "data": "z"}])],
            Said("", "r"),
            id="thoughts in details",
        ),
        pytest.param([chunk(reasoning="r", reasoning_content="r")], Said("", "r"), id="thoughts spelled twice"),
        pytest.param(
            [
                chunk(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "r"}]}]),
                chunk(content=[{"type": "thinking", "thinking": "s"}, {"type": "text", "text": "a"}]),
            ],
            Said("a", "rs"),
            id="thoughts in parts",
        ),
        pytest.param([chunk(refusal="no")], Said("no"), id="a refusal"),
        pytest.param([chunk(content=[{"type": "refusal", "refusal": "no"}])], Said("no"), id="a refusal in a part"),
        pytest.param(
            [chunk(refusal="no", logprobs={"content": None, "refusal": [{"token": "no", "logprob": -1}]})],
            Said("no", logprobs="no"),
            id="log-probabilities of a refusal",
        ),
        pytest.param(
            [chunk(content="ab", logprobs={"tokens": ["a", "b"], "token_logprobs": [None, -1], "top_logprobs": None})],
            Said("ab", logprobs="ab"),
            id="log-probabilities of the old shape",
        ),
        pytest.param([COUNTS, chunk(content="a")], Said("a", counts=(3, 2)), id="counts first"),
        pytest.param(
            [chunk(content="a") | {"usage": {"prompt_tokens": 3, "completion_tokens": 1}}, COUNTS],
            Said("a", counts=(3, 2)),
            id="counts on each chunk",
        ),
        pytest.param([chunk("", content="a"), chunk("", content="b")], Said("ab"), id="an empty reason"),
        pytest.param([chunk("eos", content="a")], Said("a", end="eos"), id="a reason of its own"),
        pytest.param([chunk("content_filter")], Said(end="content_filter"), id="filtered"),
        pytest.param(
            [chunk(content="a"), chunk("length", index=1, content="z"), chunk(content="b")],
            Said("ab"),
            id="two choices",
        ),
        pytest.param(
            [{"choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}}]}], Said("a"), id="a message"
        ),
        pytest.param([{"choices": [{"delta": None}]}, {"choices": None}], Said(), id="nulls"),
        pytest.param([chunk(content="a"), {"error": {"message": "boom"}}], Said("a", end="boom"), id="an error"),
        pytest.param([chunk(content="a"), {"error": "boom", "choices": []}], Said("a", end="boom"), id="a short error"),
        pytest.param(
            [chunk(content="a"), {"object": "error", "message": "boom", "code": 400}],
            Said("a", end="boom"),
            id="vLLM's",
        ),
    ],
)
async def test_streams_of_openai(frames: list[Any], said: Said, streamed: bool) -> None:
    """Ollama's client reads the same of each server's habits; an error is one, whatever follows it."""
    ended = any(one["choices"][0].get("finish_reason") for one in frames if one.get("choices"))
    sent = [*frames, "[DONE]"] if ended else [*frames, chunk("stop"), "[DONE]"]
    async with (
        serving(lambda path, body: Reply(frames=sent)) as upstream,
        running_hub(upstream.url, api_mode="openai") as hub,
    ):
        answer = await hub.post(PATHS["ollama"], {"model": "m", "messages": HI, "stream": streamed})
    if answer.status != 200:
        assert (answer.status, answer.json(), streamed) == (502, {"error": said.end}, False)
    else:
        assert of_ollama(answer) == said


def of_openai(answer: Answered) -> Said:
    """Read an answer of /v1/chat/completions, whole or streamed, which must end properly or with an error."""
    frames = answer.frames()
    if "error" in frames[-1]:
        error, frames = frames[-1]["error"], frames[:-1]
        assert error.keys() == {"message", "type", "param", "code"}
        end = error["message"]
    elif frames[-1] == "[DONE]":
        counts = frames[-2]
        assert counts["choices"] == []
        frames, end = frames[:-2], frames[-3]["choices"][0]["finish_reason"]
        assert frames[-1]["choices"][0]["delta"] == {}
        assert [one["choices"][0]["delta"].get("role") for one in frames].count("assistant") == 1
    else:
        counts, end = frames[0], frames[0]["choices"][0]["finish_reason"]
    choices = [one["choices"][0] for one in frames]
    deltas = [choice.get("delta") or choice.get("message", {}) for choice in choices]
    calls = [one for delta in deltas for one in delta.get("tool_calls", ())]
    assert len({one["id"] for one in calls}) == len(calls)
    usage = counts["usage"] if "error" not in answer.frames()[-1] else None
    return Said(
        "".join(delta.get("content") or "" for delta in deltas),
        "".join(delta.get("reasoning", "") for delta in deltas),
        tuple((one["function"]["name"], one["function"]["arguments"]) for one in calls),
        "".join(item["token"] for choice in choices for item in (choice.get("logprobs") or {}).get("content", ())),
        end,
        (usage["prompt_tokens"], usage["completion_tokens"]) if usage else None,
    )


def made(name: str, arguments: Any = None, **members: Any) -> dict[str, Any]:
    """Return a call of Ollama's."""
    return {"function": {"name": name} | ({} if arguments is None else {"arguments": arguments})} | members


F, G = made("f", {"a": 1}), made("g", {"b": 2})
BIG = made("f", {"b": 10**30, "a": [1.0, -1]})


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        pytest.param(
            [line(True, tool_calls=[F, G])], Said(calls=(A, B), end="tool_calls"), id="calls on the last line"
        ),
        pytest.param(
            [line(tool_calls=[F]), line(tool_calls=[G])], Said(calls=(A, B), end="tool_calls"), id="two lines"
        ),
        pytest.param([line(tool_calls=[made("f", '{"a":1}')])], Said(calls=(A,), end="tool_calls"), id="as text"),
        pytest.param([line(tool_calls=[made("f")])], Said(calls=(("f", "{}"),), end="tool_calls"), id="no arguments"),
        pytest.param(
            [line(tool_calls=[BIG])],
            Said(calls=(("f", f'{{"b":{10**30},"a":[1.0,-1]}}'),), end="tool_calls"),
            id="large numbers in order",
        ),
        pytest.param(
            [line(content="c", thinking="t", tool_calls=[F]) | {"logprobs": [{"token": "c", "logprob": -1}]}],
            Said("c", "t", (A,), "c", "tool_calls"),
            id="all in one line",
        ),
        pytest.param(
            [line(tool_calls=[F]), line(True) | {"done_reason": "length"}], Said(calls=(A,), end="length"), id="l"
        ),
        pytest.param([line(content="a", thinking=None, tool_calls=None)], Said("a"), id="nulls"),
        pytest.param([line(content="a"), line(True) | {"done_reason": ""}], Said("a"), id="an empty reason"),
        pytest.param([line(content="a"), line(True) | {"done_reason": "abort"}], Said("a"), id="a reason of its own"),
        pytest.param([line(content="a"), line(True) | {"done_reason": "unload"}], Said("a"), id="unload"),
        pytest.param([], Said(), id="nothing"),
        pytest.param([line(content="a"), {"error": "boom"}], Said("a", end="boom"), id="an error"),
        pytest.param(
            [line(content="a"), {"error": {"message": "boom"}}], Said("a", end="boom"), id="an error's object"
        ),
        pytest.param(
            [line(content="a"), line(True) | {"error": "boom"}], Said("a", end="boom"), id="an error at the end"
        ),
    ],
)
async def test_streams_of_ollama(lines: list[Any], said: Said, streamed: bool) -> None:
    """OpenAI's client reads the same, each call with an id of its own, and never a stop for an error."""
    sent = lines if lines and lines[-1].get("done", True) else [*lines, line(True)]
    async with serving(lambda path, body: Reply(frames=sent)) as upstream, running_hub(upstream.url) as hub:
        options = {"stream_options": {"include_usage": True}}
        answer = await hub.post(PATHS["openai"], {"model": "m", "messages": HI, "stream": streamed} | options)
    if answer.status != 200:
        assert (answer.status, answer.json()["error"]["message"], streamed) == (502, said.end, False)
    else:
        assert of_openai(answer) == attrs.evolve(said, counts=None if said.end == "boom" else (3, 2))


CHAT_SHAPE = {
    "content": [{"token": "a", "logprob": -1, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -2}]}]
}
OLD_SHAPE = {"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": [{"b": -2}], "text_offset": [0]}


@pytest.mark.parametrize("shape", [CHAT_SHAPE, OLD_SHAPE], ids=["chat", "old"])
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("raw", [True, False], ids=["completions", "chat completions"])
async def test_log_probabilities_in_either_shape(shape: Any, streamed: bool, raw: bool) -> None:
    """Servers mix the shapes up: in each endpoint either one is understood, and becomes Ollama's."""
    choice = {"index": 0, "text": "a", "message": {"content": "a"}, "logprobs": shape, "finish_reason": "stop"}

    def reply(path: str, body: Any) -> Reply:
        assert path == ("/v1/completions" if raw else "/v1/chat/completions")
        return Reply(frames=[{"choices": [choice]}, "[DONE]"]) if body["stream"] else Reply({"choices": [choice]})

    body = {"model": "m", "prompt": "x", "raw": raw, "logprobs": True, "top_logprobs": 1, "stream": streamed}
    async with serving(reply) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        answer = await hub.post("/api/generate", body)
    (item,) = [item for one in answer.frames() for item in one.get("logprobs", ())]
    assert (item["token"], item["logprob"], item["top_logprobs"]) == ("a", -1, [{"token": "b", "logprob": -2}])
    assert "".join(one["response"] for one in answer.frames()) == "a"


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_log_probabilities_for_old_clients(streamed: bool) -> None:
    """Ollama's become the lists of the legacy completions, with offsets that go on from chunk to chunk."""
    items = [{"token": token, "logprob": -1, "top_logprobs": [{"token": "x", "logprob": -2}]} for token in ("ab", "c")]
    said = {"model": "m", "created_at": "2026-01-01T00:00:00Z", "done": False}
    lines = [said | {"response": item["token"], "logprobs": [item]} for item in items]
    sent = [*lines, said | {"response": ""} | END]
    async with serving(lambda path, body: Reply(frames=sent)) as upstream, running_hub(upstream.url) as hub:
        answer = await hub.post("/v1/completions", {"model": "m", "prompt": "x", "logprobs": 1, "stream": streamed})
    found = [one["choices"][0]["logprobs"] for one in answer.frames() if one != "[DONE]"]
    names = next(filter(None, found))
    joined = {name: [value for one in found if one for value in one[name]] for name in names}
    tops = [{"x": -2}, {"x": -2}]
    assert joined == {"tokens": ["ab", "c"], "token_logprobs": [-1, -1], "top_logprobs": tops, "text_offset": [0, 2]}
