"""Nothing is not an answer: an upstream that answers 200 and says nothing of an answer has failed, in its own words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agenthub.settings import BackendSettings
from tests.hubs import ONCE, error_of, running_hub
from tests.scripted import HTML, events, lines, scripted
from tests.upstreams import HI, JSON, NDJSON, SSE, chunk, line

PATHS = {
    "/api/chat": "ollama",
    "/api/generate": "ollama",
    "/v1/chat/completions": "openai",
    "/v1/completions": "openai",
}
KEY = "sk-very-secret-0123456789"
OOM = "CUDA out of memory"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head>\n\n<body>x</body></html>\n"

OF_OPENAI = {
    "detail, then the end": (events({"detail": OOM}, "[DONE]"), OOM),
    "detail alone": (events({"detail": OOM}), OOM),
    "message": (events({"message": OOM}, "[DONE]"), OOM),
    "a list of details": (events({"detail": [{"msg": OOM}]}, "[DONE]"), OOM),
    "an object for a message": (events({"msg": {"message": OOM}}, "[DONE]"), OOM),
    "unknown members": (events({"status": "failed", "reason": OOM}, "[DONE]"), OOM),
    "behind a comment": (b": ping\n\n" + events({"detail": OOM}, "[DONE]"), OOM),
    "before counts": (events({"detail": OOM}, {"choices": [], "usage": {"prompt_tokens": 1}}, "[DONE]"), OOM),
    "the field error": (f"error: {OOM}\n\n".encode() + events("[DONE]"), OOM),
    "the field error with an object": (b'error: {"code":500,"message":"%b"}\n\n' % OOM.encode(), OOM),
    "an event named error": (b'event: error\ndata: {"message":"%b"}\n\n' % OOM.encode() + events("[DONE]"), OOM),
    "an event named error with a text": (f"event: error\ndata: {OOM}\n\n".encode() + events("[DONE]"), OOM),
    "a text": (f"{OOM}\n\n".encode(), OOM),
    "a text as data": (events(OOM, "[DONE]"), OOM),
    "a page": (PAGE, "HTML page instead of an answer: 'Sign in'"),
    "only the end": (events("[DONE]"), "ended the stream without an answer"),
    "only counts": (events({"choices": [], "usage": {"prompt_tokens": 1}}, "[DONE]"), "no answer"),
    "only comments": (b": ping\n\n: ping\n\n", "ended the stream without"),
    "nothing": (b"", "ended the stream without"),
    "cut": (events({"detail": OOM}) + b'data: {"cho', OOM),
    "the key": (events({"detail": f"{KEY} is refused"}), "******** is refused"),
}
OF_OLLAMA = {
    "detail": (lines({"detail": OOM}), OOM),
    "message": (lines({"message": OOM}), OOM),
    "twice": (lines({"detail": OOM}, {"message": "see above"}), OOM),
    "unknown members": (lines({"status": "failed", "reason": OOM}), OOM),
    "a page": (PAGE, "HTML page instead of an answer: 'Sign in'"),
    "a text": (f"{OOM}\n".encode(), OOM),
    "nothing": (b"", "without done"),
    "blank lines": (b"\n\n", "without done"),
    "cut": (lines({"detail": OOM}) + b'{"mess', OOM),
    "the key": (lines({"detail": f"{KEY} is refused"}), "******** is refused"),
}
CASES = [pytest.param("openai", SSE, *case, id=f"openai {name}") for name, case in OF_OPENAI.items()]
CASES += [pytest.param("native", NDJSON, *case, id=f"native {name}") for name, case in OF_OLLAMA.items()]


def asked(stream: bool) -> dict[str, Any]:
    return {"model": "m", "messages": HI, "prompt": "hi", "raw": True, "stream": stream}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("mode", "content_type", "data", "words"), CASES)
async def test_a_stream_of_nothing(mode: str, content_type: str, data: bytes, words: str, path: str) -> None:
    """A 502 with the upstream's words and without its secrets, in every lane, whole and streamed."""
    async with scripted(data, content_type) as upstream:
        backends = {"one": BackendSettings(url=upstream.url, api_key=KEY)}
        async with running_hub(backends, api_mode=mode, retries=ONCE) as hub:
            for stream in (True, False):
                answer = await hub.post(path, {key: value for key, value in asked(stream).items() if key != "raw"})
                assert (answer.status, words in error_of(answer.json())) == (502, True), answer.text
                assert KEY not in answer.text


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("mode", "content_type", "data", "words"), CASES)
async def test_the_next_backend_answers(mode: str, content_type: str, data: bytes, words: str, stream: bool) -> None:
    """Before anything of an answer nothing was passed on, so that the next one can be asked."""
    good = lines(line(content="hey"), line(done=True)), NDJSON
    if mode == "openai":
        good = events(chunk(content="hey"), chunk("stop"), "[DONE]"), SSE
    async with scripted(data, content_type) as bad, scripted(*good) as other:
        backends = {
            "one": BackendSettings(url=bad.url, priority=2),
            "two": BackendSettings(url=other.url, priority=1),
        }
        async with running_hub(backends, api_mode=mode) as hub:
            for path in ("/api/chat", "/v1/chat/completions"):
                answer = await hub.post(path, {"model": "m", "messages": HI, "stream": stream})
                assert answer.status == 200, answer.text
                assert "hey" in answer.text
                assert words not in answer.text
        assert bad.asked
        assert len(other.asked) == 2


@pytest.mark.parametrize("stream", [True, False])
async def test_an_empty_answer_is_an_answer(lane: tuple[str, str], stream: bool) -> None:
    """With a choice and a reason, or with ``done`` as Ollama answers a request to load a model."""
    data = lines({"model": "m", "created_at": "x", "done": True, "done_reason": "load"}), NDJSON
    if lane[1] == "openai":
        data = events(chunk("stop"), "[DONE]"), SSE
    async with scripted(*data) as upstream, running_hub(upstream.url, api_mode=lane[1]) as hub:
        path = "/api/chat" if lane[0] == "ollama" else "/v1/chat/completions"
        answer = await hub.post(path, {"model": "m", "messages": HI, "stream": stream})
        assert answer.status == 200, answer.text
        assert b"error" not in answer.body


WHOLE_BODIES = [
    (lines({"detail": OOM}), JSON, OOM),
    (lines({"message": OOM, "code": 5}), JSON, OOM),
    (lines({"detail": [{"msg": OOM}]}), JSON, OOM),
    (lines({"detail": f"{KEY} is refused"}), JSON, "******** is refused"),
    (PAGE, HTML, "HTML page instead of an answer: 'Sign in'"),
    (PAGE, JSON, "HTML page instead of an answer: 'Sign in'"),
    (b"<?xml version='1.0'?><Error>x</Error>", "application/xml", "instead of an answer"),
    (b"{}", JSON, "the upstream"),
    (b"", JSON, "the upstream"),
]


@pytest.mark.parametrize("path", [*PATHS, "/api/embed", "/v1/embeddings"])
@pytest.mark.parametrize(("data", "content_type", "words"), WHOLE_BODIES)
@pytest.mark.parametrize("mode", ["native", "openai"])
async def test_a_whole_answer_of_nothing(mode: str, data: bytes, content_type: str, words: str, path: str) -> None:
    """The same of whole answers, also where a stream was asked for."""
    async with scripted(data, content_type) as upstream:
        backends = {"one": BackendSettings(url=upstream.url, api_key=KEY)}
        async with running_hub(backends, api_mode=mode, retries=ONCE) as hub:
            for stream in (False, True):
                answer = await hub.post(path, asked(stream) | {"input": "hi"})
                assert (answer.status, words in error_of(answer.json())) == (502, True), answer.text


async def test_an_error_amid_a_stream() -> None:
    """The field ``error`` and an event of that name break a stream off in the upstream's words, wherever they stand."""
    for frame in (f"error: {OOM}\n\n", f"event: error\ndata: {OOM}\n\n", f'event: error\ndata: {{"code":"{OOM}"}}\n\n'):
        data = events(chunk(content="hey"), frame.encode(), "[DONE]")
        async with scripted(data, SSE) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
            for path in ("/api/chat", "/v1/chat/completions"):
                answer = await hub.post(path, {"model": "m", "messages": HI, "stream": True})
                last = json.loads(answer.text.strip().splitlines()[-1].removeprefix("data: "))
                assert (answer.status, "hey" in answer.text, OOM in error_of(last)) == (200, True, True)


@pytest.mark.parametrize("choices", [None, [], {}, False, 0, ""], ids=repr)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/api/chat"])
async def test_no_choices(path: str, choices: Any) -> None:
    """Whatever stands where choices belong, none of them is no answer, whole and streamed alike."""
    body = {"id": "c", "choices": choices}
    for stream, data, kind in ((False, lines(body), JSON), (True, events(body, "[DONE]"), SSE)):
        async with scripted(data, kind) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
            answer = await hub.post(path, asked(stream))
            assert answer.status == 502, answer.text
