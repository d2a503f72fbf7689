"""Frames: where they end, what they carry, how long they may be, and what follows the last."""

from __future__ import annotations

import pytest

from agenthub.canonical import Event, Finished, RawFrames, TextDelta
from agenthub.dialects import StreamParser, ollama, openai
from agenthub.dialects.framing import EventFramer, LineFramer
from agenthub.errors import UpstreamProtocol

LINE = b'{"message":{"content":"a"},"done":false}\n'
END = b'{"message":{"content":""},"done":true}\n'
CHUNK = b'{"model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}'


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\n\r\ndata: b\r\n\n", [b"a", b"b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b": comment\n\ndata: a\n\n", [b"", b"a"]),
        (b": comment\ndata: a\n\n", [b"a"]),
        (b"event: message\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
        (b"event: ping\n\n", [b""]),
        (b"\n\n\ndata: a\n\n", [b"", b"a"]),
        (b"data: a", [b"a"]),
        (b"data: a\n", [b"a"]),
        (b"data: a\x0bb\x1cc\n\n", [b"a\x0bb\x1cc"]),
        (b"data\n\n", [b""]),
    ],
)
def test_events_of_a_stream(stream: bytes, payloads: list[bytes]) -> None:
    """Server-sent events end with a blank line of any kind; only their data counts; bytes may come one at a time."""
    for pieces in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        framer = EventFramer()
        frames = [frame for piece in pieces for frame in framer.feed(piece)] + framer.close()
        assert [framer.payload(frame) for frame in frames] == payloads
        assert b"".join(frames).startswith(stream)


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        (b"{}\n{}\n", [b"{}", b"{}"]),
        (b"{}\r\n", [b"{}"]),
        (b"{}", [b"{}"]),
        (b"\n{}\n", [b"", b"{}"]),
        (b" \n ", [b""]),
    ],
)
def test_lines_of_a_stream(stream: bytes, payloads: list[bytes]) -> None:
    """NDJSON ends its lines with LF or CR LF; the last may lack its end; a blank line carries nothing."""
    framer = LineFramer()
    frames = framer.feed(stream) + framer.close()
    assert [framer.payload(frame).strip() for frame in frames] == payloads


def test_a_line_that_lacks_its_end_gets_one() -> None:
    """What the hub may have to add, such as an error, must stand on a line of its own."""
    parser = StreamParser(ollama.chat.CODEC, raw=True)
    assert parser.feed(LINE[:-1]) == ()
    assert parser.close() == (RawFrames(LINE), TextDelta("a"))
    assert isinstance(parser.error, UpstreamProtocol)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_frame_that_is_too_long(step: int) -> None:
    """A frame beyond the limit breaks the stream; the frames before it count, however the bytes arrive."""
    for stream in (LINE * 2 + b"x" * 100, LINE * 2 + b'{"message":"' + b"x" * 100 + b'"}\n' + END):
        parser = StreamParser(ollama.chat.CODEC, raw=True, max_frame_bytes=len(LINE))
        events: list[Event] = []
        for start in range(0, len(stream), step):
            events += parser.feed(stream[start : start + step])
        events += parser.close()
        assert [event for event in events if not isinstance(event, RawFrames)] == [TextDelta("a"), TextDelta("a")]
        assert b"".join(event.data for event in events if isinstance(event, RawFrames)) == LINE * 2
        assert str(parser.error) == f"the upstream sent a frame of more than {len(LINE)} bytes"


def test_no_limit() -> None:
    """A limit of 0 is none."""
    parser = StreamParser(ollama.chat.CODEC, max_frame_bytes=0)
    assert parser.feed(b'{"message":{"content":"' + b"x" * 2**20) == ()
    assert parser.error is None


@pytest.mark.parametrize("more", [b": bye\n\n", b"data: {broken\n\n", b"data: " + CHUNK + b"\n\n", b"\n"])
@pytest.mark.parametrize("rename", [None, "alias"])
def test_nothing_follows_the_end(more: bytes, rename: str | None) -> None:
    """What an upstream sends behind its end mark is left out, in the same read or in a later one."""
    begin = b"data: " + CHUNK.replace(b'"m"', b'"alias"') + b"\n\n"
    for reads in ([begin + b"data: [DONE]\n\n" + more], [begin + b"data: [DONE]\n\n", more]):
        parser = StreamParser(openai.chat.CODEC, raw=True, rename=rename)
        events = [event for read in reads for event in parser.feed(read)] + list(parser.close())
        assert events == [RawFrames(begin + b"data: [DONE]\n\n"), TextDelta("a"), Finished()]
        assert parser.error is None


@pytest.mark.parametrize(
    ("frame", "renamed"),
    [
        (b"data: " + CHUNK + b"\n\n", b"data: " + CHUNK + b"\n\n"),
        (b"event: message\nid: 3\ndata:" + CHUNK + b"\n\n", b"data: " + CHUNK + b"\n\n"),
        (b": hi\r\ndata: " + CHUNK + b"\r\n\r\n", b"data: " + CHUNK + b"\n\n"),
        (b'data: {"model":"m",\ndata: "choices":[{}]}\n\n', b'data: {"model":"m",\ndata: "choices":[{}]}\n\n'),
        (b"data:  " + CHUNK + b"\n\n", b"data:  " + CHUNK + b"\n\n"),
    ],
)
def test_a_renamed_frame_is_a_frame(frame: bytes, renamed: bytes) -> None:
    """Under an alias a frame is written again, with its data alone."""
    parser = StreamParser(openai.chat.CODEC, raw=True, rename="alias")
    expected = renamed.replace(b'"model":"m"', b'"model":"alias"')
    assert parser.feed(frame)[0] == RawFrames(expected)


def test_a_broken_frame_leaves_nothing_behind() -> None:
    """Of a frame that is wrong in its last part, the first part does not count either."""
    parser = StreamParser(ollama.chat.CODEC)
    bad = b'{"message":{"thinking":"b","content":true},"done":false}\n'
    assert parser.feed(LINE + bad + END) == (TextDelta("a"),)
    assert isinstance(parser.error, UpstreamProtocol)
    assert (parser.feed(END), parser.close()) == ((), ())
