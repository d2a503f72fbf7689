"""Silence and life: any byte shows that an upstream lives, and an answer that is complete needs no more of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import openai
import pytest

from agenthub.settings import BackendSettings, CachingSettings, HealthSettings, ModelSettings
from tests.hubs import ONCE, RunningHub, running_hub
from tests.upstreams import END, HI, NDJSON, PATHS, SSE, USAGE, chunk, line

pytestmark = pytest.mark.usefixtures("fast_clock")
GAP_S, LIMIT_S = 0.1, 1.2
"""A byte comes so often, and so long may nothing come."""
MANY = 16
"""Gaps that are longer in all than the limit."""
SHORT_S = 0.2
"""Where nothing comes at all, a short limit does."""


@attrs.frozen
class Script:
    """What an upstream writes after the head, each piece after ``gap_s``, and how it ends.

    ``end`` is "clean", "cut" (closed without the last HTTP chunk), "reset" or "hang".
    """

    pieces: Sequence[bytes]
    kind: str = SSE
    end: str = "clean"
    gap_s: float = 0.0


@asynccontextmanager
async def playing(script: Script) -> AsyncIterator[str]:
    """Answer each POST by the script and each GET by 404; yield the URL."""
    stopped = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await _serve(reader, writer, script, stopped)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        stopped.set()
        server.close()


async def _serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, script: Script, stopped: asyncio.Event
) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if head.startswith(b"GET"):
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return
    length = next(int(field[15:]) for field in head.lower().split(b"\r\n") if field.startswith(b"content-length:"))
    await reader.readexactly(length)
    fields = f"Content-Type: {script.kind}\r\nTransfer-Encoding: chunked\r\nConnection: close"
    writer.write(f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode())
    for piece in script.pieces:
        await asyncio.sleep(script.gap_s)
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
    match script.end:
        case "clean":
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        case "hang":
            await stopped.wait()
        case "reset":
            # What was written must have arrived, or the reset takes it away.
            await asyncio.sleep(0.05)
            writer.transport.abort()


@asynccontextmanager
async def hub_before(script: Script, mode: str, alias: str = "", **backend: Any) -> AsyncIterator[RunningHub]:
    """Run a hub in front of what plays the script."""
    models = {alias: ModelSettings(target="m")} if alias else {}
    async with playing(script) as url:
        settings = BackendSettings(url=url, api_mode=mode, **backend)
        quiet = HealthSettings(models_refresh_s=0, interval_s=0)
        cache = CachingSettings(policy="all")
        async with running_hub({"b": settings}, health=quiet, caching=cache, models=models, retries=ONCE) as hub:
            yield hub


def sse(*frames: Any) -> bytes:
    texts = [frame if isinstance(frame, str) else json.dumps(frame) for frame in frames]
    return b"".join([b"data: " + text.encode() + b"\n\n" for text in texts])


def ndjson(*lines: Any) -> bytes:
    return b"".join([json.dumps(each).encode() + b"\n" for each in lines])


async def ask(hub: RunningHub, dialect: str, *, streamed: bool = True, model: str = "m", **more: Any) -> Any:
    return await hub.post(PATHS[dialect], {"model": model, "messages": HI, "stream": streamed} | more)


def text_of(frames: list[Any], dialect: str) -> str:
    """Return what a stream says, in either dialect."""
    if dialect == "ollama":
        return "".join([frame["message"]["content"] for frame in frames if "message" in frame])
    chunks = [frame for frame in frames if isinstance(frame, dict) and frame.get("choices")]
    return "".join([frame["choices"][0]["delta"].get("content") or "" for frame in chunks])


# What counts as life.

OPENAI_END = [sse(chunk("stop")), sse({"choices": [], "usage": USAGE}), sse("[DONE]")]
COMMENTS = [b": PROCESSING\n\n"] * MANY
ALIVE = {
    "comments before the first event": ("openai", [*COMMENTS, sse(chunk(content="hey")), *OPENAI_END]),
    "comments between two events": ("openai", [sse(chunk(content="hey")), *COMMENTS, *OPENAI_END]),
    "events that say nothing": (
        "openai",
        [sse(chunk(role="assistant"))] + [sse(chunk())] * MANY + [sse(chunk(content="hey")), *OPENAI_END],
    ),
    "an end in pieces": (
        "openai",
        [sse(chunk(content="hey")), sse(chunk("stop")), *[b": bye\n\n"] * MANY, *OPENAI_END[1:]],
    ),
    "a frame that drips": (
        "openai",
        [
            sse(chunk(content="hey"))[:-MANY],
            *[bytes([byte]) for byte in sse(chunk(content="hey"))[-MANY:]],
            *OPENAI_END,
        ],
    ),
    "blank lines before the first": ("native", [b"\n"] * MANY + [ndjson(line(content="hey"), line(done=True))]),
    "blank lines in between": (
        "native",
        [ndjson(line(content="hey")), *[b"\n"] * MANY, ndjson(line(done=True))],
    ),
}


@pytest.mark.parametrize("life", ALIVE)
async def test_any_byte_is_life(life: str) -> None:
    """Neither time-out counts while bytes come: to clients of both dialects, under an alias too, whole as well."""
    mode, pieces = ALIVE[life]
    limits = {"first_event_timeout_s": LIMIT_S, "idle_timeout_s": LIMIT_S}
    script = Script(pieces, SSE if mode == "openai" else NDJSON, gap_s=GAP_S)
    async with hub_before(script, mode, "alias", **limits) as hub:
        ways = [(dialect, name, streamed) for dialect in PATHS for name in ("m", "alias") for streamed in (True, False)]
        no_store = {"Cache-Control": "no-store"}
        bodies = [(PATHS[way[0]], {"model": way[1], "messages": HI, "stream": way[2]}) for way in ways]
        answers = await asyncio.gather(*(hub.post(*body, **no_store) for body in bodies))
        for way, answer in zip(ways, answers, strict=True):
            assert answer.status == 200, (way, answer.text)
            if way[2]:
                text = answer.text.replace(": PROCESSING\n\n", "").replace(": bye\n\n", "")
                frames = attrs.evolve(answer, body=text.encode()).frames()
                assert text_of(frames, way[0]) == "hey", way
                assert frames[-1] == "[DONE]" if way[0] == "openai" else frames[-1]["done"], way
            else:
                assert "hey" in answer.text, way


WHOLE = {
    "native": ndjson(line(done=True, content="hey")),
    "openai": json.dumps(
        {
            "id": "c1",
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hey"}, "finish_reason": "stop"}],
            "usage": USAGE,
        }
    ).encode(),
}


@pytest.mark.parametrize("mode", ["native", "openai"])
async def test_bytes_of_a_whole_answer_are_life(mode: str) -> None:
    """The blanks by which a proxy keeps the connection open, and an answer that comes byte by byte."""
    whole = WHOLE[mode]
    for pieces in ([b"\n"] * MANY + [whole], [*[bytes([byte]) for byte in whole[:MANY]], whole[MANY:]]):
        script = Script(pieces, "application/json", gap_s=GAP_S)
        async with hub_before(script, mode, "alias", first_event_timeout_s=LIMIT_S) as hub:
            ways = [(dialect, name) for dialect in PATHS for name in ("m", "alias")]
            asked = [ask(hub, dialect, streamed=False, model=name) for dialect, name in ways]
            for (dialect, name), answer in zip(ways, await asyncio.gather(*asked), strict=True):
                assert answer.status == 200, (dialect, name, answer.text)
                assert (answer.json()["model"], "hey" in answer.text) == (name, True)


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([], SSE),
        ([b": PROCESSING\n\n"], SSE),
        ([b"data: {"], SSE),
        ([b"\n"], "application/json"),
        ([], "application/json"),
    ],
)
async def test_silence_before_the_first_event(dialect: str, pieces: list[bytes], kind: str) -> None:
    """It ends in an error with its own status, also where a comment or a blank came before: nothing was passed yet."""
    script = Script(pieces, kind, end="hang")
    async with hub_before(script, "openai", first_event_timeout_s=SHORT_S, idle_timeout_s=0) as hub:
        answer = await ask(hub, dialect)
        assert "kept silent for too long" in answer.text
        assert answer.status == 504


@pytest.mark.parametrize("dialect", PATHS)
async def test_before_the_first_event_its_own_limit_counts(dialect: str) -> None:
    """A comment does not turn the long wait for a model that loads into the short one between two events."""
    pieces = [b": PROCESSING\n\n", sse(chunk(content="hey"), chunk("stop"), "[DONE]")]
    script = Script(pieces, gap_s=0.5)
    async with hub_before(script, "openai", first_event_timeout_s=30, idle_timeout_s=0.1) as hub:
        assert "hey" in (await ask(hub, dialect)).text


# What an answer needs.

HEY = [sse(chunk(content="hey"))]
CUTS = {
    "after the reason": [*HEY, sse(chunk("stop"))],
    "after the counts": [*HEY, *OPENAI_END[:2]],
    "inside the counts": [*HEY, sse(chunk("stop")), OPENAI_END[1][:20]],
    "inside the end mark": [*HEY, *OPENAI_END[:2], b"data: [DO"],
    "before the end of the end mark": [*HEY, *OPENAI_END[:2], b"data: [DONE]"],
    "in the first letter": [*HEY, *OPENAI_END[:2], b"d"],
    "the reason without its blank line": [*HEY, sse(chunk("stop"))[:-2]],
    "a page behind the reason": [*HEY, sse(chunk("stop")), b"data: <html>\n\n"],
    "a page behind the counts": [*HEY, *OPENAI_END[:2], b"data: <html>502 Bad Gateway</html>\n\n"],
}


@pytest.mark.parametrize("end", ["clean", "cut", "reset", "hang"])
@pytest.mark.parametrize("cut", CUTS)
async def test_a_complete_answer_ends_properly(cut: str, end: str) -> None:
    """However its connection ends or falls silent: passed on, under an alias, to Ollama's clients, and it is kept."""
    script = Script(CUTS[cut], end=end)
    async with hub_before(script, "openai", "alias", idle_timeout_s=SHORT_S) as hub:
        for name in ("m", "alias"):
            answer = await ask(hub, "openai", model=name, temperature=0, stream_options={"include_usage": True})
            frames = answer.frames()
            assert (text_of(frames, "openai"), frames[-1], frames.count("[DONE]")) == ("hey", "[DONE]", 1)
            assert [frame["choices"][0]["finish_reason"] for frame in frames[:2]] == [None, "stop"]
            assert {frame["model"] for frame in frames[:2]} == {name}
            again = await ask(hub, "openai", model=name, temperature=0)
            assert again.headers["X-AgentHub-Cache"] == "hit"
            assert again.text.endswith("data: [DONE]\n\n")
        last = (await ask(hub, "ollama", options={"seed": 5})).frames()[-1]
        assert (last["done"], last["done_reason"]) == (True, "stop")
        assert {each["outcome"] for each in hub.dispatches()} == {"ok", "cached"}


@pytest.mark.parametrize("end", ["clean", "cut", "reset"])
async def test_openai_reads_an_answer_without_its_end_mark(end: str) -> None:
    """The SDK, and the older endpoint of texts."""
    script = Script([sse({"id": "c", "choices": [{"index": 0, "text": "hey", "finish_reason": "stop"}]})], end=end)
    async with hub_before(script, "openai") as hub:
        stream = await hub.openai.completions.create(model="m", prompt="hi", stream=True)
        assert "".join([part.choices[0].text async for part in stream]) == "hey"
        answer = await hub.post("/v1/completions", {"model": "m", "prompt": "hi", "stream": True})
        assert answer.frames()[-1] == "[DONE]"


TWO = [sse(chunk(content="a")), sse(chunk(index=1, content="b"))]
INCOMPLETE = {
    "no reason": ("openai", HEY),
    "no reason, and the counts": ("openai", [*HEY, sse({"choices": [], "usage": USAGE})]),
    "inside the reason": ("openai", [*HEY, sse(chunk("stop"))[:-5]]),
    "the second choice": ("openai", [*TWO, sse(chunk("stop"))]),
    "the first choice": ("openai", [*TWO, sse(chunk("stop", index=1))]),
    "inside done": ("native", [ndjson(line(content="hey")), ndjson(line(done=True))[:-9]]),
    "no done": ("native", [ndjson(line(content="hey"))]),
}


BROKEN = {
    "a page before the reason": [*HEY, b"data: <html>\n\n", sse(chunk("stop"), "[DONE]")],
    "an error behind the reason": [*HEY, sse(chunk("stop"), {"error": {"message": "died"}})],
}


@pytest.mark.parametrize("what", BROKEN)
async def test_what_takes_the_end_from_an_answer(what: str) -> None:
    """What cannot be read before all of it has come, and an error that the upstream reports whenever it does."""
    async with hub_before(Script(BROKEN[what]), "openai", "alias") as hub:
        for dialect in PATHS:
            for name in ("m", "alias"):
                answer = await ask(hub, dialect, model=name, seed=1)
                assert "error" in answer.frames()[-1], (dialect, name, answer.text)
        assert {each["outcome"] for each in hub.dispatches()} == {"failed"}


@pytest.mark.parametrize("end", ["clean", "cut", "reset", "hang"])
@pytest.mark.parametrize("cut", INCOMPLETE)
async def test_an_incomplete_answer_is_an_error(cut: str, end: str) -> None:
    """A choice that was begun and has no reason, or a cut in the frame that would end it; nothing of it is kept."""
    mode, pieces = INCOMPLETE[cut]
    script = Script(pieces, SSE if mode == "openai" else NDJSON, end=end)
    async with hub_before(script, mode, "alias", idle_timeout_s=SHORT_S) as hub:
        for dialect in PATHS:
            for name in ("m", "alias"):
                answer = await ask(hub, dialect, model=name, seed=1)
                assert "error" in answer.frames()[-1], (dialect, name, answer.text)
                assert "[DONE]" not in answer.text
        assert {each["outcome"] for each in hub.dispatches()} == {"failed"}


@pytest.mark.parametrize("end", ["clean", "cut", "reset", "hang"])
async def test_several_choices_that_are_all_complete(end: str) -> None:
    """Each has its reason, so nothing is missing but the mark."""
    script = Script([*TWO, sse(chunk("stop", index=1)), sse(chunk("length"))], end=end)
    async with hub_before(script, "openai", idle_timeout_s=SHORT_S) as hub:
        assert (await ask(hub, "openai", n=2)).frames()[-1] == "[DONE]"


@pytest.mark.parametrize("end", ["clean", "cut", "reset", "hang"])
async def test_the_last_line_of_ollama_without_its_newline(end: str) -> None:
    """It is whole, and the answer with it."""
    script = Script([ndjson(line(content="hey")), json.dumps(line() | END).encode()], NDJSON, end=end)
    async with hub_before(script, "native", "alias", idle_timeout_s=SHORT_S) as hub:
        for name in ("m", "alias"):
            frames = (await ask(hub, "ollama", model=name)).frames()
            assert [frame["done"] for frame in frames] == [False, True]
        assert (await ask(hub, "openai")).frames()[-1] == "[DONE]"


async def test_an_error_after_the_reason_is_told() -> None:
    """What the upstream itself calls a failure is none the less one, with or without the end of its line."""
    for frame in (sse({"error": {"message": "boom"}}), sse({"error": {"message": "boom"}})[:-2]):
        async with hub_before(Script([*HEY, sse(chunk("stop")), frame]), "openai") as hub:
            for dialect in PATHS:
                assert "boom" in (await ask(hub, dialect)).text


# Frames without a payload.

EMPTY = [
    *(b"data:\n\n", b"data: \n\n", b"data:   \n\n", b"data\n\n", b"data:\t\n\n", b"data:\ndata:\n\n"),
    *(b"event: ping\n\n", b"id: 7\n\n", b"retry: 10\n\n", b": hi\n\n", b":\n\n", b"\n\n", b"event: a\ndata:\n\n"),
    *(b"data:\r\n\r\n", b"data: \r\r", b": hi\r\n\r\n", b"\xef\xbb\xbfdata:\n\n", b"\xef\xbb\xbf\n\n"),
]


@pytest.mark.parametrize("empty", EMPTY, ids=repr)
async def test_frames_without_a_payload_stay_behind(empty: bytes) -> None:
    """Under an alias and across dialects: before, between and after the chunks; openai-python reads all of it."""
    frames = [*HEY, *OPENAI_END]
    script = Script([empty, *[piece for frame in frames for piece in (frame, empty)]])
    async with hub_before(script, "openai", "alias") as hub:
        asked: dict[str, Any] = {"model": "alias", "messages": HI, "stream": True}
        answer = await hub.post(PATHS["openai"], asked, Cache_Control="no-store")
        expected = b"".join(frames).replace(b'"model": "m"', b'"model": "alias"')
        assert answer.body == expected
        no_store = {"Cache-Control": "no-store"}
        stream: openai.AsyncStream[Any] = await hub.openai.chat.completions.create(**asked, extra_headers=no_store)
        assert len([part async for part in stream]) == 3
        assert text_of((await ask(hub, "ollama")).frames(), "ollama") == "hey"


@pytest.mark.parametrize("empty", EMPTY, ids=repr)
async def test_without_an_alias_all_bytes_pass(empty: bytes) -> None:
    """Up to the end mark the client has what it would have without the hub."""
    script = Script([empty, *HEY, empty, *OPENAI_END])
    async with hub_before(script, "openai") as hub:
        assert (await ask(hub, "openai")).body == b"".join(script.pieces)


@pytest.mark.parametrize("empty", [b"\n", b"\r\n", b"  \n", b"\xef\xbb\xbf\n"], ids=repr)
async def test_empty_lines_stay_behind(empty: bytes) -> None:
    """Of a native stream under an alias; without one they pass, but for a byte order mark."""
    lines = [ndjson(line(content="hey")), ndjson(line(done=True))]
    async with hub_before(
        Script([empty, lines[0], empty.removeprefix(b"\xef\xbb\xbf"), lines[1]], NDJSON), "native", "alias"
    ) as hub:
        answer = await ask(hub, "ollama", model="alias")
        assert answer.body == b"".join(lines).replace(b'"model": "m"', b'"model": "alias"')


@pytest.mark.parametrize("mode", ["native", "openai"])
async def test_blanks_around_a_payload_hide_no_name(mode: str) -> None:
    """Under an alias the model is renamed in a chunk that begins with blanks; blanks around the mark do no harm."""
    if mode == "openai":
        pieces = [frame.replace(b"data: ", b"data:   ").replace(b"\n\n", b" \n\n") for frame in [*HEY, *OPENAI_END]]
    else:
        pieces = [b"  " + ndjson(line(content="hey")), b"\t" + ndjson(line(done=True))]
    async with hub_before(Script(pieces, SSE if mode == "openai" else NDJSON), mode, "alias") as hub:
        answer = await ask(hub, "ollama" if mode == "native" else "openai", model="alias")
        assert b'"m"' not in answer.body
        assert answer.body.count(b'"alias"') == 2
