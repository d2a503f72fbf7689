"""A stream means the same however the network cuts it, and what is rendered parses back into the same events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenthub.canonical import (
    Answer,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Event,
    Finished,
    GenerateRequest,
    RawFrames,
    TextDelta,
    Usage,
    assemble,
)
from agenthub.dialects import Codec, StreamParser, parse_whole
from tests.dialects import strategies
from tests.dialects.recorded import CODECS

STREAMS = {
    "/api/chat": strategies.native_chat_streams(),
    "/api/generate": strategies.generate_streams(),
    "/v1/chat/completions": strategies.openai_chat_streams(),
    "/v1/completions": strategies.completion_streams(),
}
NDJSON = ("/api/chat", "/api/generate")


def request_of(path: str, model: str = "m") -> ChatRequest | GenerateRequest:
    chat = path in ("/api/chat", "/v1/chat/completions")
    return ChatRequest(model=model, stream=True) if chat else GenerateRequest(model=model, stream=True)


def render(path: str, events: Sequence[Event]) -> bytes:
    return CODECS[path].make_renderer(request_of(path)).render(tuple(events))


def parse(codec: Codec, pieces: Iterable[bytes], **options: object) -> tuple[list[Event], bytes]:
    """The events of a stream, and its raw frames joined; a stream that broke fails the test."""
    parser = StreamParser(codec, raw=True, **options)  # type: ignore[arg-type]
    events = [event for piece in pieces for event in parser.feed(piece)]
    events += parser.close()
    assert parser.error is None
    raw = b"".join(event.data for event in events if isinstance(event, RawFrames))
    return [event for event in events if not isinstance(event, RawFrames)], raw


def expected(path: str, events: Sequence[Event]) -> list[Event]:
    """OpenAI's streams always count: an upstream that did not gives zeros. Nothing else changes."""
    *most, last = events
    assert isinstance(last, Finished)
    if path in NDJSON or last.usage is not None:
        return list(events)
    return [*most, Finished(last.reason, Usage())]


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    """Split bytes at any places."""
    places = sorted({place % (len(data) + 1) for place in at})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


@pytest.mark.parametrize("path", STREAMS)
@settings(max_examples=60)
@given(data=st.data())
def test_events_come_through_their_dialect(path: str, data: st.DataObject) -> None:
    """parse(render(events)) is events, whether they were rendered in one batch or one by one."""
    events = data.draw(STREAMS[path])
    model = data.draw(st.sampled_from(["m", 'a|b"\n{}%s,', "data: ☕"]))
    renderer = CODECS[path].make_renderer(request_of(path, model))
    one_by_one = b"".join(renderer.render((event,)) for event in events)
    assert json.dumps(model, ensure_ascii=False).encode() in one_by_one
    for stream in (render(path, events), one_by_one):
        assert parse(CODECS[path], [stream])[0] == expected(path, events)


@pytest.mark.parametrize("path", STREAMS)
@settings(max_examples=50)
@given(data=st.data())
def test_any_cut_gives_the_same_events(path: str, data: st.DataObject) -> None:
    """All at once, a byte at a time or in any pieces: the same events, and the raw frames are all of the bytes.

    So it is with CR LF, comments, keep-alives and the fields of server-sent events that carry no data.
    """
    stream = render(path, data.draw(STREAMS[path]))
    if path not in NDJSON:
        noise = data.draw(st.sampled_from([b": ping\n\n", b"event: message\nid: 7\n", b"retry: 9\n\n", b"\n", b":\n"]))
        stream = b"".join(noise + frame + b"\n\n" for frame in stream.removesuffix(b"\n\n").split(b"\n\n"))
    if data.draw(st.booleans()):
        stream = stream.replace(b"\n", b"\r\n")

    whole, raw = parse(CODECS[path], [stream])
    assert raw == stream
    for pieces in (
        cut(stream, data.draw(st.lists(st.integers(0, 10**6), max_size=9))),
        cut(stream, range(len(stream))),
    ):
        assert parse(CODECS[path], pieces) == (whole, stream)


@pytest.mark.parametrize("path", STREAMS)
@settings(max_examples=30)
@given(data=st.data())
def test_an_alias_stands_in_every_frame(path: str, data: st.DataObject) -> None:
    """With ``rename`` each frame calls the model by that name; the events are the same, whatever the cut."""
    events = data.draw(STREAMS[path])
    stream = render(path, events)
    renamed = parse(CODECS[path], cut(stream, data.draw(st.lists(st.integers(0, 10**6)))), rename="alias")
    assert renamed == (expected(path, events), stream.replace(b'"model":"m"', b'"model":"alias"'))


@pytest.mark.parametrize("path", STREAMS)
@settings(max_examples=40)
@given(data=st.data())
def test_whole_answers_come_through(path: str, data: st.DataObject) -> None:
    """A whole answer, rendered and parsed, holds the same text, calls, log-probabilities, reason and counts."""
    events = expected(path, data.draw(STREAMS[path]))
    answer, codec = assemble(events), CODECS[path]
    again = assemble(parse_whole(codec, codec.render_whole(request_of(path), answer)))
    assert again == answer


@given(st.lists(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=4), max_size=3), st.integers(0, 99))
@settings(max_examples=40)
def test_vectors_come_through(vectors: list[list[float]], count: int) -> None:
    """Vectors survive each endpoint for embeddings, as floats and as base64; the legacy one has one and no counts."""
    answer = Answer(vectors=tuple(vectors), finished=Finished(usage=Usage(count, 0)))
    for path, encoding in (("/api/embed", "float"), ("/v1/embeddings", "float"), ("/v1/embeddings", "base64")):
        codec, request = CODECS[path], EmbedRequest(model="m", encoding=encoding)
        events = parse_whole(codec, codec.render_whole(request, answer))
        assert events == (Embeddings(tuple(vectors)), Finished(usage=Usage(count, 0)))
    legacy = CODECS["/api/embeddings"]
    body = legacy.render_whole(EmbedRequest(model="m", normalised=False), answer)
    assert parse_whole(legacy, body) == (Embeddings(tuple(vectors[:1])), Finished())


@given(st.text(alphabet="aé☕😀\u2028\x85", min_size=1, max_size=9))
@settings(max_examples=30)
def test_characters_are_never_cut(text: str) -> None:
    """Characters of several bytes, and those that some call line ends, arrive whole from any cut."""
    for path in ("/api/chat", "/v1/chat/completions"):
        spelled = json.dumps(text, ensure_ascii=False).encode()
        stream = render(path, [TextDelta("@"), Finished()]).replace(b'"@"', spelled)
        assert parse(CODECS[path], cut(stream, range(len(stream))))[0][0] == TextDelta(text)
