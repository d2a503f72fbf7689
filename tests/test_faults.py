"""Upstreams that fail and clients that leave, in every lane: a failure is never passed off as an answer."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
import ollama
import openai
import orjson
import pytest

from agenthub.settings import BackendSettings, HealthSettings
from agenthub.standin import Fault, Standin, running
from tests.hubs import ONCE, Answered, RunningHub, running_hub

PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
BODY: dict[str, Any] = {"model": "standin", "messages": MESSAGES, "stream": False}


@pytest.fixture
def hub_settings(lane: tuple[str, str]) -> dict[str, Any]:
    return {"api_mode": lane[1], "retries": ONCE}


def message_of(error: Any, dialect: str) -> str:
    """Return the text of an error body, which must have exactly its dialect's shape."""
    if dialect == "ollama":
        assert list(error) == ["error"]
        assert isinstance(error["error"], str)
        return str(error["error"])
    assert list(error) == ["error"]
    assert list(error["error"]) == ["message", "type", "param", "code"]
    return str(error["error"]["message"])


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        (Fault.answer(503), 503, "server busy"),
        (Fault.answer(429, "slow down", headers={"Retry-After": "7"}), 429, "slow down"),
        (Fault.answer(400, "does not support chat"), 400, "does not support chat"),
        (Fault.answer(500, body=b"<html>oops</html>", headers={"Content-Type": "text/html"}), 500, "oops"),
        (Fault.answer(502, body=b""), 502, "502"),
        (Fault.error(after=0), 500, "error was encountered"),
        (Fault.garbage(), 502, "the upstream"),
        (Fault.truncate(), 502, "the upstream"),
    ],
    ids=lambda value: "",
)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_failure_before_the_first_event_keeps_its_status(
    hub: RunningHub, lane: tuple[str, str], standin: Standin, fault: Fault, status: int, words: str, streamed: bool
) -> None:
    """The upstream's status and words, in the asking dialect's shape; a broken answer is a 502."""
    if streamed and fault.status is None and fault.after is None:
        pytest.skip("a stream is cut after its text, see the tests of cut streams")
    standin.script(fault)
    answer = await hub.post(PATHS[lane[0]], BODY | {"stream": streamed})
    assert answer.status == status
    assert words in message_of(answer.json(), lane[0])
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers.get("Retry-After") == fault.headers.get("Retry-After")


@pytest.mark.parametrize(
    "fault",
    [
        Fault.error(after=3),
        Fault.truncate(),
        Fault.truncate(after=3),
        Fault.reset(3),
        Fault.close(3),
        Fault.garbage(after=3),
    ],
    ids=["error", "no-end-mark", "cut-short", "reset", "closed", "garbage"],
)
async def test_a_stream_that_breaks_ends_with_an_error(
    hub: RunningHub, lane: tuple[str, str], standin: Standin, fault: Fault
) -> None:
    """What came before the break arrives, then an error in the dialect's frame: no forged end, no [DONE]."""
    standin.script(fault)
    answer = await hub.post(PATHS[lane[0]], BODY | {"stream": True})
    frames = answer.frames()
    assert answer.status == 200
    assert message_of(frames[-1], lane[0])
    assert len(frames) > 3
    assert not any(frame == "[DONE]" or frame.get("done") for frame in frames)
    (line,) = hub.dispatches()
    assert (line["outcome"], line["status"]) == ("failed", 200)


async def test_the_sdks_raise_for_a_stream_that_breaks(
    hub: RunningHub, lane: tuple[str, str], standin: Standin
) -> None:
    """ollama's ResponseError and openai's APIError, after the pieces that came."""
    standin.script(Fault.error("boom", after=3))
    pieces: list[str] = []
    if lane[0] == "ollama":
        with pytest.raises(ollama.ResponseError):
            await read_ollama(hub, pieces)
    else:
        with pytest.raises(openai.APIError):
            await read_openai(hub, pieces)
    assert len(pieces) >= 2


async def read_ollama(hub: RunningHub, pieces: list[str]) -> None:
    async for part in await hub.ollama.chat("standin", MESSAGES, stream=True):
        pieces.append(part.message.content or "")  # noqa: PERF401 - what came before the break counts


async def read_openai(hub: RunningHub, pieces: list[str]) -> None:
    stream = await hub.openai.chat.completions.create(model="standin", messages=MESSAGES, stream=True)
    async for chunk in stream:
        pieces.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 - what came before the break counts


@pytest.mark.parametrize("fault", [Fault.whole(), Fault.stream()], ids=["whole-for-streamed", "streamed-for-whole"])
async def test_an_upstream_that_answers_the_other_way_is_put_right(
    hub: RunningHub, lane: tuple[str, str], standin: Standin, fault: Fault
) -> None:
    """A client that wants a stream gets one, a client that wants a whole answer gets that."""
    standin.script(fault)
    answer = await hub.post(PATHS[lane[0]], BODY | {"stream": fault.streamed is False})
    assert answer.status == 200
    frames = answer.frames()
    if fault.streamed:
        assert len(frames) == 1
        message = frames[0]["message"] if lane[0] == "ollama" else frames[0]["choices"][0]["message"]
        assert "You said: hi" in message["content"]
    else:
        assert frames[-1] == "[DONE]" if lane[0] == "openai" else frames[-1]["done"]
        assert "You said: hi" in answer.text


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_client_that_leaves_closes_the_upstream(
    hub: RunningHub, lane: tuple[str, str], standin: Standin, streamed: bool
) -> None:
    """Before the first event or in the middle of a stream: the upstream's connection closes soon."""
    await hub.get("/api/tags")
    if streamed:
        standin.endless, standin.pace_s = True, 0.01
        async with hub.http.post(hub.url + PATHS[lane[0]], json=BODY | {"stream": True}) as response:
            await response.content.readany()
            response.close()
    else:
        standin.script(Fault.hang())
        waiting = asyncio.create_task(hub.post(PATHS[lane[0]], BODY))
        before = standin.received.count
        await standin.received.reach(before + 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await standin.abandoned.reach(1, timeout_s=10.0)
    assert [line["outcome"] for line in hub.dispatches()] == ["abandoned"]


async def timed_out(upstream: str, fault: Fault, standin: Standin, **backend: Any) -> Answered:
    backends = {"slow": BackendSettings(url=upstream, **backend)}
    async with running_hub(backends, health=HealthSettings(models_refresh_s=0, interval_s=0)) as hub:
        standin.script(fault)
        return await hub.post("/api/chat", BODY | {"stream": True})


async def test_time_outs(standin: Standin) -> None:
    """A first event that does not come is a 504; a silence in the middle of a stream ends it with an error."""
    async with running(standin) as upstream:
        answer = await timed_out(upstream, Fault.hang(), standin, first_event_timeout_s=0.1)
        assert answer.status == 504
        assert "silent" in answer.json()["error"]
        answer = await timed_out(upstream, Fault.stall(after=3), standin, idle_timeout_s=0.1)
        assert answer.status == 200
        assert "silent" in answer.frames()[-1]["error"]


@pytest.mark.usefixtures("fast_clock")
async def test_a_slow_stream_is_no_silent_one(standin: Standin) -> None:
    """No time-out counts the whole of a stream, however long it takes."""
    standin.pace_s = 0.1
    async with running(standin) as upstream:
        answer = await timed_out(
            upstream, attrs.evolve(Fault.delay(0), path="none"), standin, idle_timeout_s=1.2, first_event_timeout_s=1.2
        )
        assert answer.frames()[-1]["done"] is True


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_an_answer_that_cannot_be_rendered_is_a_failure(standin: Standin, streamed: bool) -> None:
    """Arguments of a tool call that are no JSON object have no place in the Ollama dialect: a failure, logged so."""
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{broken"}}
    choice: dict[str, Any] = {"index": 0, "finish_reason": "tool_calls"}
    choice["delta" if streamed else "message"] = {"role": "assistant", "content": None, "tool_calls": [call]}
    frame = orjson.dumps({"choices": [choice]})
    data = b"data: " + frame + b"\n\ndata: [DONE]\n\n" if streamed else frame
    kind = "text/event-stream" if streamed else "application/json"
    standin.script(Fault.answer(200, body=data, headers={"Content-Type": kind}))
    async with running(standin) as upstream, running_hub(upstream, api_mode="openai") as hub:
        answer = await hub.post("/api/chat", BODY | {"stream": streamed})
        assert "arguments" in answer.frames()[-1]["error"]
        assert [line["outcome"] for line in hub.dispatches()] == ["failed"]


LINE = b'{"model":"m","created_at":"2026-01-02T03:04:05Z","message":{"role":"assistant","content":"hi"},"done":false}\n'
LAST = (
    b'{"model":"m","created_at":"2026-01-02T03:04:05Z","message":{"role":"assistant","content":""},"done":true,'
    b'"done_reason":"stop","total_duration":1,"prompt_eval_count":1,"eval_count":1}\n'
)


async def serve_raw(ending: str) -> asyncio.Server:
    """Serve a complete answer in one HTTP chunk, and then end, close, or keep silent."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), b": 0")
        await reader.readexactly(int(length.split(b":")[1]))
        if b"/api/tags" in head:
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"models":[]}')
        else:
            body = LINE + LAST
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
            writer.write(b"%x\r\n%b\r\n" % (len(body), body))
            if ending == "stall":
                await reader.read()
        writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", 0)


@pytest.mark.parametrize("ending", ["close", "stall"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_what_follows_a_complete_answer_takes_nothing_from_it(ending: str, streamed: bool) -> None:
    """An upstream that closes or keeps silent after its end mark has answered: nothing fails, nothing waits."""
    server = await serve_raw(ending)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, running_hub(url) as hub:
        for _ in range(4):
            answer = await hub.post("/api/chat", BODY | {"stream": streamed})
            assert answer.frames()[-1]["done"] is True
        assert [line["outcome"] for line in hub.dispatches()] == ["ok"] * 4
        assert not [line for line in hub.lines if line["event"] == "agenthub.request_crashed"]


async def test_a_client_that_closes_with_its_answer_has_not_left() -> None:
    """Its answer is complete: logged as ok, kept in the cache, and a verdict for the breaker."""
    server = await serve_raw("stall")
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, running_hub(url) as hub:
        cold = BODY | {"stream": True, "options": {"temperature": 0}}
        async with hub.http.post(hub.url + "/api/chat", json=cold) as response:
            while b'"done":true' not in await response.content.readany():
                pass
            response.close()
        again = await hub.post("/api/chat", cold)
        assert again.headers["X-AgentHub-Cache"] == "hit"
        assert [line["outcome"] for line in hub.dispatches()] == ["ok", "cached"]


async def test_a_failure_after_the_hubs_own_retry(lane: tuple[str, str], standin: Standin) -> None:
    """Where a reused connection closes before a byte, the hub sends once more itself, and tells the SDKs not to."""
    async with running(standin) as upstream, running_hub(upstream, api_mode=lane[1]) as hub:
        await hub.get("/api/tags")
        standin.faults.extend([Fault.close(), Fault.close()])
        answer = await hub.post(PATHS[lane[0]], BODY)
        assert (answer.status, answer.headers["x-should-retry"]) == (502, "false")
        await hub.get("/api/tags")
        standin.faults.append(Fault.close())
        answer = await hub.post(PATHS[lane[0]], BODY)
        assert (answer.status, answer.headers.get("x-should-retry")) == (200, None)
