"""An upstream of the future: what the hub does not know passes in a lane of one dialect, and costs no answer across."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agenthub.canonical import RawFrames, TextDelta
from agenthub.dialects import StreamParser
from agenthub.dialects.openai.chat import CODEC
from agenthub.dialects.opening import HELD_BYTES
from agenthub.errors import UpstreamProtocol
from agenthub.settings import ModelSettings
from tests.hubs import Answered, error_of, running_hub
from tests.scripted import events, lines, scripted
from tests.upstreams import JSON, NDJSON, SSE

OPERATIONS = ("chat", "generate")
CLIENT = {
    ("ollama", "chat"): "/api/chat",
    ("ollama", "generate"): "/api/generate",
    ("openai", "chat"): "/v1/chat/completions",
    ("openai", "generate"): "/v1/completions",
}
ALIASES = {"alias": ModelSettings(target="m")}


def request(dialect: str, operation: str, *, stream: bool, **more: Any) -> tuple[str, dict[str, Any]]:
    said = {"messages": [{"role": "user", "content": "hi"}]} if operation == "chat" else {"prompt": "hi"}
    # An Ollama's raw prompt is what /v1/completions is asked for.
    raw = {"raw": True} if (dialect, operation) == ("ollama", "generate") else {}
    return CLIENT[dialect, operation], {"model": "m", "stream": stream, **said, **raw, **more}


def said_by(answer: Answered) -> str:
    """The text that a client of either dialect reads, whole or streamed."""
    text = ""
    for line in answer.text.splitlines():
        payload = line.removeprefix("data: ")
        if not payload.startswith("{"):
            continue
        frame = json.loads(payload)
        for one in frame.get("choices") or [frame]:
            said = one.get("delta") or one.get("message")
            text += (said.get("content") or "") if isinstance(said, dict) else ""
            text += one.get("response") or one.get("text") or ""
    return text


def native(operation: str, text: str = "", **more: Any) -> dict[str, Any]:
    said = {"message": {"role": "assistant", "content": text, "mood": "calm"}} if operation == "chat" else {}
    said = said or {"response": text}
    return {"model": "m", "created_at": "2030-01-01T00:00:00Z", **said, "done": False, **more}


def chunk(operation: str, text: str = "", reason: str | None = None, **more: Any) -> dict[str, Any]:
    said: dict[str, Any] = {"delta": {"content": text, "mood": "calm"}} if operation == "chat" else {"text": text}
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "model": "m",
        "choices": [{"index": 0, "finish_reason": reason, **said}],
        **more,
    }


def future_lines(operation: str) -> bytes:
    """Unknown kinds of lines before, between and behind the known ones, unknown members, an unknown reason."""
    return lines(
        {"warmup": {"layers": 3}},
        native(operation, "Hel", energy_joules=5),
        {"model": "m", "completed": 1, "total": 20, "done": False},
        {"kind": "telemetry", "values": [1, {"deep": None}]},
        {"message": "queued behind two others"},
        native(operation, "lo"),
        native(operation, done=True, done_reason="contented", energy_joules=9),
    )


def future_events(operation: str) -> bytes:
    """The same of an OpenAI-compatible server, with events of unknown names."""
    return events(
        {"object": "chat.completion.warmup", "layers": 3},
        b'event: queue\ndata: {"position": 2}\n\n',
        chunk(operation, "Hel", energy_joules=5),
        b"event: heartbeat\ndata: 12:00\n\n",
        {"object": "chat.completion.telemetry", "values": [1, {"deep": None}]},
        {"choices": [], "moderation": {"flagged": False}},
        chunk(operation, "lo"),
        chunk(operation, reason="contented"),
        "[DONE]",
    )


FUTURE = {"native": (future_lines, NDJSON), "openai": (future_events, SSE)}


def is_raw(lane: tuple[str, str]) -> bool:
    return lane in (("ollama", "native"), ("openai", "openai"))


@pytest.mark.parametrize("model", ["m", "alias"])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_stream_of_the_future(lane: tuple[str, str], operation: str, stream: bool, model: str) -> None:
    """Where the bytes pass all of them do, an alias aside; across, the text arrives and nothing is made up."""
    made, content_type = FUTURE[lane[1]]
    data = made(operation)
    async with (
        scripted(data, content_type) as upstream,
        running_hub(upstream.url, api_mode=lane[1], models=ALIASES) as hub,
    ):
        path, body = request(lane[0], operation, stream=stream, model=model)
        answer = await hub.post(path, body)
        assert answer.status == 200, answer.text
        assert said_by(answer) == "Hello"
        if stream and is_raw(lane):
            if model == "m":
                assert answer.body == data
            assert b"telemetry" in answer.body
            assert b"position" in answer.body or lane[1] == "native"
        else:
            assert b"telemetry" not in answer.body
            assert b"mood" not in answer.body
        (line,) = hub.dispatches()
        assert line["outcome"] == "ok"


WHOLE = {
    ("native", "chat"): native("chat", "Hello", done=True, done_reason="contented", energy_joules=9),
    ("native", "generate"): native("generate", "Hello", done=True, done_reason="contented", energy_joules=9),
    ("openai", "chat"): {
        "id": "c",
        "energy_joules": 9,
        "choices": [{"index": 0, "message": {"content": "Hello", "mood": "calm"}, "finish_reason": "contented"}],
    },
    ("openai", "generate"): {
        "id": "c",
        "energy_joules": 9,
        "choices": [{"index": 0, "text": "Hello", "mood": "calm", "finish_reason": "contented"}],
    },
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_whole_answer_of_the_future(lane: tuple[str, str], operation: str) -> None:
    """Unknown members and reasons pass as they are, or are left out."""
    data = lines(WHOLE[lane[1], operation]).strip()
    async with scripted(data, JSON) as upstream, running_hub(upstream.url, api_mode=lane[1]) as hub:
        path, body = request(lane[0], operation, stream=False)
        answer = await hub.post(path, body)
        assert (answer.status, said_by(answer)) == (200, "Hello")
        assert (answer.body == data) == is_raw(lane)


SHAPES: list[tuple[str, str, Any]] = [
    ("native", "/api/generate", {"model": "m", "image": "aGk=", "done": True, "done_reason": "stop"}),
    ("native", "/api/chat", {"model": "m", "scene": {"x": 1}, "done": True}),
    ("native", "/api/embed", {"model": "m", "vectors_int8": [[1, 2]]}),
    ("native", "/api/embeddings", {"model": "m", "vectors_int8": [1, 2]}),
    ("openai", "/v1/chat/completions", {"id": "c", "output": [{"kind": "scene"}]}),
    ("openai", "/v1/chat/completions", {"id": "c", "choices": [{"index": 0, "scene": {}, "finish_reason": "stop"}]}),
    ("openai", "/v1/completions", {"id": "c", "output": "Hello"}),
    ("openai", "/v1/embeddings", {"object": "list", "data": [{"index": 0, "sparse": {"7": 0.5}}]}),
    ("openai", "/v1/embeddings", {"object": "sparse", "rows": [{"7": 0.5}]}),
]


@pytest.mark.parametrize("model", ["m", "alias"])
@pytest.mark.parametrize(("mode", "path", "body"), SHAPES)
async def test_whole_objects_of_unknown_shape_pass(mode: str, path: str, body: Any, model: str) -> None:
    """In a lane of one dialect an object of any shape is the client's to understand."""
    asked = {"model": model, "stream": False, "messages": [{"role": "user", "content": "hi"}]}
    asked |= {"prompt": "hi", "input": "hi"}
    data = lines(body).strip()
    async with scripted(data, JSON) as upstream, running_hub(upstream.url, api_mode=mode, models=ALIASES) as hub:
        answer = await hub.post(path, asked)
        assert answer.status == 200, answer.text
        assert answer.json() == body | ({"model": "alias"} if model == "alias" and "model" in body else {})


PICTURE = lines(
    {"model": "m", "created_at": "2030-01-01T00:00:00Z", "completed": 1, "total": 2, "done": False},
    {"model": "m", "created_at": "2030-01-01T00:00:00Z", "completed": 2, "total": 2, "done": False},
    {"model": "m", "created_at": "2030-01-01T00:00:00Z", "image": "aGk=", "done": True, "done_reason": "stop"},
)


async def test_pictures_of_an_ollama() -> None:
    """ollama-python reads the progress and the picture; asked again it is made again, since only text is kept."""
    async with scripted(PICTURE) as upstream, running_hub(upstream.url) as hub:
        for count in (1, 2):
            parts = [part async for part in await hub.ollama.generate("m", "a cat", stream=True, options={"seed": 7})]
            assert [part.done for part in parts] == [False, False, True]
            answer = await hub.post("/api/generate", {"model": "m", "prompt": "a cat", "options": {"seed": 7}})
            assert answer.body == PICTURE
            assert len(upstream.asked) == 2 * count
    async with scripted(PICTURE.splitlines()[-1], JSON) as upstream, running_hub(upstream.url) as hub:
        body = {"model": "m", "prompt": "a cat", "stream": False, "options": {"seed": 7}}
        for _ in range(2):
            assert (await hub.post("/api/generate", body)).json()["image"] == "aGk="


async def test_progress_of_a_picture_is_not_held_back() -> None:
    """Its lines say that they are of an answer, so that they pass as they come, before the end is there."""
    first, *rest = PICTURE.splitlines(keepends=True)
    async with scripted([first, b"", *rest]) as upstream, running_hub(upstream.url) as hub:
        assert (await hub.post("/api/generate", {"model": "m", "prompt": "a cat"})).body == PICTURE


@pytest.mark.parametrize("count", [1, 6])
def test_unknown_frames_wait_for_the_first_that_is_known(count: int) -> None:
    """They pass with it, in order; beyond the bound they pass at once. An end without an answer is an error still."""
    frame = events({"object": "future", "data": "x" * (HELD_BYTES // 4)})
    parser, known = StreamParser(CODEC, raw=True), events(chunk("chat", "a"))
    before = b"".join(event.data for _ in range(count) for event in parser.feed(frame) if type(event) is RawFrames)
    assert before == (b"" if count == 1 else frame * count)
    behind = parser.feed(known)
    assert behind == (RawFrames((frame if count == 1 else b"") + known), TextDelta("a"))
    without = StreamParser(CODEC, raw=True)
    for _ in range(count):
        without.feed(frame)
    assert without.feed(events("[DONE]")) == ()
    assert isinstance(without.error, UpstreamProtocol)


FUTURE_FIELDS = {"telepathy": True, "budget": {"joules": 5}, "lanes": [1, 2]}
ENDPOINTS = {
    "/api/chat": "native",
    "/api/generate": "native",
    "/api/embed": "native",
    "/api/embeddings": "native",
    "/v1/chat/completions": "openai",
    "/v1/completions": "openai",
    "/v1/embeddings": "openai",
}
REPLIES: dict[str, Any] = {
    "/api/embed": {"embeddings": [[0.5]]},
    "/api/embeddings": {"embedding": [0.5]},
    "/v1/embeddings": {"data": [{"index": 0, "embedding": [0.5]}]},
    "/api/chat": WHOLE["native", "chat"],
    "/api/generate": WHOLE["native", "generate"],
    "/v1/chat/completions": WHOLE["openai", "chat"],
    "/v1/completions": WHOLE["openai", "generate"],
}


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("mode", ["native", "openai"])
async def test_unknown_fields_of_requests(path: str, mode: str) -> None:
    """They pass in a lane of one dialect; across they are named as dropped, and the answer comes."""
    asked = {"model": "m", "stream": False, "messages": [{"role": "user", "content": "hi"}], "raw": True}
    asked |= {"prompt": "hi", "input": "hi"} | FUTURE_FIELDS
    embeds, native_client = "embed" in path, path.startswith("/api")
    replies = {"native": "/api/embed", "openai": "/v1/embeddings"}[mode] if embeds else ""
    operation = "chat" if "chat" in path else "generate"
    reply = REPLIES[path] if ENDPOINTS[path] == mode else REPLIES.get(replies, WHOLE[mode, operation])
    async with scripted(lines(reply), JSON) as upstream, running_hub(upstream.url, api_mode=mode) as hub:
        answer = await hub.post(path, asked)
        assert answer.status == 200, answer.text
        (sent,) = upstream.asked
        if ENDPOINTS[path] == mode:
            assert sent == asked
        else:
            lost = answer.headers["X-AgentHub-Dropped"].split(",")
            # Those of Ollama's clients may be any OpenAI-compatible server's own, which gets them.
            assert all(name in lost or name in sent for name in FUTURE_FIELDS), (lost, sent, native_client)


VERBS = {
    "/api/pull": {"model": "m"},
    "/api/push": {"model": "m"},
    "/api/create": {"model": "n", "from": "m"},
}
PROGRESS = lines(
    {"stage": "negotiating", "peers": 3},
    {"status": "pulling manifest", "energy_joules": 5},
    {"status": {"phase": "verifying", "of": 3}},
    {"digest": "sha256:1", "completed": 5},
    {"message": "half-way"},
    {"status": "success", "energy_joules": 9},
)


@pytest.mark.parametrize("path", VERBS)
async def test_progress_of_the_future(path: str) -> None:
    """Lines of any kind pass, and success is the end."""
    async with scripted(PROGRESS) as upstream, running_hub(upstream.url) as hub:
        answer = await hub.post(path, VERBS[path])
        assert (answer.status, answer.body) == (200, PROGRESS)
        (line,) = hub.dispatches()
        assert line["outcome"] == "ok"


@pytest.mark.parametrize("path", VERBS)
async def test_progress_that_is_none(path: str) -> None:
    """A verb whose upstream only complains has failed, in its words; one that never said success has not succeeded."""
    async with scripted(lines({"detail": "registry is full"})) as upstream, running_hub(upstream.url) as hub:
        answer = await hub.post(path, VERBS[path])
        assert (answer.status, answer.json()) == (502, {"error": "registry is full"})
    begun = lines({"status": "pulling"}, {"digest": "x"})
    async with scripted(begun) as upstream, running_hub(upstream.url) as hub:
        answer = await hub.post(path, VERBS[path])
        assert answer.body.startswith(begun)
        assert "without success" in error_of(answer.frames()[-1])


@pytest.mark.parametrize("broken", [b"{nope\n", b"[1]\n", b"<html>\n", b'{"error":"boom"}\n', b""])
async def test_what_stays_the_hubs_business(broken: bytes) -> None:
    """Broken JSON, no object, a page, an error and a missing end mark, in a lane that passes bytes too."""
    begun = lines(native("chat", "Hel"))
    async with scripted(begun + broken) as upstream, running_hub(upstream.url) as hub:
        path, body = request("ollama", "chat", stream=True)
        answer = await hub.post(path, body)
        assert answer.body.startswith(begun)
        assert list(answer.frames()[-1]) == ["error"]


@pytest.mark.parametrize("early", [b"5", b"null", b"true", b'"queued"', b"-0.5"])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_scalar_before_the_answer(lane: tuple[str, str], early: bytes, stream: bool) -> None:
    """A number or a word before the first frame of an answer costs nothing, and passes where the bytes do."""
    data, kind = lines(native("chat", "hey"), native("chat", done=True)), NDJSON
    if lane[1] == "openai":
        data, kind = events(chunk("chat", "hey", "stop"), "[DONE]"), SSE
    data = (early + b"\n" if lane[1] == "native" else b"data: " + early + b"\n\n") + data
    async with scripted(data, kind) as upstream, running_hub(upstream.url, api_mode=lane[1]) as hub:
        path, body = request(lane[0], "chat", stream=stream)
        answer = await hub.post(path, body)
        assert (answer.status, said_by(answer)) == (200, "hey"), answer.text
        if is_raw(lane) and stream:
            assert answer.body == data


@pytest.mark.parametrize("mark", ["[done]", "[Done]", '"[done]"'])
async def test_an_end_mark_in_other_letters(lane: tuple[str, str], mark: str) -> None:
    """It is one where each choice has its reason; before that it is a frame that nobody understands."""
    if lane[1] != "openai":
        return
    for reason, is_end in (("stop", True), (None, False)):
        data = events(chunk("chat", "hey", reason), f"data: {mark}\n\n".encode())
        async with scripted(data, SSE) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
            path, body = request(lane[0], "chat", stream=True)
            answer = await hub.post(path, body)
            assert answer.status == 200
            assert ("error" in answer.text) is not is_end
            if is_raw(lane) and is_end:
                assert answer.body == data


@pytest.mark.parametrize("model", ["m", "alias"])
@pytest.mark.parametrize("reads", [1, 2, 3])
@pytest.mark.parametrize("operation", [*OPERATIONS, "pull"])
async def test_lines_behind_the_last(monkeypatch: pytest.MonkeyPatch, operation: str, reads: int, model: str) -> None:
    """Lines of a later Ollama that follow the end pass too, in the same read or in another; no broken one does."""
    monkeypatch.setattr("agenthub.upstream.answer._TAIL_S", 30)  # the machine may be busy
    end: dict[str, Any] = {"model": "m", "status": "success"} if operation == "pull" else native(operation, done=True)
    told = lines(native(operation, "hey"), end), lines({"model": "m", "energy_joules": 9}), lines({"carbon_g": 1})
    pieces = {1: [b"".join(told)], 2: [told[0], told[1] + told[2]], 3: [told[0] + told[1][:5], told[1][5:], told[2]]}
    async with (
        scripted([*pieces[reads], b"{broken"]) as upstream,
        running_hub(upstream.url, api_mode="native", models=ALIASES) as hub,
    ):
        path, body = ("/api/pull", {}) if operation == "pull" else request("ollama", operation, stream=True)
        answer = await hub.post(path, body | {"model": model})
        wanted = b"".join(told)
        if model == "alias" and operation != "pull":
            wanted = wanted.replace(b'"model": "m"', b'"model": "alias"').replace(b'"model":"m"', b'"model":"alias"')
        assert (answer.status, answer.body) == (200, wanted)
        (dispatched,) = hub.dispatches()
        assert dispatched["outcome"] == "ok"


async def test_events_behind_the_end_mark() -> None:
    """OpenAI's clients stop reading at the end mark: what follows it is left out."""
    data = events(chunk("chat", "hey", "stop"), "[DONE]")
    async with (
        scripted(data + events({"carbon_g": 1}), SSE) as upstream,
        running_hub(upstream.url, api_mode="openai") as hub,
    ):
        path, body = request("openai", "chat", stream=True)
        assert (await hub.post(path, body)).body == data
