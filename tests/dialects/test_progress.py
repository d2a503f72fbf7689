"""Progress streams of pull, push and create: what passes and how they end, whatever the network does to them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.canonical import Finished, RawFrames, RelayRequest
from agenthub.dialects import StreamParser, ollama, parse_whole
from agenthub.errors import InvalidRequest, UpstreamError, UpstreamProtocol, UpstreamReport
from tests.dialects.recorded import load

CODEC = ollama.managing.CREATE_CODEC


def played(data: bytes, cuts: list[int]) -> tuple[bytes, bool, str]:
    """Return the bytes that pass, whether the stream finished, and the error that it ended with."""
    parser = StreamParser(CODEC, raw=True)
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    events = []
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        events += parser.feed(data[start:end])
    events += parser.close()
    raw = b"".join(event.data for event in events if isinstance(event, RawFrames))
    return raw, any(isinstance(event, Finished) for event in events), str(parser.error or "")


@given(st.lists(st.integers(0, 5000)))
def test_a_recorded_success_passes_however_it_is_cut(cuts: list[int]) -> None:
    """Byte for byte, and it finishes."""
    recording = load("ollama-0.9.3/92-create-stream")
    assert played(recording.body, cuts) == (recording.body, True, "")


@given(st.lists(st.integers(0, 5000)))
def test_a_recorded_failure_passes_however_it_is_cut(cuts: list[int]) -> None:
    """Byte for byte, and it ends with what the upstream reported, which is not counted."""
    recording = load("ollama-0.9.3/97-pull-unreachable-stream")
    words = json.loads(recording.body.splitlines()[-1])["error"]
    assert played(recording.body, cuts) == (recording.body, False, words)


STATUSES = st.lists(st.fixed_dictionaries({"status": st.text().filter(lambda status: status != "success")}))


@given(STATUSES, st.sampled_from(["", '{"status":"success"}', '{"error":"boom"}', '{"error":{"code":1}}']))
def test_only_success_is_a_success(lines: list[Any], last: str) -> None:
    """Whatever came before; an error after which success is said is none."""
    data = "".join(json.dumps(line) + "\n" for line in lines).encode() + last.encode()
    raw, finished, error = played(data, [])
    assert raw.rstrip() == data.rstrip()
    assert (finished, error) == {
        "": (False, "the upstream ended the stream without success"),
        '{"status":"success"}': (True, ""),
        '{"error":"boom"}': (False, "boom"),
        '{"error":{"code":1}}': (False, '{"code":1}'),
    }[last]
    if error == "boom":
        more = data + b'\n{"status":"success"}\n'
        assert played(more, []) == (more, False, "boom")


@pytest.mark.parametrize("line", [b"[]\n", b"{\n", b"null\n", b"<html>\n"])
def test_what_is_no_progress_is_the_upstreams_failure(line: bytes) -> None:
    """The lines before it pass, it does not."""
    parser = StreamParser(CODEC, raw=True)
    (frames,) = parser.feed(b'{"status":"a"}\n' + line)
    assert isinstance(frames, RawFrames)
    assert frames.data == b'{"status":"a"}\n'
    assert isinstance(parser.error, UpstreamProtocol)
    assert parser.error.counted


@pytest.mark.parametrize("body", [b"", b"[]", b"{"])
def test_whole_answers_that_are_none(body: bytes) -> None:
    """What is no object is the upstream's failure."""
    with pytest.raises(UpstreamError) as failed:
        parse_whole(CODEC, body, raw=True)
    assert failed.value.counted


def test_a_whole_answer_that_reports_an_error() -> None:
    """A 500, not counted."""
    with pytest.raises(UpstreamReport, match="boom") as failed:
        parse_whole(CODEC, b'{"error":"boom"}', raw=True)
    assert (failed.value.status, failed.value.counted) == (500, False)


@pytest.mark.parametrize(
    ("verb", "model", "arguments", "expected"),
    [
        ("pull", "m", {}, {"model": "up", "stream": True}),
        ("push", "m", {"insecure": True}, {"insecure": True, "model": "up", "stream": True}),
        ("create", "m", {"model": "n"}, {"model": "n", "from": "up", "stream": True}),
        ("create", "", {"model": "n"}, {"model": "n", "stream": True}),
        ("copy", "m", {"destination": "n"}, {"destination": "n", "source": "up"}),
        ("delete", "m", {}, {"model": "up"}),
    ],
)
def test_requests_that_come_from_no_body(verb: str, model: str, arguments: dict[str, Any], expected: Any) -> None:
    """A plugin may make them; parsed again they say the same."""
    codec = ollama.VERBS[verb]
    body = codec.render_request(RelayRequest(verb=verb, model=model, arguments=arguments, stream=True), model and "up")
    assert json.loads(body) == expected
    again = codec.parse_request(body)
    assert isinstance(again, RelayRequest)
    assert (again.verb, again.model, again.stream) == (verb, model and "up", "stream" in expected)
    assert again.arguments == arguments


def test_the_lane_of_a_blob() -> None:
    """Its digest stands in the path; without content it only asks."""
    request = ollama.blobs.parse_request(b"sha256:" + 64 * b"a")
    lane = ollama.make_verb_lane(request)
    assert (lane.codec.method, lane.path, lane.raw) == ("HEAD", "/api/blobs/sha256:" + 64 * "a", True)
    with pytest.raises(InvalidRequest, match="invalid digest format"):
        ollama.blobs.parse_request(b"sha256:\xff")
