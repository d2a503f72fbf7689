"""Upstreams that answer otherwise than asked, or not at all well, in every lane: put right, or a readable failure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from agenthub.settings import CircuitBreakerSettings
from tests.hubs import RunningHub, running_hub
from tests.replay.exchanges import Exchange
from tests.replay.oracle import Said
from tests.replay.readers import read
from tests.replay.wire import Message, Player, playing, send

PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions", "native": "/api/chat"}
TYPES = {"native": "application/x-ndjson", "openai": "text/event-stream"}
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
CREATED = "2026-01-02T03:04:05.6Z"


def native(content: str, **last: Any) -> bytes:
    """A line of Ollama's, or a whole answer; with ``last`` the end of one."""
    message = {"role": "assistant", "content": content}
    body = {"model": "m", "created_at": CREATED, "message": message, "done": bool(last)} | last
    return json.dumps(body).encode() + b"\n"


def chunk(content: str, **more: Any) -> bytes:
    """An event of an OpenAI stream."""
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None, "logprobs": None} | more
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(body | {"usage": None}).encode() + b"\n\n"


COUNTS = {"prompt_eval_count": 3, "eval_count": 2}
DURATIONS = {"total_duration": 9, "load_duration": 1, "prompt_eval_duration": 2, "eval_duration": 3}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
STREAMS = {
    "native": [native("Hel"), native("lo"), native("", done_reason="stop", **COUNTS, **DURATIONS)],
    "openai": [
        chunk("Hel", delta={"role": "assistant", "content": "Hel"}),
        chunk("lo"),
        chunk("", delta={}, finish_reason="stop"),
        b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":'
        + json.dumps(USAGE).encode()
        + b"}\n\n",
        b"data: [DONE]\n\n",
    ],
}
MESSAGE = {"role": "assistant", "content": "Hello", "refusal": None}
WHOLE = {
    "native": native("Hello", done_reason="stop", **COUNTS, **DURATIONS),
    "openai": json.dumps(
        {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop", "logprobs": None}],
            "usage": USAGE,
        }
    ).encode(),
}
SAID = Said(text="Hello", reason="stop", usage=(3, 2, None))


def answer(mode: str, parts: list[bytes], *, content_type: str = "", status: int = 200) -> Exchange:
    """An answer of an upstream of this API, a stream if no other type is given."""
    headers = [("Content-Type", content_type or TYPES[mode]), ("Transfer-Encoding", "chunked")]
    shared = {"name": "made/by-hand", "method": "POST", "path": PATHS[mode], "headers": (), "body": b""}
    told = {"status": status, "reason": "x", "answer_headers": tuple(headers), "framing": "chunked"}
    return Exchange(**shared, **told, parts=tuple(parts), complete=True)  # type: ignore[arg-type]


async def post(hub: RunningHub, dialect: str, *, streamed: bool) -> Message:
    """Ask for the counts of streams as well."""
    asked: dict[str, Any] = BODY | {"stream": streamed}
    if streamed and dialect == "openai":
        asked |= {"stream_options": {"include_usage": True}}
    data = json.dumps(asked).encode()
    head = f"POST {PATHS[dialect]} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    return await send(hub.url, head.encode() + data)


async def ask(lane: tuple[str, str], recording: Exchange, *, streamed: bool) -> Said:
    """What a client of the lane reads of an upstream's answer; its shape is checked on the way."""
    patient = CircuitBreakerSettings(failure_threshold=10_000)
    async with (
        playing(recording) as (upstream, _),
        running_hub(upstream, api_mode=lane[1], circuit_breaker=patient) as hub,
    ):
        got = await post(hub, lane[0], streamed=streamed)
        assert not [line for line in hub.lines if line["event"] == "agenthub.request_crashed"]
        (line,) = hub.dispatches()
    said = read(got, PATHS[lane[0]], "m")
    assert line["outcome"] == ("failed" if said.error else "ok")
    return said


WAYS = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@WAYS
async def test_an_upstream_that_streams(lane: tuple[str, str], streamed: bool) -> None:
    """Whatever was asked for: the client gets what it asked for, with all that the upstream said."""
    assert await ask(lane, answer(lane[1], STREAMS[lane[1]]), streamed=streamed) == SAID


@WAYS
async def test_an_upstream_that_answers_whole(lane: tuple[str, str], streamed: bool) -> None:
    """The same the other way round; the type of the answer says what it is, not the request."""
    whole = answer(lane[1], [WHOLE[lane[1]]], content_type="application/json; charset=utf-8")
    assert await ask(lane, whole, streamed=streamed) == SAID


ERRORS = {
    "native": {
        "no end": (b"", "?"),
        "an error": (b'{"error":"boom"}\n', "boom"),
        "an object for an error": (b'{"error":{"message":"boom"}}\n', "boom"),
        "garbage": (b'{"broken\n', "?"),
        "no object": (b"[1]\n", "?"),
        "half a line": (b'{"model":"m","mess', "?"),
        "a page": (b"<html><body>Bad Gateway</body></html>\n", "?"),
        "not UTF-8": (b'{"model":"m","message":{"content":"\xff"}}\n', "?"),
    },
    "openai": {
        "no end": (b"", "?"),
        "an error": (b'data: {"error":{"message":"boom","type":"server_error","code":500}}\n\n', "boom"),
        "a text for an error": (b'data: {"error":"boom"}\n\n', "boom"),
        "an error, then an end": (b'data: {"error":{"message":"boom"}}\n\ndata: [DONE]\n\n', "boom"),
        "an event named error": (b'event: error\ndata: {"error":{"message":"boom"}}\n\n', "boom"),
        "garbage": (b'data: {"broken\n\n', "?"),
        "no object": (b"data: [1]\n\n", "?"),
        "half a frame": (b'data: {"choices":[{"del', "?"),
        "not UTF-8": (b'data: {"choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n', "?"),
    },
}


def breaks() -> Iterator[Any]:
    for dialect in ("ollama", "openai"):
        for mode, cases in ERRORS.items():
            for name, (frame, text) in cases.items():
                yield pytest.param(dialect, mode, frame, text, id=f"{dialect}-client-{mode}-adapter-{name}")


@WAYS
@pytest.mark.parametrize(("dialect", "mode", "frame", "text"), list(breaks()))
async def test_a_stream_that_breaks_after_its_text(
    dialect: str, mode: str, frame: bytes, text: str, streamed: bool
) -> None:
    """Streamed, what came arrives before the error; whole, there is only the error. Never an end that was not sent."""
    broken = answer(mode, [*STREAMS[mode][:2], *([frame] if frame else [])])
    said = await ask((dialect, mode), broken, streamed=streamed)
    wanted = text if text != "?" else said.error
    assert said.error == wanted
    assert wanted
    came = Said(text="Hello") if streamed else Said(502)
    kind, code = ("server_error", "upstream_error") if dialect == "openai" else ("", None)
    if dialect == "openai" and b'"code":500' in frame:
        code = "500"  # an upstream's own is kept, as a text
    assert said == Said(came.status, text=came.text, error=wanted, kind=kind, code=code)


@WAYS
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html><body>Sign in to the hotel's network</body></html>", "text/html"),
        (b"", "application/json"),
        (b"null", "application/json"),
        (b"{}", "application/json"),
        (b'"ok"', "application/json"),
        (b'{"broken', "application/json"),
        (b"\x00\x01\xff", "application/octet-stream"),
    ],
    ids=["a page", "nothing", "null", "an empty object", "a text", "half an object", "bytes"],
)
async def test_an_answer_of_status_200_that_is_none(
    lane: tuple[str, str], body: bytes, content_type: str, streamed: bool
) -> None:
    """A 502 with a text, whole and streamed, in the dialect's shape."""
    said = await ask(lane, answer(lane[1], [body] if body else [], content_type=content_type), streamed=streamed)
    assert said.status == 502
    assert said.error.startswith("the upstream")


SPELLINGS: list[tuple[bytes, str, str, str | None]] = [
    (b'{"error":"boom"}', "application/json", "boom", None),
    (b'{"error":{"message":"boom","type":"x","param":null,"code":"bad"}}', "application/json", "boom", "bad"),
    (b'{"error":{"code":418,"message":"boom","type":"server_error"}}', "application/json", "boom", "418"),
    (b'{"detail":"boom"}', "application/json", "boom", None),
    (b"boom", "text/plain", "boom", None),
    (b"<html><h1>boom</h1></html>", "text/html", "<html><h1>boom</h1></html>", None),
    (b"", "text/html", "?", None),
    (b"{}", "application/json", "?", None),
    (b'{"error":null}', "application/json", "?", None),
    (b'{"error":{"message":null}}', "application/json", "?", None),
]
"""Bodies of errors with their type, the text they hold, and the code."""


async def test_every_status_in_every_spelling(lane: tuple[str, str]) -> None:
    """From 400 to 599 the status is kept, and the body is the dialect's own, however the upstream spelled its error.

    But for 401 and 403, which are about the hub's own key: see tests/test_failover.py.
    """
    patient = CircuitBreakerSettings(failure_threshold=10_000)
    async with (
        playing(answer(lane[1], [])) as (upstream, player),
        running_hub(upstream, api_mode=lane[1], circuit_breaker=patient) as hub,
    ):
        for status in sorted({*range(400, 600)} - {401, 403}):
            for spelling in (SPELLINGS[status % len(SPELLINGS)],) if status not in (400, 500) else SPELLINGS:
                await refused(hub, player, lane, status, *spelling)


async def refused(
    hub: RunningHub,
    player: Player,
    lane: tuple[str, str],
    status: int,
    body: bytes,
    content_type: str,
    text: str,
    code: str | None,
) -> None:
    """Let the upstream refuse one request, and check what the client reads."""
    player.recording = answer(lane[1], [body] if body else [], content_type=content_type, status=status)
    got = await post(hub, lane[0], streamed=bool(status % 2))
    said = read(got, PATHS[lane[0]], "m")
    assert (said.status, said.error == text or text == "?", bool(said.error)) == (status, True, True)
    assert lane[0] == "ollama" or code is None or said.code == code
