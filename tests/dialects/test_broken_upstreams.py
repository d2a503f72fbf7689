"""Whatever an upstream sends, the outcome is events or an UpstreamError; a wrong type never gets as far as a client."""

from __future__ import annotations

import json
from contextlib import suppress
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
    ModelInfo,
    RawFrames,
    TextDelta,
    ToolCallDelta,
    assemble,
)
from agenthub.dialects import Codec, StreamParser, jsontext, ollama, openai, parse_whole
from agenthub.errors import UpstreamError, UpstreamProtocol
from tests.dialects import strategies
from tests.dialects.recorded import CODECS, Recording, load

SAMPLES = [
    load(name)
    for name in (
        "ollama-0.9.3/57-chat-nonstream",
        "ollama-0.9.3/54-generate-length-stream",
        "ollama-0.9.3/67-chat-tools-stream",
        "ollama-0.9.3/69-chat-think",
        "ollama-0.9.3/86-embeddings-legacy",
        "ollama-0.9.3/74-embed",
        "ollama-0.9.3/128-v1-chat-tools",
        "ollama-0.9.3/129-v1-chat-tools-stream",
        "ollama-0.9.3/145-v1-embeddings",
        "llama-server-2026/32-v1-chat-logprobs",
        "llama-server-2026/18-v1-chat-length-stream",
        "llama-server-2026/42-v1-completions",
    )
]
ODD = st.sampled_from([None, 0, -1, 1.5, "", "x", "\ud800", True, [], {}, [None], [5], {"a": 1}, 10**30, 10**400])


@st.composite
def spoiled(draw: st.DrawFn, value: Any) -> Any:
    """The same JSON with something in it replaced or missing."""
    if not value or not isinstance(value, dict | list) or draw(st.integers(0, 3)) == 0:
        return draw(ODD | strategies.json_values)
    keys = list(value) if isinstance(value, dict) else list(range(min(len(value), 5)))
    key = draw(st.sampled_from(keys))
    if isinstance(value, dict) and draw(st.integers(0, 4)) == 0:
        return {name: item for name, item in value.items() if name != key}
    copy = value.copy()
    copy[key] = draw(spoiled(value[key]))
    return copy


def render(batch: Batch) -> None:
    """Render an answer for every kind of client; only an UpstreamError may come of it."""
    answer = assemble(batch)
    kinds: list[Any] = [ChatRequest(model="m"), GenerateRequest(model="m"), EmbedRequest(model="m")]
    kinds += [EmbedRequest(model="m", normalised=False), EmbedRequest(model="m", encoding="base64")]
    for request in kinds:
        for codec in CODECS.values():
            if type(codec.parse_request(ASKED)) is not type(request):
                continue
            with suppress(UpstreamError):
                jsontext.loads(codec.render_whole(request, answer))
                if not isinstance(request, EmbedRequest):
                    codec.make_renderer(request).render(batch).decode()


ASKED = b'{"model":"m","messages":[{"role":"user"}],"input":"x"}'


@pytest.mark.parametrize("recording", SAMPLES, ids=lambda r: r.name)
@settings(max_examples=50)
@given(data=st.data())
def test_spoiled_answers(recording: Recording, data: st.DataObject) -> None:
    """A real answer in which one value was replaced, by anything, is an answer still or an UpstreamError."""
    codec = recording.codec
    if not recording.streamed:
        body = json.dumps(data.draw(spoiled(json.loads(recording.body)))).encode()
        with suppress(UpstreamError):
            render(parse_whole(codec, body, raw=True, rename="alias"))
        return
    prefix, end = (b"", b"\n") if recording.path.startswith("/api") else (b"data: ", b"\n\n")
    payloads = [frame.removeprefix(prefix) for frame in recording.body.split(end) if frame]
    at = data.draw(st.integers(0, len(payloads) - 1))
    if payloads[at] != b"[DONE]":
        payloads[at] = json.dumps(data.draw(spoiled(json.loads(payloads[at])))).encode()
    parser = StreamParser(codec, raw=True, rename="alias")
    batch = parser.feed(b"".join(prefix + payload + end for payload in payloads)) + parser.close()
    assert any(isinstance(event, Finished) for event in batch[-1:]) == (parser.error is None)
    render(tuple(event for event in batch if not isinstance(event, RawFrames)))


@pytest.mark.parametrize("path", CODECS)
@settings(max_examples=50)
@given(chunks=st.lists(st.binary(max_size=20) | st.sampled_from([b"data: ", b"\n\n", b"{}", b"[DONE]", b"\r"])))
def test_streams_of_noise(path: str, chunks: list[bytes]) -> None:
    """Bytes of any kind end in events or in an UpstreamError."""
    parser = StreamParser(CODECS[path], raw=True, rename="alias")
    batch = tuple(event for chunk in chunks for event in parser.feed(chunk)) + parser.close()
    assert parser.error is not None or isinstance(batch[-1], Finished)


def whole(codec: Codec, body: Any) -> Batch:
    return parse_whole(codec, body if isinstance(body, bytes) else json.dumps(body).encode())


def choice(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"} | fields]}


def native(**fields: Any) -> dict[str, Any]:
    return {"message": {"content": "a"}, "done": True} | fields


DEEP = b"[" * 10**5
CALL = {"function": {"name": "f", "arguments": {}}}


@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        b'{"message":' + DEEP,
        native(message=True),
        native(message={"content": True}),
        native(message={"content": [True]}),
        native(message={"tool_calls": 5}),
        native(message={"tool_calls": {"a": CALL}}),
        native(message={"tool_calls": [5]}),
        native(message={"tool_calls": [{}]}),
        native(message={"tool_calls": [{"function": {"arguments": {}}}]}),
        native(message={"tool_calls": [{"function": {"name": True, "arguments": {}}}]}),
        native(message={"tool_calls": "x"}),
        native(done=False),
    ],
    ids=lambda body: repr(body)[:70],
)
def test_wrong_types_of_ollama(body: Any) -> None:
    """Numbers where texts belong, missing keys, bottomless nesting: UpstreamProtocol, and nothing is delivered."""
    with pytest.raises(UpstreamProtocol):
        whole(ollama.chat.CODEC, body)
    parser = StreamParser(ollama.chat.CODEC)
    line = body if isinstance(body, bytes) else json.dumps(body).encode()
    batch = parser.feed(line + b"\n") + parser.close()
    assert isinstance(parser.error, UpstreamProtocol)
    assert batch in ((), (TextDelta("a"),) if body == native(done=False) else ())


@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        {"choices": []},
        {"choices": None},
        {"choices": 5},
        {"choices": [None]},
        choice(message=None),
        choice(message={"content": True}),
        choice(message={"content": [{"type": "text", "text": True}]}),
        choice(message={"function_call": "x"}),
        choice(message={"tool_calls": 5}),
        choice(message={"tool_calls": [{"function": {"name": None}}]}),
    ],
    ids=lambda body: repr(body)[:70],
)
def test_wrong_types_of_openai(body: Any) -> None:
    """The same of an OpenAI-compatible server."""
    with pytest.raises(UpstreamProtocol):
        whole(openai.chat.CODEC, body)


@pytest.mark.parametrize(
    "frame",
    [
        [],
        5,
        "x",
        {"choices": 5},
        {"choices": [5]},
        {"choices": [{"delta": "a"}]},
        {"choices": [{"delta": {"content": True}}]},
        {"choices": [{"delta": {"content": [True]}}]},
    ],
    ids=lambda frame: repr(frame)[:70],
)
def test_wrong_types_in_a_stream_of_openai(frame: Any) -> None:
    """A chunk of a wrong type breaks the stream; what came before it was delivered.

    Where the bytes pass as they are it is the client's to understand, as long as it is an object.
    """
    good = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
    stream = good + b"data: " + json.dumps(frame).encode() + b"\n\ndata: [DONE]\n\n"
    parser = StreamParser(openai.chat.CODEC)
    assert parser.feed(stream) == (TextDelta("a"),)
    assert isinstance(parser.error, UpstreamProtocol)
    passing = StreamParser(openai.chat.CODEC, raw=True)
    is_passed = isinstance(frame, dict)
    expected = (RawFrames(stream), TextDelta("a"), Finished()) if is_passed else (RawFrames(good), TextDelta("a"))
    assert (passing.feed(stream), passing.error is None) == (expected, is_passed)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", {"response": True, "done": True}),
        ("/v1/completions", {"choices": [{"text": True}]}),
        ("/api/embed", {"embeddings": None}),
        ("/api/embed", {"embeddings": [None]}),
        ("/api/embed", {"embeddings": [["a"]]}),
        ("/api/embed", {"embeddings": [[1, None]]}),
        ("/api/embed", {"embeddings": "abc"}),
        ("/api/embeddings", {"embedding": ["a"]}),
        ("/api/embeddings", {"embedding": "abc"}),
        ("/v1/embeddings", {"data": None}),
        ("/v1/embeddings", {"data": [{"embedding": [None]}]}),
        ("/v1/embeddings", {"data": [{"embedding": "%%%"}]}),
        ("/v1/embeddings", {"data": [{"embedding": "AAA="}]}),
        ("/v1/embeddings", {"data": [{"index": "a", "embedding": [1]}, {"index": 0, "embedding": [1]}]}),
    ],
)
def test_wrong_types_of_other_endpoints(path: str, body: Any) -> None:
    """Texts and vectors of a wrong type are UpstreamProtocol as well."""
    with pytest.raises(UpstreamProtocol):
        whole(CODECS[path], body)


def test_what_odd_servers_may_send() -> None:
    """What some servers do differently is understood: null for absent, floats for counts, no log-probability."""
    odd = choice(
        message={"content": None, "reasoning": None, "tool_calls": None}, logprobs={"content": None}, finish_reason=None
    )
    assert whole(openai.chat.CODEC, odd | {"usage": None}) == (Finished("stop"),)
    (_, finished) = whole(ollama.chat.CODEC, native(eval_count=2.0, prompt_eval_count=None, context=None))
    assert isinstance(finished, Finished)
    assert finished.usage is not None
    assert (finished.usage.completion, finished.usage.prompt) == (2, 0)
    infinite = {"content": [{"token": "a", "logprob": None, "bytes": None, "top_logprobs": None}]}
    events = whole(openai.chat.CODEC, choice(logprobs=infinite))
    rendered = json.loads(openai.chat.CODEC.render_whole(ChatRequest(model="m"), assemble(events)))
    assert rendered["choices"][0]["logprobs"]["content"] == [
        {"token": "a", "logprob": None, "bytes": [97], "top_logprobs": []}
    ]
    newer = {"choices": [{"text": "a", "logprobs": {"content": [{"token": "a", "logprob": -1}]}}]}
    assert LogprobsDelta(({"token": "a", "logprob": -1},)) in whole(openai.completions.CODEC, newer)


def test_half_a_character() -> None:
    """Half of a surrogate pair in a text, a token or an argument is passed on as the escape that it was."""
    half = b'"\\ud83d"'
    call = b'{"function":{"name":"f","arguments":{"a":' + half + b"}}}"
    body = b'{"message":{"content":' + half + b',"tool_calls":[' + call + b"]}"
    events = whole(ollama.chat.CODEC, body + b',"done":true,"logprobs":[{"token":' + half + b',"logprob":-1}]}')
    for codec in (ollama.chat.CODEC, openai.chat.CODEC):
        for data in (
            codec.render_whole(ChatRequest(model="m"), assemble(events)),
            codec.make_renderer(ChatRequest(model="m", stream=True)).render(events),
        ):
            assert data.count(b"ud83d") == 3


# --- listing


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{}", b"5", DEEP, b'{"models":5,"data":5}', b'{"models":{"a":1},"data":{"a":1}}'),
        b'{"models":"abc","data":"abc"}',
    ],
    ids=lambda body: repr(body)[:40],
)
def test_lists_that_are_none(body: bytes) -> None:
    """What is no list of models is UpstreamProtocol."""
    for parse in (ollama.listing.parse_tags, openai.listing.parse_models):
        with pytest.raises(UpstreamProtocol, match="is not a list of models"):
            parse(body)
    with pytest.raises(UpstreamProtocol):
        ollama.listing.parse_running(body)
    with pytest.raises(UpstreamProtocol):
        ollama.listing.parse_version(body)


@pytest.mark.parametrize("created", [None, "yesterday", 1.5e9, 1.7e12, -1e20, 10**400, True, [], 0])
@pytest.mark.parametrize("meta", [None, 5, {}, {"size": None}, {"size": "big", "n_ctx_train": 8}, {"size": 7}])
def test_models_of_odd_servers(created: Any, meta: Any) -> None:
    """Whatever a server tells of a model's age and size, both SDKs can read the lists that the hub makes of it."""
    model = ModelInfo("a/b", "openai", {"created": created, "meta": meta, "owned_by": None, "capabilities": "x"})
    tag = json.loads(ollama.listing.render_tags([model]))["models"][0]
    assert (type(tag["size"]), tag["modified_at"][-1], len(tag["digest"])) == (int, "Z", 64)
    entry = json.loads(openai.listing.render_models([model]))["data"][0]
    assert (entry["id"], type(entry["created"]), entry["owned_by"]) == ("a/b", int, "library")
    shown = json.loads(ollama.listing.render_show(model))
    assert (shown["capabilities"], "model_info" in shown) == (["completion"], True)


@pytest.mark.parametrize(
    ("entry", "created", "owner"),
    [
        ({"modified_at": "2026-11-22T08:55:44.045976731Z"}, 1795337744, "org"),
        ({"modified_at": "2026-11-22T10:55:44.045976731+02:00"}, 1795337744, "org"),
        ({"modified_at": "2026-11-22T08:55:44Z"}, 1795337744, "org"),
        ({"modified_at": "soon"}, 0, "org"),
        ({"modified_at": 5}, 0, "org"),
        ({}, 0, "org"),
    ],
)
def test_models_of_ollama_in_a_list_of_openai(entry: dict[str, Any], created: int, owner: str) -> None:
    """Of an Ollama model OpenAI's clients see its age in seconds and its namespace."""
    rendered = openai.listing.render_entry(ModelInfo("org/m:7b", "ollama", entry))
    assert rendered == {"id": "org/m:7b", "object": "model", "created": created, "owned_by": owner}
    assert openai.listing.render_entry(ModelInfo("m", "ollama", entry))["owned_by"] == "library"


def test_show_has_no_answer_of_its_own() -> None:
    """The answer to show is the adapter's bytes; there is nothing to render it from."""
    request = ollama.listing.parse_show_request(b'{"name":"m","verbose":true}')
    assert (request.model, request.arguments) == ("m", {"verbose": True})
    assert json.loads(ollama.listing.SHOW_CODEC.render_request(request, "up")) == {"verbose": True, "model": "up"}
    with pytest.raises(UpstreamProtocol, match="the adapter gave no answer to show"):
        ollama.listing.SHOW_CODEC.render_whole(request, Answer())
    for codec in (ollama.listing.SHOW_CODEC, ollama.embed.CODEC, openai.embeddings.CODEC):
        parser = StreamParser(codec)
        parser.feed(b"data: {}\n\n{}\n")
        parser.close()
        assert str(parser.error) == "the upstream streamed an answer that is never streamed"


def test_a_call_without_a_name_is_none() -> None:
    """Fragments after the first bring neither id nor name; they stay with their call."""
    fragment = b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}\n\n'
    parser = StreamParser(openai.chat.CODEC)
    first, second = parser.feed(fragment + fragment)
    assert isinstance(first, ToolCallDelta)
    assert (first.id[:5], second) == ("call_", ToolCallDelta(0, arguments="{}"))
