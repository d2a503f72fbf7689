"""The first bytes of an answer say what it is; its Content-Type alone decides nothing where a stream is asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agenthub.dialects.forms import EVENTS, LINES, LONGEST_LOOK, WHOLE, form_of
from tests.hubs import ONCE, Answered, running_hub
from tests.scripted import NONE, PLAIN, events, lines, scripted
from tests.upstreams import HI, JSON, NDJSON, SSE, USAGE, chunk, line

BOM = b"\xef\xbb\xbf"
TYPES = [SSE, NDJSON, JSON, PLAIN, NONE]
MESSAGE = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
COMPLETED = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [MESSAGE], "usage": USAGE}
STREAMS = {
    "native": {
        "lines": lines(line(content="Hel"), line(content="lo"), line(done=True)),
        "events": events(line(content="Hel"), line(content="lo"), line(done=True)),
        "whole": json.dumps(line(done=True, content="Hello")).encode(),
        "indented": json.dumps(line(done=True, content="Hello"), indent=2).encode(),
    },
    "openai": {
        "events": events(chunk(content="Hel"), chunk(content="lo"), chunk("stop"), "[DONE]"),
        "lines": lines(chunk(content="Hel"), chunk(content="lo"), chunk("stop")),
        "whole": json.dumps(COMPLETED).encode(),
        "whole, then a line end": json.dumps(COMPLETED).encode() + b"\n",
        "indented": json.dumps(COMPLETED, indent=2).encode(),
        "indented, with blank lines": json.dumps(COMPLETED, indent=2).replace("\n", "\n\n").encode(),
    },
}
CASES = [
    pytest.param(mode, data, id=f"{mode} {name}") for mode, streams in STREAMS.items() for name, data in streams.items()
]
PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}
OWN = {"ollama": (NDJSON, "application/json"), "openai": (SSE, "application/json")}


def text_of(answer: Answered, dialect: str, *, stream: bool) -> str:
    """The text in an answer, whose frames must be those of the dialect and whose end must be there."""
    if not stream:
        body = answer.json()
        return (body if dialect == "ollama" else body["choices"][0])["message"]["content"]  # type: ignore[no-any-return]
    if dialect == "ollama":
        found = [json.loads(one) for one in answer.text.splitlines() if one.strip()]
        assert [one["done"] for one in found] == [False] * (len(found) - 1) + [True]
        return "".join(one["message"]["content"] for one in found)
    assert answer.text.endswith("data: [DONE]\n\n")
    frames = [one for one in answer.text.removeprefix("\ufeff").splitlines() if one.startswith("data: {")]
    found = [json.loads(one.removeprefix("data: ")) for one in frames]
    return "".join(one["choices"][0]["delta"].get("content") or "" for one in found if one["choices"])


@pytest.mark.parametrize("blank", [b"", BOM, b"\r\n \n"], ids=["", "BOM", "blanks"])
@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize(("mode", "data"), CASES)
async def test_every_form_under_every_type(mode: str, data: bytes, content_type: str, blank: bytes) -> None:
    """A client of either dialect gets the text in its own form and under its own type, streamed or whole as asked."""
    async with (
        scripted([blank + data], content_type) as upstream,
        running_hub(upstream.url, api_mode=mode, retries=ONCE) as hub,
    ):
        for dialect, path in PATHS.items():
            for stream in (True, False):
                answer = await hub.post(path, {"model": "m", "messages": HI, "stream": stream})
                assert answer.status == 200, (dialect, stream, answer.text)
                assert text_of(answer, dialect, stream=stream) == "Hello"
                assert answer.headers["Content-Type"].partition(";")[0] == OWN[dialect][not stream]


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize(("mode", "data"), CASES)
async def test_forms_that_come_byte_by_byte(mode: str, data: bytes, content_type: str) -> None:
    """However the network cuts them."""
    pieces = [data[at : at + 1] for at in range(9)] + [data[9:]]
    async with (
        scripted(pieces, content_type) as upstream,
        running_hub(upstream.url, api_mode=mode, retries=ONCE) as hub,
    ):
        for dialect, path in PATHS.items():
            answer = await hub.post(path, {"model": "m", "messages": HI, "stream": True})
            assert (answer.status, text_of(answer, dialect, stream=True)) == (200, "Hello")


PULL = lines({"status": "pulling manifest"}, {"status": "pulling", "completed": 1}, {"status": "success"})


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("data", [PULL, events(*map(json.loads, PULL.splitlines())), lines({"status": "success"})])
async def test_progress_under_every_type(data: bytes, content_type: str) -> None:
    """The lines of a pull arrive as lines, whatever they came as."""
    async with scripted(data, content_type) as upstream, running_hub(upstream.url) as hub:
        answer = await hub.post("/api/pull", {"model": "m"})
        assert (answer.status, answer.headers["Content-Type"]) == (200, NDJSON)
        assert answer.frames()[-1] == {"status": "success"}
        assert len(answer.frames()) == (3 if len(data) > len(PULL) // 2 else 1)


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize(
    ("mode", "body"),
    [("native", {"embeddings": [[0.5]]}), ("openai", {"data": [{"index": 0, "embedding": [0.5]}]})],
)
async def test_vectors_under_every_type(mode: str, body: Any, content_type: str) -> None:
    """What is never streamed is read as what it is."""
    async with scripted(lines(body), content_type) as upstream, running_hub(upstream.url, api_mode=mode) as hub:
        assert (await hub.post("/api/embed", {"model": "m", "input": "hi"})).json()["embeddings"] == [[0.5]]
        vectors = (await hub.post("/v1/embeddings", {"model": "m", "input": "hi"})).json()["data"]
        assert [one["embedding"] for one in vectors] == [[0.5]]


@pytest.mark.parametrize(
    ("head", "is_all", "promised", "form"),
    [
        (b"", False, "", ""),
        (b"", True, "", WHOLE),
        (b"", True, EVENTS, EVENTS),
        (b"\xef", False, "", ""),
        (b"dat", False, "", ""),
        (b"dat", True, "", WHOLE),
        (b" \r\n", False, LINES, ""),
        (b"data: {", False, "", EVENTS),
        (b": hi", False, LINES, EVENTS),
        (b"event: x", False, "", EVENTS),
        (b"{", False, "", ""),
        (b"{", True, "", WHOLE),
        (b"{}\n", False, "", ""),
        (b"{}\n", False, LINES, LINES),
        (b"{}\n{", False, "", LINES),
        (b"{}\n\n ", True, "", WHOLE),
        (b'{"done":false}\n', False, "", LINES),
        (b'{"done":true}\n', False, "", ""),
        (b"{\n", False, LINES, WHOLE),
        (b"<html>", False, EVENTS, WHOLE),
        (b"[1]", False, "", WHOLE),
        (b"oops", False, EVENTS, EVENTS),
        (b"{" + b" " * LONGEST_LOOK, False, "", WHOLE),
    ],
)
def test_forms(head: bytes, is_all: bool, promised: str, form: str) -> None:
    """Nothing is decided before the bytes tell, nor long after; what leaves a choice is what its type promises."""
    assert form_of(head, is_all=is_all, promised=promised) == form
