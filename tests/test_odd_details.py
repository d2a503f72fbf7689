"""Odd details of answers through a hub: the same dialect gets the bytes, the other what is meant; no breaker moves."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from agenthub.settings import CircuitBreakerSettings, HealthSettings
from tests.hubs import Answered, RunningHub, running_hub
from tests.raw_upstream import Act, Asked, chunked, message, proper, raw_upstream
from tests.test_failure_kinds import breaker_of
from tests.upstreams import END, HI, PATHS, USAGE, chunk, line

QUIET = HealthSettings(models_refresh_s=0, interval_s=0)
FIRST = CircuitBreakerSettings(failure_threshold=1)
MINUS_INFINITY = float("-inf")
CALL = {"name": "f", "arguments": {"x": 1}}
MARK = b"\xef\xbb\xbf"


def choice(**fields: Any) -> dict[str, Any]:
    """A whole answer of /v1/chat/completions."""
    said = {"index": 0, "message": {"role": "assistant", "content": "hey"}, "finish_reason": "stop"}
    return {"id": "c1", "choices": [said | fields], "usage": USAGE}


def ndjson(*lines: Any) -> bytes:
    return b"".join([json.dumps(one).encode() + b"\n" for one in lines])


def sse(*frames: Any, end: str = "data: [DONE]\n\n") -> bytes:
    return b"".join([b"data: " + json.dumps(one).encode() + b"\n\n" for one in frames]) + end.encode()


@attrs.frozen
class Odd:
    """An answer through ``mode``; ``hidden`` are the statistics that the other dialect does not show."""

    mode: str
    body: bytes
    streamed: bool = False
    hidden: tuple[str, ...] = ()
    calls: bool = False

    @property
    def act(self) -> Act:
        if not self.streamed:
            return Act(message(self.body))
        kind = "application/x-ndjson" if self.mode == "native" else "text/event-stream"
        return Act(chunked(self.body, kind) + b"0\r\n\r\n")


def native(last: Any = None, message: Any = None, **odd: Any) -> list[Odd]:
    """An answer of Ollama's with such members on its last line, whole and streamed."""
    told = {"content": "hey"} | (message or {})
    whole, end = line(done=True, **told) | odd, line(done=True) | odd
    calls = "tool_calls" in told
    return [
        Odd("native", json.dumps(whole).encode(), calls=calls),
        Odd("native", ndjson(line(**told), end), streamed=True, calls=calls),
    ]


def openai(message: Any = None, usage: Any = USAGE, hidden: tuple[str, ...] = (), **odd: Any) -> list[Odd]:
    """The same of an OpenAI-compatible server's."""
    said = {"role": "assistant", "content": "hey"} | (message or {})
    whole = choice(message=said, **odd) | {"usage": usage}
    calls = "tool_calls" in said
    shown = chunk(**{key: value for key, value in said.items() if key != "tool_calls"}, logprobs=odd.get("logprobs"))
    called = [chunk(tool_calls=[{"index": 0} | call for call in said["tool_calls"]])] if calls else []
    frames = [shown, *called, chunk("stop"), {"choices": [], "usage": usage}]
    return [
        Odd("openai", json.dumps(whole).encode(), hidden=hidden, calls=calls),
        Odd("openai", sse(*frames), streamed=True, hidden=hidden, calls=calls),
    ]


LINES = [line(content="hey")]
FRAMES = [chunk(content="hey"), chunk("stop")]
COUNTS = ("prompt_eval_count", "eval_count")
ODDITIES = {
    "a negative count": openai(usage=USAGE | {"completion_tokens": -1}, hidden=("eval_count",)),
    "half a token": openai(usage=USAGE | {"completion_tokens": 1.5}, hidden=("eval_count",)),
    "a count in words": openai(usage=USAGE | {"completion_tokens": "two"}, hidden=("eval_count",)),
    "minus one cached": openai(
        usage=USAGE | {"prompt_tokens_details": {"cached_tokens": -1}}, hidden=("prompt_eval_cached_count",)
    ),
    "a list of counts": openai(usage=[3, 2], hidden=COUNTS),
    "no counts": openai(usage=None, hidden=COUNTS),
    "a negative count of Ollama's": native(eval_count=-1),
    "negative durations": native(total_duration=-9, load_duration=-1, eval_duration="1s"),
    "an object for arguments": openai(message={"tool_calls": [{"id": "c1", "function": CALL}]}),
    "a text for an object": native(message={"tool_calls": [{"function": CALL | {"arguments": '{"x":1}'}}]}),
    "a number for an id": openai(message={"tool_calls": [{"id": 7, "function": CALL | {"arguments": '{"x":1}'}}]}),
    "a number for an id of Ollama's": native(message={"tool_calls": [{"id": 7, "function": CALL}]}),
    "an object of thoughts": openai(message={"reasoning": {"effort": "low"}}),
    "an object of thoughts of Ollama's": native(message={"thinking": {"effort": "low"}}),
    "minus infinity": openai(logprobs={"content": [{"token": "hey", "logprob": MINUS_INFINITY}]}),
    "minus infinity of Ollama's": native(logprobs=[{"token": "hey", "logprob": MINUS_INFINITY}]),
    "log-probabilities of another kind": openai(logprobs=[0.5]),
    "no message at the end": [Odd("native", ndjson(*LINES, {"model": "m", "done": True} | END), streamed=True)],
    "null for a message at the end": [
        Odd("native", ndjson(*LINES, {"model": "m", "message": None, "done": True} | END), streamed=True)
    ],
    "a byte order mark": [
        Odd("native", MARK + json.dumps(line(done=True, content="hey")).encode()),
        Odd("openai", MARK + json.dumps(choice()).encode()),
        Odd("openai", MARK + sse(*FRAMES), streamed=True),
    ],
    "another end mark": [
        Odd("openai", sse(*FRAMES, end=end), streamed=True)
        for end in (
            "data: [DONE] \n\n",
            "data:[DONE]\n\n",
            "data: [DONE]\r\n\r\n",
            'data: "[DONE]"\n\n',
            "data: [DONE]",
        )
    ],
}


async def ask(hub: RunningHub, dialect: str, *, streamed: bool) -> Answered:
    asked: dict[str, Any] = {"model": "m", "messages": HI, "stream": streamed}
    if streamed and dialect == "openai":
        asked["stream_options"] = {"include_usage": True}
    return await hub.post(PATHS[dialect], asked)


def said(answer: Answered, dialect: str, *, streamed: bool) -> tuple[str, list[Any], str, Any]:
    """The text, the arguments of the calls, the reason and the object with the counts."""
    frames = answer.frames() if streamed else [answer.json()]
    frames = [frame for frame in frames if frame != "[DONE]"]
    if dialect == "ollama":
        shown = [frame["message"] for frame in frames]
        reason, counts = frames[-1]["done_reason"], frames[-1]
        calls = [call["function"]["arguments"] for one in shown for call in one.get("tool_calls", ())]
    else:
        choices = [one for frame in frames for one in frame["choices"]]
        shown = [one.get("delta") or one.get("message") or {} for one in choices]
        reason, counts = choices[-1]["finish_reason"], frames[-1]["usage"]
        calls = [json.loads(call["function"]["arguments"]) for one in shown for call in one.get("tool_calls", ())]
    return "".join([one.get("content") or "" for one in shown]), calls, reason, counts


@pytest.mark.parametrize("name", ODDITIES)
async def test_no_detail_costs_an_answer(name: str) -> None:
    """In each lane, whole and streamed; the breaker, which opens at the first failure, stays closed."""
    for odd in ODDITIES[name]:

        def act(asked: Asked, odd: Odd = odd) -> Act:
            return odd.act if asked.method == "POST" else proper(asked)

        same, other = ("ollama", "openai") if odd.mode == "native" else ("openai", "ollama")
        async with (
            raw_upstream(act) as upstream,
            running_hub(upstream.url, api_mode=odd.mode, health=QUIET, circuit_breaker=FIRST) as hub,
        ):
            passed = await ask(hub, same, streamed=odd.streamed)
            assert (passed.status, passed.body.rstrip(b"\n")) == (200, odd.body.rstrip(b"\n"))
            crossed = await ask(hub, other, streamed=odd.streamed)
            assert crossed.status == 200, crossed.text
            text, calls, reason, counts = said(crossed, other, streamed=odd.streamed)
            assert (text, calls) == ("hey", [{"x": 1}] if odd.calls else [])
            assert reason == ("tool_calls" if odd.calls and other == "openai" else "stop")
            assert not counts.keys() & {*odd.hidden}
            assert all(value >= 0 for value in counts.values() if type(value) in (int, float))
            breaker = breaker_of(hub, "ollama")
            assert (breaker.state, breaker.failures) == ("closed", 0)


@pytest.mark.parametrize("dialect", PATHS)
async def test_bytes_of_another_shape_of_the_answer_are_not_the_answer(dialect: str) -> None:
    """An upstream that streams to a client that wants one object, or the other way round: odd details are no matter."""
    mode = "native" if dialect == "ollama" else "openai"
    for odd in (*ODDITIES["a negative count"], *ODDITIES["negative durations"]):
        if odd.mode != mode:
            continue
        async with (
            raw_upstream(lambda asked, odd=odd: odd.act if asked.method == "POST" else proper(asked)) as upstream,
            running_hub(upstream.url, api_mode=mode, health=QUIET, circuit_breaker=FIRST) as hub,
        ):
            answer = await ask(hub, dialect, streamed=not odd.streamed)
            assert answer.status == 200
            text, _, reason, counts = said(answer, dialect, streamed=not odd.streamed)
            assert (text, reason) == ("hey", "stop")
            assert all(value >= 0 for value in counts.values() if type(value) in (int, float))


@pytest.mark.parametrize("arguments", ["null", "", None, [], " "])
async def test_no_arguments_in_a_history(arguments: Any) -> None:
    """Whatever a client writes for a call without arguments, an Ollama is sent an empty object."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    history = [*HI, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c1", "content": "1"}]
    async with raw_upstream() as upstream, running_hub(upstream.url, api_mode="native", health=QUIET) as hub:
        answer = await hub.post(PATHS["openai"], {"model": "m", "messages": history})
        assert answer.status == 200, answer.text
        (asked,) = upstream.of("/api/chat")
    sent = json.loads(asked.body)["messages"][1]["tool_calls"][0]["function"]
    assert sent == {"name": "f", "arguments": {}}


@pytest.mark.parametrize(("path", "mode"), [("/api/embed", "native"), ("/v1/embeddings", "openai")])
async def test_a_vector_with_a_null(path: str, mode: str) -> None:
    """Its own dialect gets the bytes; the other a 502, which no breaker counts: no number is made up."""
    body = b'{"embeddings":[[0.5,null]],"data":[{"index":0,"embedding":[0.5,null]}]}'
    other = {"/api/embed": "/v1/embeddings", "/v1/embeddings": "/api/embed"}[path]

    def act(asked: Asked) -> Act:
        return Act(message(body)) if asked.method == "POST" else proper(asked)

    async with (
        raw_upstream(act) as upstream,
        running_hub(upstream.url, api_mode=mode, health=QUIET, circuit_breaker=FIRST) as hub,
    ):
        for _ in range(2):  # an answer that only its own dialect can read is not cached for other clients
            passed = await hub.post(path, {"model": "m", "input": "hi"})
            assert (passed.status, passed.body) == (200, body)
        crossed = await hub.post(other, {"model": "m", "input": "ho"})
        assert crossed.status == 502
        assert "a vector that is not a list of numbers" in crossed.text
        assert breaker_of(hub, "ollama").failures == 0


@pytest.mark.parametrize("mode", ["native", "openai"])
async def test_the_breaker_of_an_upstream_that_is_not_understood(mode: str) -> None:
    """JSON that is no answer is a 502 across the dialects, and passes in the same one; a page opens the breaker."""
    acts = {
        "closed": [
            b'{"choices":5,"message":true,"done":true}',
            b'{"choices":[],"message":{"content":[true]},"done":true}',
        ],
        "open": [b"<html>Bad Gateway</html>"],
    }
    for state, bodies in acts.items():
        for body in bodies:
            async with (
                raw_upstream(
                    lambda asked, body=body: Act(message(body)) if asked.method == "POST" else proper(asked)
                ) as up,
                running_hub(up.url, api_mode=mode, health=QUIET, circuit_breaker=FIRST) as hub,
            ):
                passes = mode == "native" and state == "closed"
                assert (await ask(hub, "ollama", streamed=False)).status == (200 if passes else 502)
                assert breaker_of(hub, "ollama").state == state


NOTHING: tuple[Any, ...] = ("", " ", None, False, 0, {}, [], {"message": "", "code": None})
ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "/api/chat": ("native", line(done=True, content="hey")),
    "/api/generate": ("native", {"model": "m", "response": "hey", "done": True}),
    "/api/embed": ("native", {"model": "m", "embeddings": [[0.5]]}),
    "/api/embeddings": ("native", {"embedding": [0.5]}),
    "/api/pull": ("native", {"status": "success"}),
    "/v1/chat/completions": ("openai", choice()),
    "/v1/completions": ("openai", choice(text="hey")),
    "/v1/embeddings": ("openai", {"data": [{"index": 0, "embedding": [0.5]}]}),
}
ASKED: dict[str, Any] = {"model": "m", "messages": HI, "prompt": "hi", "input": "hi"}


@pytest.mark.parametrize("error", NOTHING, ids=repr)
@pytest.mark.parametrize("path", ANSWERS)
async def test_an_error_that_says_nothing(path: str, error: Any) -> None:
    """It is no error, beside a complete answer of any endpoint; alone it is no answer."""
    mode, answer = ANSWERS[path]
    for body, status in ((answer | {"error": error}, 200), ({"error": error}, 502)):
        if status == 502 and path == "/api/pull":
            continue  # whose single line may be of any kind
        act = Act(message(json.dumps(body).encode()))
        async with (
            raw_upstream(lambda asked, act=act: act if asked.method == "POST" else proper(asked)) as upstream,
            running_hub(upstream.url, api_mode=mode, health=QUIET, circuit_breaker=FIRST) as hub,
        ):
            passed = await hub.post(path, ASKED | {"stream": False})
            assert passed.status == status, passed.text
            if status == 200:
                assert passed.json() == body
                assert breaker_of(hub, "ollama").failures == 0


@pytest.mark.parametrize("error", NOTHING, ids=repr)
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/pull"])
async def test_a_line_with_an_error_that_says_nothing(path: str, error: Any) -> None:
    """The same of each line of a stream."""
    last = ANSWERS[path][1]
    lines = [*([line(content="hey") | {"error": error}] if path == "/api/chat" else []), last | {"error": error}]
    act = Act(chunked(ndjson(*lines), "application/x-ndjson") + b"0\r\n\r\n")
    async with (
        raw_upstream(lambda asked: act if asked.method == "POST" else proper(asked)) as upstream,
        running_hub(upstream.url, api_mode="native", health=QUIET, circuit_breaker=FIRST) as hub,
    ):
        passed = await hub.post(path, ASKED | {"stream": True})
        assert (passed.status, passed.body) == (200, ndjson(*lines))
        assert breaker_of(hub, "ollama").failures == 0


ODD_ENDS: list[Any] = [
    *({"message": odd} for odd in ("bye", "", [], ["x"], 5, True, {"content": True}, {"content": {"a": 1}})),
    *({"message": {"content": "", "tool_calls": odd}} for odd in ("x", ["x"], [{"function": None}], 5, {"a": 1})),
    {"message": {"content": "", "tool_calls": [{"function": {"name": 5, "arguments": {}}}]}},
    *({"response": odd} for odd in (5, True, ["x"], {"a": 1})),
]


@pytest.mark.parametrize("odd", ODD_ENDS, ids=repr)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_an_end_that_is_not_understood(path: str, streamed: bool, odd: Any) -> None:
    """An odd member in the line with ``done`` hides neither the end nor its counts; no byte is added or lost."""
    first: dict[str, Any] = {"model": "m", "message": {"role": "assistant", "content": "hey"}, "response": "hey"}
    last = {"model": "m", "done": True, "done_reason": "length"} | END | odd
    body = ndjson(first | {"done": False}, last) if streamed else json.dumps(first | last).encode()
    act = Act(chunked(body, "application/x-ndjson") + b"0\r\n\r\n") if streamed else Act(message(body))
    async with (
        raw_upstream(lambda asked: act if asked.method == "POST" else proper(asked)) as upstream,
        running_hub(upstream.url, api_mode="native", health=QUIET, circuit_breaker=FIRST) as hub,
    ):
        passed = await hub.post(path, ASKED | {"stream": streamed})
        assert (passed.status, passed.body) == (200, body)
        assert breaker_of(hub, "ollama").failures == 0
        (dispatched,) = hub.dispatches()
        assert (dispatched["outcome"], dispatched["completion_tokens"]) == ("ok", END["eval_count"])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_last_chunk_that_is_not_understood(path: str) -> None:
    """Its reason and its counts are read, so that the stream is complete without its end mark."""
    last = {"choices": [{"index": 0, "delta": {"content": True}, "text": True, "finish_reason": "length"}]}
    body = sse(chunk(content="hey"), last | {"usage": USAGE}, end="")
    act = Act(chunked(body, "text/event-stream") + b"0\r\n\r\n")
    async with (
        raw_upstream(lambda asked: act if asked.method == "POST" else proper(asked)) as upstream,
        running_hub(upstream.url, api_mode="openai", health=QUIET, circuit_breaker=FIRST) as hub,
    ):
        passed = await hub.post(path, ASKED | {"stream": True, "stream_options": {"include_usage": True}})
        assert (passed.status, passed.body) == (200, body + b"data: [DONE]\n\n")
        (dispatched,) = hub.dispatches()
        assert dispatched["completion_tokens"] == USAGE["completion_tokens"]


def text_choice(index: Any, text: str = "hey", reason: Any = "stop", *, streamed: bool) -> dict[str, Any]:
    """A choice for either text endpoint, or a chunk of one."""
    said = {"role": "assistant", "content": text}
    shown = {"delta": said} if streamed else {"message": said}
    return {"index": index, "text": text, "finish_reason": reason} | shown


@pytest.mark.parametrize("index", [-1, "zero", 0.5, True, [0], {"a": 1}, 1e20, 99999, 10**30], ids=repr)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_an_odd_index_of_a_choice(path: str, streamed: bool, index: Any) -> None:
    """Its own dialect gets the bytes, of several choices too; across, the only choice is the first one."""
    across = {"/v1/chat/completions": "/api/chat", "/v1/completions": "/api/generate"}[path]
    for count in (1, 2):
        places = (index, 1)[:count]
        if streamed:
            chunks = [{"choices": [text_choice(place, streamed=True)]} for place in places]
            body = sse(*chunks)
            act = Act(chunked(body, "text/event-stream") + b"0\r\n\r\n")
        else:
            body = json.dumps({"choices": [text_choice(place, streamed=False) for place in places]}).encode()
            act = Act(message(body))
        async with (
            raw_upstream(lambda asked, act=act: act if asked.method == "POST" else proper(asked)) as upstream,
            running_hub(upstream.url, api_mode="openai", health=QUIET, circuit_breaker=FIRST) as hub,
        ):
            passed = await hub.post(path, ASKED | {"stream": streamed})
            assert (passed.status, passed.body) == (200, body)
            crossed = await hub.post(across, ASKED | {"stream": streamed, "raw": True})
            if count == 1:
                assert (crossed.status, crossed.text.count("hey"), "error" in crossed.text) == (200, 1, False)
            else:
                assert "several choices" in crossed.text
            assert breaker_of(hub, "ollama").failures == 0


@pytest.mark.parametrize("index", [-1, "a", 0.5, True, [0], None, 7], ids=repr)
async def test_an_odd_index_of_a_vector(index: Any) -> None:
    """The only vector needs no index; several do, across the dialects, and the error says what is wrong."""
    for count in (1, 2):
        data = [{"index": place, "embedding": [0.5]} for place in (index, 1)[:count]]
        body = json.dumps({"data": data}).encode()
        async with (
            raw_upstream(
                lambda asked, body=body: Act(message(body)) if asked.method == "POST" else proper(asked)
            ) as upstream,
            running_hub(upstream.url, api_mode="openai", health=QUIET, circuit_breaker=FIRST) as hub,
        ):
            inputs = ["a", "b"][:count]
            passed = await hub.post("/v1/embeddings", {"model": "m", "input": inputs})
            assert (passed.status, passed.body) == (200, body)
            crossed = await hub.post("/api/embed", {"model": "m", "input": inputs})
            if count == 1 or index in (None, 7):
                assert crossed.json()["embeddings"] == [[0.5]] * count
            else:
                assert crossed.status == 502
                assert "index that is not a number" in crossed.text
            assert breaker_of(hub, "ollama").failures == 0
