"""Odd details of an answer: what stands beside its text and its calls may be anything, and takes nothing from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenthub.canonical import (
    Answer,
    Batch,
    ChatRequest,
    EmbedRequest,
    Finished,
    GenerateRequest,
    LogprobsDelta,
    RawFrames,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    Timings,
    ToolCallDelta,
    Usage,
    assemble,
)
from agenthub.dialects import StreamParser, answerjson, parse_whole, typed
from agenthub.errors import UnreadableAnswer, UpstreamProtocol
from tests.dialects import strategies
from tests.dialects.recorded import CODECS, Recording, names
from tests.dialects.test_broken_upstreams import SAMPLES, choice, native, whole

CHAT, OPENAI = CODECS["/api/chat"], CODECS["/v1/chat/completions"]
NAN, INF = float("nan"), float("-inf")
ODD = st.sampled_from([None, 0, -1, 1.5, "", "x", "12", True, [], {}, [None], {"a": 1}, 10**30, 10**400, NAN, INF])
OF_OLLAMA = names(
    "created_at total_duration load_duration prompt_eval_count prompt_eval_duration eval_count eval_duration context "
    "prompt_eval_cached_count logprobs model role images index"
)
OF_OPENAI = names(
    "id created system_fingerprint service_tier usage prompt_tokens completion_tokens total_tokens "
    "prompt_tokens_details timings predicted_ms prompt_ms annotations type"
)
DETAILS = frozenset(OF_OLLAMA + OF_OPENAI)
ACROSS: dict[str, tuple[str, Any]] = {
    "/api/chat": ("/v1/chat/completions", ChatRequest(model="m", sidecar=True)),
    "/api/generate": ("/v1/completions", GenerateRequest(model="m")),
    "/api/embed": ("/v1/embeddings", EmbedRequest(model="m")),
    "/api/embeddings": ("/v1/embeddings", EmbedRequest(model="m")),
    "/v1/chat/completions": ("/api/chat", ChatRequest(model="m", sidecar=True)),
    "/v1/completions": ("/api/generate", GenerateRequest(model="m", sidecar=True)),
    "/v1/embeddings": ("/api/embed", EmbedRequest(model="m")),
}


def places(value: Any) -> Iterator[tuple[Any, str]]:
    """Each object of an answer with the name of a detail that it has, but for the index of a choice or a vector."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name in DETAILS and not (name == "index" and ("finish_reason" in value or "embedding" in value)):
                yield value, name
            elif name not in ("arguments", "parameters"):
                yield from places(item)
    elif isinstance(value, list):
        for item in value:
            yield from places(item)


def spoil(data: st.DataObject, value: Any) -> bytes:
    """The answer with some of its details replaced by anything."""
    found = list(places(value))
    for number in data.draw(st.lists(st.integers(0, len(found) - 1), max_size=3)) if found else ():
        holder, name = found[number]
        holder[name] = data.draw(ODD | strategies.json_values)
    return json.dumps(value).encode()


def read(recording: Recording, payloads: list[bytes]) -> Batch:
    """The events of an answer; what is passed on is what came."""
    if not recording.streamed:
        raw, *events = parse_whole(recording.codec, payloads[0], raw=True)
        assert raw == RawFrames(payloads[0])
        return tuple(events)
    prefix, end = frame_of(recording)
    body = b"".join([prefix + payload + end for payload in payloads])
    parser = StreamParser(recording.codec, raw=True)
    batch = parser.feed(body) + parser.close()
    assert parser.error is None
    assert b"".join([event.data for event in batch if type(event) is RawFrames]) == body
    return tuple(event for event in batch if type(event) is not RawFrames)


def frame_of(recording: Recording) -> tuple[bytes, bytes]:
    return (b"", b"\n") if recording.path.startswith("/api") else (b"data: ", b"\n\n")


def payloads_of(recording: Recording) -> list[bytes]:
    if not recording.streamed:
        return [recording.body]
    prefix, end = frame_of(recording)
    return [frame.removeprefix(prefix) for frame in recording.body.split(end) if frame]


def said(answer: Answer) -> Any:
    """What an answer says, without its details."""
    assert answer.finished is not None
    calls = [(call.name, call.arguments) for call in answer.tool_calls]
    return answer.text, answer.reasoning, calls, answer.vectors, answer.finished.reason, len(answer.more)


@pytest.mark.parametrize("recording", SAMPLES, ids=lambda r: r.name)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_detail_costs_an_answer(recording: Recording, data: st.DataObject) -> None:
    """Bytes pass unchanged; text, thoughts, calls, vectors and reason are the recorded ones in the other dialect too.

    What the other dialect shows of counts and durations is a whole number that is not negative, or absent.
    """
    payloads = payloads_of(recording)
    spoiled = [one if one == b"[DONE]" else spoil(data, json.loads(one)) for one in payloads]
    answer = assemble(read(recording, spoiled))
    assert said(answer) == said(assemble(read(recording, payloads)))
    path, request = ACROSS[recording.path]
    shown = json.loads(CODECS[path].render_whole(request, answer))
    members = shown.get("usage") or {}
    members |= {name: value for name, value in shown.items() if name.endswith(("_count", "_duration"))}
    for name, value in members.items():
        if not name.endswith("_details"):
            assert type(value) is int, name
            assert value >= 0, name


def finished(*events: Any) -> Finished:
    (last,) = [event for event in events if isinstance(event, Finished)]
    return last


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        *((7, 7), (12.0, 12), ("12", 12), (0, 0), (None, 0), (2**63 - 1, 2**63 - 1)),
        *((value, None) for value in (-1, -1.0, 1.5, "", "x", "-1", "1.5", "²", "9" * 30, True, [], {}, 2**63, 1e300)),
    ],
)
def test_counts(value: Any, meant: int | None) -> None:
    """A whole number, however it is written; what counts nothing is unknown, in each of the places for counts."""
    assert typed.count(value) == meant
    usage = finished(*whole(CHAT, native(eval_count=value, prompt_eval_count=3))).usage
    assert usage == Usage(3, meant)  # Ollama leaves a 0 out
    meant = None if value is None else meant  # the other API does not
    tokens = {"prompt_tokens": 3, "completion_tokens": value, "prompt_tokens_details": {"cached_tokens": value}}
    usage = finished(*whole(OPENAI, choice() | {"usage": tokens})).usage
    assert usage == Usage(3, meant, meant)


def test_what_is_no_count_is_left_out() -> None:
    """Ollama's clients do not see it; OpenAI's need a number and get 0; the other count is there."""
    shown = json.loads(
        CHAT.render_whole(ACROSS["/v1/chat/completions"][1], Answer(finished=Finished(usage=Usage(3, None))))
    )
    assert ("eval_count" in shown, shown["prompt_eval_count"]) == (False, 3)
    shown = json.loads(OPENAI.render_whole(ChatRequest(model="m"), Answer(finished=Finished(usage=Usage(3, None)))))
    assert shown["usage"] == {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}


@pytest.mark.parametrize("value", [-5, "1s", True, [], 10**400, INF, {"a": 1}])
def test_durations(value: Any) -> None:
    """A duration that is none is left out, and the others stay."""
    line = native(total_duration=9_000_000_000, load_duration=value, eval_count=1)
    timings = finished(*whole(CHAT, line)).timings
    # JSON has no infinity, which is null there; a null was always nothing.
    assert timings == Timings(9.0, 0.0 if value in (INF, 10**400) else None)
    shown = json.loads(CHAT.render_whole(ChatRequest(model="m"), assemble(whole(CHAT, line))))
    assert shown["total_duration"] == 9_000_000_000
    assert shown.get("load_duration", 1) == 1
    told = choice() | {"timings": {"predicted_ms": value, "prompt_ms": 1}}
    if value not in (INF, 10**400):
        assert finished(*whole(OPENAI, told)).timings is None


@pytest.mark.parametrize(
    "usage", [None, [], [1], 5, "many", True, {}, {"prompt_tokens_details": 5, "prompt_tokens": 3}], ids=repr
)
def test_usage_of_another_type(usage: Any) -> None:
    """Counts that are no object are no counts, whole and on the last chunk of a stream."""
    wanted = Usage(3, None) if isinstance(usage, dict) and usage else None
    assert finished(*whole(OPENAI, choice() | {"usage": usage})).usage == wanted
    parser = StreamParser(OPENAI)
    frames = [{"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}, {"choices": [], "usage": usage}]
    batch = parser.feed(
        b"".join(b"data: %b\n\n" % json.dumps(frame).encode() for frame in frames) + b"data: [DONE]\n\n"
    )
    assert (batch[0], finished(*batch).usage) == (TextDelta("a"), wanted)


@pytest.mark.parametrize("mark", ["[DONE] ", " [DONE]", "[DONE]\r", '"[DONE]"', "\t[DONE]\t"])
@pytest.mark.parametrize("frame", ["data: %s\n\n", "data:%s\n\n", "data: %s\r\n\r\n", "data: %s"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_end_marks(path: str, frame: str, mark: str) -> None:
    """The end mark is one with blanks around it, or as JSON; without a blank behind the colon, or a blank line."""
    parser = StreamParser(CODECS[path], raw=True)
    text = 'data: {"choices":[{"index":0,"text":"a","delta":{"content":"a"},"finish_reason":null}]}\n\n'
    batch = parser.feed((text + frame % mark).encode()) + parser.close()
    assert (parser.error, [event for event in batch if type(event) is not RawFrames]) == (
        None,
        [TextDelta("a"), Finished("stop")],
    )


@pytest.mark.parametrize(
    ("value", "meant"),
    [("c1", "c1"), (7, "7"), (7.0, "7"), (-7, "-7"), (1.5, ""), (True, ""), ([], ""), ({"a": 1}, "")],
)
def test_ids_of_calls(value: Any, meant: str) -> None:
    """A number is its digits, and what cannot be an id is none: the call gets one, in either dialect, whole or not."""
    function = {"name": "f", "arguments": "{}"}
    for codec, body in (
        (CHAT, native(message={"tool_calls": [{"id": value, "function": function}]})),
        (OPENAI, choice(message={"tool_calls": [{"id": value, "function": function}]})),
    ):
        (call, _) = whole(codec, body)
        assert isinstance(call, ToolCallDelta)
        assert call.id == meant or (not meant and call.id.startswith("call_"))
    parser = StreamParser(OPENAI)
    called = {"choices": [{"delta": {"tool_calls": [{"index": 0, "id": value, "function": function}]}}]}
    (call,) = parser.feed(b"data: " + json.dumps(called).encode() + b"\n\n")
    assert isinstance(call, ToolCallDelta)
    assert call.id == meant or (not meant and call.id.startswith("call_"))


@pytest.mark.parametrize("indices", [(0, 1), ("0", "1"), (0.0, 1.0), (-1, -2), ("a", "b"), (0, "b")], ids=repr)
def test_numbers_of_calls_in_pieces(indices: tuple[Any, Any]) -> None:
    """Whatever numbers the calls of a stream, the pieces of one are told from those of the other."""
    fragments = [(0, "f", '{"a"'), (1, "g", '{"b"'), (0, None, ":1}"), (1, None, ":2}")]
    frames = []
    for number, name, arguments in fragments:
        function = {"arguments": arguments} | ({"name": name} if name else {})
        frames.append({"choices": [{"delta": {"tool_calls": [{"index": indices[number], "function": function}]}}]})
    parser = StreamParser(OPENAI)
    batch = parser.feed(b"".join([b"data: %b\n\n" % json.dumps(frame).encode() for frame in frames]))
    assert parser.error is None
    assert [(call.name, call.arguments) for call in assemble(batch).tool_calls] == [("f", '{"a":1}'), ("g", '{"b":2}')]


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ({"a": 1}, '{"a":1}'),
        ({}, "{}"),
        ("{}", "{}"),
        (None, "{}"),
        ("", "{}"),
        ("null", "{}"),
        ([], "{}"),
        ("[]", "{}"),
    ],
)
def test_arguments_of_another_type(arguments: Any, meant: str) -> None:
    """An object where OpenAI has a text, a text where Ollama has an object, and nothing in any of its words."""
    function = {"name": "f", "arguments": arguments}
    bodies = [(CHAT, native(message={"tool_calls": [{"function": function}]}))]
    bodies += [(OPENAI, choice(message={"tool_calls": [{"function": function}]}))]
    bodies += [(OPENAI, choice(message={"function_call": function}))]
    for codec, body in bodies:
        answer = assemble(whole(codec, body))
        shown = json.loads(CHAT.render_whole(ChatRequest(model="m"), answer))
        assert shown["message"]["tool_calls"][0]["function"]["arguments"] == json.loads(meant)
        shown = json.loads(OPENAI.render_whole(ChatRequest(model="m"), answer))
        called = shown["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
        assert called in (meant, "null", "[]")
    parser = StreamParser(OPENAI)
    frame = {
        "choices": [{"delta": {"tool_calls": [{"index": 0, "function": function}]}, "finish_reason": "tool_calls"}]
    }
    batch = parser.feed(b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(frame).encode())
    line = json.loads(CHAT.make_renderer(ChatRequest(model="m", stream=True)).render(batch).splitlines()[0])
    assert line["message"]["tool_calls"][0]["function"]["arguments"] == json.loads(meant)


@pytest.mark.parametrize(
    ("thinking", "meant"),
    [
        ({"content": "hm"}, "hm"),
        ({"text": "hm", "type": "x"}, "hm"),
        ([{"type": "reasoning.text", "text": "h"}, {"text": "m"}], "hm"),
        (["h", "m"], "hm"),
        *((odd, "") for odd in (5, True, {"a": 1}, {"text": 5}, [5], [None], [])),
    ],
    ids=repr,
)
def test_thoughts_of_another_type(thinking: Any, meant: str) -> None:
    """What they say is read where it can be, and the answer is there in any case."""
    wanted = [*([ReasoningDelta(meant)] if meant else []), TextDelta("a")]
    lines: list[tuple[str, Any]] = [("/api/chat", native(message={"content": "a", "thinking": thinking}))]
    lines += [("/api/generate", {"response": "a", "thinking": thinking, "done": True})]
    for name in ("reasoning", "reasoning_content", "reasoning_details"):
        lines.append(("/v1/chat/completions", choice(message={"content": "a", name: thinking})))
    for path, body in lines:
        assert list(whole(CODECS[path], body)[:-1]) == wanted, path


def test_refusals_annotations_and_reasons_of_another_type() -> None:
    """They are left out; a choice that has ended for a reason that is no text has stopped."""
    odd = choice(message={"content": "a", "refusal": 5, "annotations": "x"}, finish_reason=5)
    assert whole(OPENAI, odd) == (TextDelta("a"), Finished("stop"))
    assert not finished(*whole(OPENAI, odd)).aside
    refused = choice(message={"content": None, "refusal": {"text": "no"}})
    assert whole(OPENAI, refused) == (RefusalDelta("no"), Finished("stop"))
    assert finished(*whole(CHAT, native(done_reason=5, context=["a"]))) == Finished("stop")
    assert finished(*whole(CHAT, native(context=5))) == Finished("stop")
    assert finished(*whole(CHAT, native(context=[1, 2.0]))) == Finished("stop", context=(1, 2))


@pytest.mark.parametrize(
    ("logprobs", "kept"),
    [
        ({"content": [{"token": "a", "logprob": INF}]}, None),
        ({"content": [{"token": "a", "logprob": -1, "top_logprobs": 5}]}, -1),
        ({"content": [{"token": "a", "logprob": -1, "bytes": "x"}]}, -1),
        ({"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": 5}, -1),
        ({"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": [{}, {}]}, -1),
        *(
            (odd, "left out")
            for odd in (
                *(5, [], "x", {"content": 5}, {"content": [5]}, {"content": [{}]}),
                {"content": [{"token": 5, "logprob": -1}]},
                {"content": [{"token": "a", "logprob": "-1"}]},
                {"tokens": ["a"], "token_logprobs": []},
                {"tokens": [5], "token_logprobs": [-1]},
                {"tokens": ["a"], "token_logprobs": ["b"]},
                {"tokens": "a", "token_logprobs": [1]},
                {"tokens": ["a"]},
            )
        ),
    ],
    ids=repr,
)
def test_logprobs_of_another_type(logprobs: Any, kept: Any) -> None:
    """What can be read stays: minus infinity is null; what cannot is left out, and the text is there."""
    body = choice(text="a", logprobs=logprobs)
    for path in ("/v1/chat/completions", "/v1/completions"):
        text, *found, _ = whole(CODECS[path], body)
        assert text == TextDelta("a")
        if kept == "left out":
            assert not found
            continue
        (one,) = found
        assert isinstance(one, LogprobsDelta)
        assert (one.items[0]["token"], one.items[0]["logprob"]) == ("a", kept)
        rendered = json.loads(OPENAI.render_whole(ChatRequest(model="m"), assemble((text, one, Finished()))))
        shown = rendered["choices"][0]["logprobs"]["content"][0]
        assert shown == {"token": "a", "logprob": kept, "bytes": [97], "top_logprobs": []}


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
@pytest.mark.parametrize("end", [{}, {"message": None, "response": None}])
def test_last_lines_without_a_text(path: str, end: Any) -> None:
    """The last line of an answer needs no message; alone it is what Ollama says of a model that it loads."""
    last = json.dumps({"model": "m", "done": True, "done_reason": "length", "eval_count": 2} | end).encode() + b"\n"
    first = json.dumps({"message": {"role": "assistant", "content": "a"}, "response": "a", "done": False}).encode()
    parser = StreamParser(CODECS[path], raw=True)
    batch = parser.feed(first + b"\n" + last)
    assert batch[1:] == (TextDelta("a"), Finished("length", Usage(0, 2)))
    parser = StreamParser(CODECS[path], raw=True)
    assert parser.feed(last)[1:] == (Finished("length", Usage(0, 2)),)


def test_answers_as_python_writes_them() -> None:
    """Infinity, NaN, numbers beyond all bounds and a byte order mark; long integers of a call keep their digits."""
    assert answerjson.loads(b"\xef\xbb\xbf[NaN, -Infinity, 1e999, 1]") == [None, None, None, 1]
    body = json.dumps(native(x=NAN, logprobs=[{"token": "a", "logprob": INF}])).encode()
    for mark in (b"", b"\xef\xbb\xbf"):
        raw, *events = parse_whole(CHAT, mark + body, raw=True)
        assert raw == RawFrames(mark + body)
        assert events == [TextDelta("a"), LogprobsDelta(({"token": "a", "logprob": None},)), Finished()]
    (renamed, *_) = parse_whole(CHAT, b"\xef\xbb\xbf" + b'{"model":"m",' + body[1:], raw=True, rename="alias")
    assert isinstance(renamed, RawFrames)
    assert renamed.data.startswith(b'{"model":"alias",')
    long = '{"n":123456789012345678901234567890}'
    called = '{"message":{"tool_calls":[{"function":{"name":"f","arguments":' + long + '}}]},"done":true,"x":NaN}'
    (call, _) = parse_whole(CHAT, called.encode())
    assert isinstance(call, ToolCallDelta)
    assert call.arguments == long


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/embed", {"embeddings": [[1, None], [1]], "prompt_eval_count": 3}),
        ("/api/embed", {"embeddings": [None, [1]]}),
        ("/api/embed", {"embeddings": [[NAN], [1]]}),
        ("/api/embeddings", {"embedding": [1, None]}),
        ("/v1/embeddings", {"data": [{"embedding": [1, None]}]}),
        ("/v1/embeddings", {"data": [{"embedding": None}]}),
        ("/v1/embeddings", {"data": [{"embedding": "%%%"}]}),
        ("/v1/embeddings", {"data": [{"index": -1, "embedding": [1]}, {"index": 0, "embedding": [1]}]}),
    ],
    ids=repr,
)
def test_vectors_with_holes(path: str, body: Any) -> None:
    """Who gets the upstream's bytes gets them; to the other dialect no number is made up for a null."""
    data = json.dumps(body).encode()
    raw, *events = parse_whole(CODECS[path], data, raw=True)
    assert raw == RawFrames(data)
    assert [type(event) for event in events] == [Finished]
    with pytest.raises(UnreadableAnswer):
        parse_whole(CODECS[path], data)


def test_vectors_are_placed_by_their_numbers() -> None:
    """However those are written."""
    data = [{"index": "1", "embedding": [1.0]}, {"index": 0.0, "embedding": [0.0]}]
    assert assemble(whole(CODECS["/v1/embeddings"], {"data": data, "usage": []})).vectors == ([0.0], [1.0])


@pytest.mark.parametrize(
    ("body", "is_counted"),
    [
        *((body, True) for body in (b"", b"<html>", b"null", b'"ok"', b"5", b"[1]", b'{"message":', b"\xff")),
        *((body, False) for body in (b"{}", b'{"choices":5}', b'{"message":{"content":true},"done":true}')),
    ],
)
def test_what_the_breaker_counts(body: bytes, is_counted: bool) -> None:
    """A JSON object that is no answer is not counted: the server is up. A page, half an object and the like are."""
    for codec in (CHAT, OPENAI):
        with pytest.raises(UpstreamProtocol) as raised:
            parse_whole(codec, body)
        assert raised.value.counted is is_counted
        assert isinstance(raised.value, UnreadableAnswer) is not is_counted


@pytest.mark.parametrize(
    ("path", "body", "meant"),
    [
        *(
            ("/api/chat", native(message=message), "hello")
            for message in (
                *("hello", ["hello"], {"content": ["hello"]}, {"content": {"text": "hello"}}),
                *({"content": "hello", "tool_calls": odd} for odd in ("x", ["x"], {}, [{"function": None}], 5)),
                {"content": [{"type": "text", "text": "hello"}]},
            )
        ),
        *(("/api/chat", native(message={"content": number}), str(number)) for number in (5, 0, 0.5)),
        *(("/api/generate", {"response": odd, "done": True}, "hello") for odd in (["hello"], {"text": "hello"})),
        ("/api/generate", {"response": 5, "done": True}, "5"),
        *(
            ("/v1/chat/completions", choice(message=message), "hello")
            for message in (
                *("hello", {"content": ["hello"]}, {"content": {"text": "hello"}}, {"content": [{"text": "hello"}]}),
                *({"content": "hello", "tool_calls": odd} for odd in ("x", ["x"], {}, [{"function": None}], 5)),
                *({"content": "hello", "function_call": odd} for odd in ("x", 5, ["x"], {"arguments": "{}"})),
                {"content": [{"type": "output_text", "text": "hello"}]},
                {"content": ["hel", {"type": "text", "text": "lo"}, {"type": "text"}]},
            )
        ),
        ("/v1/chat/completions", choice(message={"content": 5}), "5"),
        ("/v1/chat/completions", {"choices": [{"text": "hello", "finish_reason": "stop"}]}, "hello"),
        ("/v1/chat/completions", {"choices": [{"delta": {"content": "hello"}}]}, "hello"),
        *(("/v1/completions", {"choices": [{"text": odd}]}, "hello") for odd in (["hello"], {"text": "hello"})),
        *(("/v1/completions", {"choices": [{name: {"content": "hello"}}]}, "hello") for name in ("message", "delta")),
        ("/v1/completions", {"choices": [{"text": 5}]}, "5"),
    ],
    ids=lambda value: repr(value)[:80],
)
def test_texts_of_another_type(path: str, body: Any, meant: str) -> None:
    """A text is read where there is one; calls that cannot be read are left out beside it, whole and streamed."""
    assert assemble(whole(CODECS[path], body)).text == meant
    parser = StreamParser(CODECS[path])
    if path.startswith("/api"):
        batch = parser.feed(json.dumps(body).encode() + b"\n") + parser.close()
    else:
        batch = parser.feed(b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(body).encode()) + parser.close()
    if not isinstance(body.get("choices", [{}])[0].get("message"), str):
        assert (parser.error, assemble(batch).text) == (None, meant)


@pytest.mark.parametrize("odd", ["x", 5, ["x"], [{}], [{"function": {"arguments": {}}}]], ids=repr)
def test_calls_that_cannot_be_read(odd: Any) -> None:
    """They cost nothing behind a text, in whichever read it came, nor beside another call; alone they are an error."""
    called = {"function": {"name": "f", "arguments": {"x": 1}}}
    both = [*(odd if isinstance(odd, list) else [odd]), called]
    assert [call.name for call in assemble(whole(CHAT, native(message={"tool_calls": both}))).tool_calls] == ["f"]
    with pytest.raises(UnreadableAnswer):
        whole(CHAT, native(message={"tool_calls": odd}))
    first = json.dumps(native(message={"role": "assistant", "content": "a"}, done=False, model="m", created_at="x"))
    last = json.dumps(native(message={"content": "", "tool_calls": odd}))
    for sendings in ([f"{first}\n{last}\n"], [f"{first}\n", f"{last}\n"]):
        parser = StreamParser(CHAT)
        batch = sum([parser.feed(sending.encode()) for sending in sendings], ())
        assert (parser.error, batch) == (None, (TextDelta("a"), Finished()))
    parser = StreamParser(CHAT)
    parser.feed(last.encode() + b"\n")
    assert isinstance(parser.error, UnreadableAnswer)


def test_one_call_without_a_list() -> None:
    """The call itself where a list of it belongs; a number for a name is its digits."""
    for codec, body in (
        (CHAT, native(message={"tool_calls": {"function": {"name": "f", "arguments": {}}}})),
        (OPENAI, choice(message={"tool_calls": {"id": "c", "function": {"name": "f", "arguments": "{}"}}})),
        (CHAT, native(message={"tool_calls": [{"function": {"name": 5, "arguments": {}}}]})),
        (OPENAI, choice(message={"tool_calls": [{"id": "c", "function": {"name": 5, "arguments": "{}"}}]})),
    ):
        (call,) = assemble(whole(codec, body)).tool_calls
        assert (call.name, call.arguments) in (("f", "{}"), ("5", "{}"))


@pytest.mark.parametrize("name", ["thinking", "reasoning", "summary", "thought", "value", "text", "content"])
def test_thoughts_in_an_object(name: str) -> None:
    """By whichever name the object has them, be it in parts."""
    for said in ("hm", ["h", "m"], [{"text": "hm"}]):
        thinking = {"type": "x", name: said}
        assert assemble(whole(CHAT, native(message={"content": "a", "thinking": thinking}))).reasoning == "hm"
        assert assemble(whole(CODECS["/api/generate"], native(response="a", thinking=thinking))).reasoning == "hm"
        assert assemble(whole(OPENAI, choice(message={"content": "a", "reasoning": thinking}))).reasoning == "hm"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/embed", {"embedding": [0.5, 1]}),
        ("/api/embed", {"embeddings": [0.5, 1]}),
        ("/api/embeddings", {"embeddings": [[0.5, 1]]}),
        ("/api/embeddings", {"embeddings": [0.5, 1]}),
    ],
)
def test_a_vector_by_the_other_name(path: str, body: Any) -> None:
    """As the other of Ollama's two endpoints has it, or without the list around it."""
    assert assemble(whole(CODECS[path], body)).vectors == ([0.5, 1],)


@pytest.mark.parametrize("usage", [{"prompt_tokens": 3}, {"prompt_tokens": 3, "completion_tokens": None}], ids=repr)
def test_a_count_that_was_not_told(usage: Any) -> None:
    """It is unknown, so that Ollama's clients are told of no 0."""
    shown = json.loads(CHAT.render_whole(ChatRequest(model="m"), assemble(whole(OPENAI, choice() | {"usage": usage}))))
    assert ("eval_count" in shown, shown["prompt_eval_count"]) == (False, 3)
