"""Readers of streams against the standards, read once more by a few lines that see all of the bytes at once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agenthub.canonical import Finished, RawFrames, TextDelta
from agenthub.dialects import StreamParser, ollama, openai
from agenthub.dialects.framing import EventFramer, Framer, LineFramer

BOM = b"\xef\xbb\xbf"
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
VALUES = st.text("a é☕😀:\u2028\x85\x0b\x1c{}\ufeff", max_size=6).map(str.encode)
FIELDS = st.sampled_from([b"data:", b"data: ", b"data", b"datax: ", b"event: ", b"id: ", b"retry: ", b":", b": ", b""])
LINES = st.tuples(FIELDS, VALUES).map(b"".join) | st.just(b"") | st.just(b"data:") | st.just(b"data: ")


@st.composite
def event_streams(draw: st.DrawFn) -> bytes:
    """Lines of all kinds with ends of all kinds; the last may lack its end."""
    lines = draw(st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=12))
    return draw(st.sampled_from([b"", BOM])) + b"".join(lines) + draw(LINES)


@st.composite
def object_streams(draw: st.DrawFn) -> bytes:
    """JSON objects on lines of their own, blank lines, white space; the last may lack its end."""
    objects = st.dictionaries(st.text(max_size=3), st.text(max_size=5), max_size=2).map(
        lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    )
    blanks = st.sampled_from([b"", b" ", b"\t"])
    lines = st.tuples(blanks, objects | blanks, blanks, st.sampled_from([b"\n", b"\r\n"])).map(b"".join)
    return draw(st.sampled_from([b"", BOM])) + b"".join(draw(st.lists(lines, max_size=8))) + draw(objects | blanks)


def events_of(stream: bytes) -> list[bytes]:
    """The data of a stream's events, as the HTML standard's "event stream interpretation" has it.

    What stands behind the last blank line counts too: an upstream that forgot its last line end has said it. Events
    under a name of their own count where they carry an object; others are for those who know the name.
    """
    events: list[bytes] = []
    data: list[bytes] = []
    name = b""
    for line in [*re.split(rb"\r\n|\n|\r", stream.removeprefix(BOM)), b""]:
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        if line.startswith(b"event:"):
            name = line[6:].strip()
        if line == b"":
            said = b"\n".join(data)
            events.append(said if not name or said.lstrip().startswith(b"{") else b"")
            data, name = [], b""
    return [event for event in events if event.strip()]


def objects_of(stream: bytes) -> list[bytes]:
    return [line.strip() for line in stream.removeprefix(BOM).split(b"\n") if line.strip()]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Split bytes at these places; some of the pieces may be empty."""
    at = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True)]


def payloads(framer: Framer, reads: Iterable[bytes]) -> tuple[list[bytes], bytes]:
    """What the frames of a stream carry, and the frames joined."""
    frames = [frame for read in reads for frame in framer.feed(read)] + framer.close()
    carried = [framer.payload(frame).strip() for frame in frames]
    return [payload for payload in carried if payload], b"".join(frames)


CUTS = st.lists(st.integers(0, 10**6), max_size=8)


@settings(max_examples=300)
@given(event_streams(), CUTS)
@example(b"data: a\r\n\r\ndata: b\r\n\r\n", [9])
@example(b"data:\ndata:\n\ndata: a\n\n", [])
@example(BOM + b"data: a\n\n", [1, 2])
def test_events_are_those_of_the_standard(stream: bytes, places: list[int]) -> None:
    """Any mixture of lines and line ends, cut anywhere or nowhere, is the events that the standard says."""
    wanted = [event.strip() for event in events_of(stream)]
    for reads in ([stream], cut(stream, places), cut(stream, range(len(stream)))):
        found, joined = payloads(EventFramer(), reads)
        assert found == wanted
        # What carries nothing behind the last blank line is left out.
        assert joined.startswith(stream) or stream.startswith(joined)


@settings(max_examples=150)
@given(object_streams(), CUTS)
@example(BOM + b"{}\n{}", [1, 2])
def test_objects_are_those_on_the_lines(stream: bytes, places: list[int]) -> None:
    """Blank lines and white space carry nothing, the end of the last line may be missing, cuts do not matter."""
    for reads in ([stream], cut(stream, places), cut(stream, range(len(stream)))):
        found, joined = payloads(LineFramer(), reads)
        assert found == objects_of(stream)
        rest = stream.removeprefix(BOM)
        assert joined.startswith(rest) or not rest[len(joined) :].strip()


@pytest.mark.parametrize("codec", [ollama.chat.CODEC, openai.chat.CODEC], ids=["NDJSON", "events"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@settings(max_examples=12)
@given(data=st.data())
def test_a_frame_of_megabytes(codec: object, end: bytes, data: st.DataObject) -> None:
    """A frame of a megabyte between short ones arrives whole from reads of any sizes, with what surrounds it."""
    text = "☕" * 2**18
    said = [text[:5], text, "after"]
    if codec is ollama.chat.CODEC:
        lines = [json.dumps({"message": {"role": "assistant", "content": part}, "done": False}) for part in said]
        stream = b"".join(line.encode() + end for line in [*lines, '{"message":{"content":""},"done":true}'])
    else:
        chunks = [json.dumps({"choices": [{"index": 0, "delta": {"content": part}}]}) for part in said]
        stream = b"".join(b"data: " + chunk.encode() + end * 2 for chunk in [*chunks, "[DONE]"])
    sizes = data.draw(st.lists(st.integers(1, 70_000), min_size=1, max_size=5).filter(lambda found: sum(found) > 2**15))
    parser = StreamParser(codec, raw=True)  # type: ignore[arg-type]
    events, at, turn = [], 0, 0
    while at < len(stream):
        events += parser.feed(stream[at : at + sizes[turn % len(sizes)]])
        at, turn = at + sizes[turn % len(sizes)], turn + 1
    events += parser.close()
    assert parser.error is None
    assert [event for event in events if not isinstance(event, RawFrames)] == [*map(TextDelta, said), Finished()]
    assert b"".join(event.data for event in events if isinstance(event, RawFrames)) == stream


@pytest.mark.parametrize("codec", [ollama.chat.CODEC, openai.chat.CODEC], ids=["NDJSON", "events"])
@pytest.mark.parametrize("size", [1, 3, 4096, 10**6])
def test_a_frame_without_an_end_is_given_up(codec: object, size: int) -> None:
    """As soon as more waits than a frame may have, however it arrives, and no more than that is kept."""
    parser = StreamParser(codec, max_frame_bytes=20_000)  # type: ignore[arg-type]
    fed = 0
    while parser.error is None:
        assert parser.feed(b"x" * size) == ()
        fed += size
        assert fed <= 20_000 + size
    assert str(parser.error) == "the upstream sent a frame of more than 20000 bytes"


@given(st.integers(0, 9), CUTS)
@settings(max_examples=40)
def test_several_frames_in_one_read_and_one_in_several(count: int, places: list[int]) -> None:
    """The number of reads and the number of frames have nothing to do with each other."""
    lines = b"".join(b'{"n":%d}\n' % number for number in range(count))
    events = b"".join(b'id: %d\ndata: {"n":%d}\n\n' % (number, number) for number in range(count))
    wanted = [b'{"n":%d}' % number for number in range(count)]
    assert payloads(LineFramer(), cut(lines, places)) == (wanted, lines)
    assert payloads(EventFramer(), cut(events, places)) == (wanted, events)
