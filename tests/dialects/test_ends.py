"""How answers end: reasons, counts in any order, and streams that were cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agenthub.canonical import (
    Answer,
    ChatRequest,
    Event,
    Finished,
    GenerateRequest,
    TextDelta,
    Timings,
    Usage,
    assemble,
)
from agenthub.dialects import StreamParser, ollama, openai, parse_whole
from agenthub.errors import UpstreamError, UpstreamProtocol
from tests.dialects.recorded import CODECS

NATIVE, OPENAI = ollama.chat.CODEC, openai.chat.CODEC
TEXT = {"index": 0, "delta": {"content": "a"}}
COUNTS = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def sse(*frames: Any) -> bytes:
    texts = [frame if isinstance(frame, str) else json.dumps(frame) for frame in frames]
    return b"".join(b"data: " + text.encode() + b"\n\n" for text in texts)


def ndjson(*lines: Any) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def chunk(*, usage: Any = None, **choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {}} | choice]} | ({"usage": usage} if usage else {})


def parse(path: str, stream: bytes) -> tuple[list[Event], UpstreamError | None]:
    parser = StreamParser(CODECS[path])
    events = [*parser.feed(stream), *parser.close()]
    return events, parser.error


@pytest.mark.parametrize(
    ("frames", "finished"),
    [
        ([chunk(finish_reason="stop"), "[DONE]"], Finished("stop")),
        ([chunk(finish_reason="length"), "[DONE]"], Finished("length")),
        ([chunk(finish_reason="tool_calls"), "[DONE]"], Finished("stop")),
        ([chunk(finish_reason="function_call"), "[DONE]"], Finished("stop")),
        ([chunk(finish_reason="content_filter"), "[DONE]"], Finished("content_filter")),
        ([chunk(finish_reason="stop")], Finished("stop")),
        ([{"choices": [TEXT | {"delta": {"role": "assistant"}}]}, "[DONE]"], Finished("stop")),
        ([chunk(finish_reason="stop"), {"choices": [], "usage": COUNTS}, "[DONE]"], Finished("stop", Usage(3, 2))),
        ([chunk(finish_reason="stop", usage=COUNTS), "[DONE]"], Finished("stop", Usage(3, 2))),
        ([chunk(finish_reason="stop"), {"choices": [], "usage": COUNTS}], Finished("stop", Usage(3, 2))),
        ([chunk(finish_reason="stop"), {"choices": None, "usage": COUNTS}, "[DONE]"], Finished("stop", Usage(3, 2))),
        ([{"choices": []}, {}, chunk(finish_reason="stop"), "[DONE]"], Finished("stop")),
        (
            [chunk(usage={"prompt_tokens": 0}), chunk(finish_reason="stop", usage=COUNTS), "[DONE]"],
            Finished("stop", Usage(3, 2)),
        ),
        (
            [chunk(finish_reason="stop", usage=COUNTS | {"prompt_tokens_details": {"cached_tokens": 1}}), "[DONE]"],
            Finished("stop", Usage(3, 2, 1)),
        ),
    ],
)
def test_how_streams_of_openai_end(frames: list[Any], finished: Finished) -> None:
    """The reason, the counts and the end mark may come in one chunk or in several, and the mark may be missing."""
    assert parse("/v1/chat/completions", sse(*frames)) == ([finished], None)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("frames", [[], [{"choices": [TEXT]}], [{"choices": [TEXT], "usage": COUNTS}], [": x"]])
def test_streams_of_openai_that_were_cut(path: str, frames: list[Any]) -> None:
    """A stream with neither a reason nor an end mark was cut: an error, never a stop, whatever was counted."""
    events, error = parse(path, sse(*frames))
    assert str(error) == "the upstream ended the stream without a finish reason" or b": x" in sse(*frames)
    assert isinstance(error, UpstreamProtocol)
    assert not any(isinstance(event, Finished) for event in events)


@pytest.mark.parametrize(
    ("path", "line"),
    [("/api/chat", {"message": {"content": "a"}, "done": False}), ("/api/generate", {"response": "a", "done": False})],
)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_streams_of_ollama_that_were_cut(path: str, line: dict[str, Any], count: int) -> None:
    """A stream without done was cut, also in the middle of a line; so was a whole answer that is not done."""
    events, error = parse(path, ndjson(*[line] * count))
    assert (events, str(error)) == ([TextDelta("a")] * count, "the upstream ended the stream without done")
    events, error = parse(path, ndjson(*[line] * count) + b'{"message":{"con')
    assert (events, type(error)) == ([TextDelta("a")] * count, UpstreamProtocol)
    with pytest.raises(UpstreamProtocol, match="without done"):
        parse_whole(CODECS[path], json.dumps(line).encode())


@pytest.mark.parametrize("path", CODECS)
@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b"5", b'"a"', b"<html>", b"{", b"\xff", b'{"choices":[]}']
)
def test_whole_answers_that_are_none(path: str, body: bytes) -> None:
    """A body that is not what the API promises is an error that shows how it starts."""
    with pytest.raises(UpstreamProtocol):
        parse_whole(CODECS[path], body)


@pytest.mark.parametrize("path", CODECS)
@pytest.mark.parametrize(
    ("error", "text"),
    [("boom", "boom"), ({"message": "boom", "code": 500}, "boom"), ({"code": 5}, '{"code":5}'), (["x"], '["x"]')],
)
def test_errors_instead_of_answers(path: str, error: Any, text: str) -> None:
    """An error with status 200, whole or amid a stream, is an error with the upstream's own words."""
    body = json.dumps({"error": error}).encode()
    with pytest.raises(UpstreamError) as caught:
        parse_whole(CODECS[path], body)
    assert str(caught.value) in (text, json.dumps(error, separators=(",", ":")))
    if "embed" not in path:
        stream = {"/api/chat": ndjson({"message": {"content": "a"}}), "/api/generate": ndjson({"response": "a"})}.get(
            path, sse({"choices": [{"index": 0, "text": "a", "delta": {"content": "a"}}]})
        )
        frame = body + b"\n" if path.startswith("/api") else b"data: " + body + b"\n\n"
        events, error_of_stream = parse(path, stream + frame + sse("[DONE]"))
        assert (events, str(error_of_stream)) == ([TextDelta("a")], str(caught.value))


@pytest.mark.parametrize(
    ("reason", "openai_says"),
    [
        *(("stop", "stop"), ("load", "stop"), ("unload", "stop"), ("", "stop"), ("eos", "stop")),
        *(("length", "length"), ("content_filter", "content_filter")),
    ],
)
def test_reasons_of_ollama(reason: str, openai_says: str) -> None:
    """OpenAI has fewer reasons than Ollama: loading is a stop, and so is a word that nobody knows."""
    line = {"message": {"content": ""}, "done": True} | ({"done_reason": reason} if reason else {})
    ((finished,), error) = parse("/api/chat", ndjson(line))
    assert (finished, error) == (Finished(reason or "stop"), None)
    body = json.loads(OPENAI.render_whole(ChatRequest(model="m"), assemble([finished])))
    assert body["choices"][0]["finish_reason"] == openai_says
    assert body["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def test_an_empty_answer_as_a_stream() -> None:
    """An answer without a word still says whose it is, why it ended, and that it ended."""
    request = ChatRequest(model="m", stream=True, include_usage=False)
    frames = OPENAI.make_renderer(request).render((Finished(),)).decode().split("\n\n")
    deltas = [json.loads(frame[6:])["choices"][0] for frame in frames[:2]]
    assert [(delta["delta"], delta["finish_reason"]) for delta in deltas] == [
        ({"role": "assistant", "content": ""}, None),
        ({}, "stop"),
    ]
    assert frames[2:] == ["data: [DONE]", ""]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("asked", [True, False])
def test_counts_only_for_those_who_ask(path: str, asked: bool) -> None:
    """With include_usage the counts are in a chunk of their own, before the end mark and nowhere else."""
    kind = ChatRequest if "chat" in path else GenerateRequest
    renderer = CODECS[path].make_renderer(kind(model="m", stream=True, include_usage=asked))
    frames = renderer.render((TextDelta("a"), Finished("stop", Usage(3, 2)))).decode().split("\n\n")[:-2]
    chunks = [json.loads(frame[6:]) for frame in frames]
    assert [chunk.get("usage", "absent") for chunk in chunks] == ([None, None, COUNTS] if asked else ["absent"] * 2)
    assert ([chunk["choices"] for chunk in chunks][-1] == []) == asked


def test_what_the_last_line_of_ollama_holds() -> None:
    """Durations are never 0, since clients divide by them; what was not counted or timed is left out."""
    finished = Finished("length", Usage(3, 2, 1), Timings(1.5, 0.0, 0.25, 0.5), (1, 2))
    body = json.loads(NATIVE.render_whole(ChatRequest(model="m"), Answer("a", finished=finished)))
    told = {key: body[key] for key in list(body)[3:]}
    assert told == {
        "done": True,
        "done_reason": "length",
        "context": [1, 2],
        "total_duration": 1_500_000_000,
        "load_duration": 1,
        "prompt_eval_count": 3,
        "prompt_eval_cached_count": 1,
        "prompt_eval_duration": 250_000_000,
        "eval_count": 2,
        "eval_duration": 500_000_000,
    }
    bare = json.loads(NATIVE.render_whole(ChatRequest(model="m"), Answer("a", finished=Finished())))
    assert list(bare) == ["model", "created_at", "message", "done", "done_reason"]
    assert bare["created_at"].endswith("Z")


def test_only_the_first_choice_counts() -> None:
    """Of several choices the first is read; an index that is null or missing is the first."""
    both = {"choices": [{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]}
    nameless = {"choices": [{"delta": {"content": "a"}}, {"index": None, "delta": {"content": "c"}}]}
    events, error = parse("/v1/chat/completions", sse(both, nameless, "[DONE]"))
    assert (assemble(events).text, error) == ("aac", None)
