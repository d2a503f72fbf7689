"""The stand-in Ollama: its answers against recordings of the real one, real clients, and its scripted faults."""

from __future__ import annotations

import asyncio
import errno
import json
import math
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import ollama
import openai
import pytest

from agenthub.standin import Ending, Fault, Model, Standin, make_app, running
from tests.ports import free_port

RECORDINGS = Path(__file__).parent / "data" / "ollama-0.9.3"
TINY = (
    " Hello there this is a tiny model that was made on one small machine to test gateways."
    " It speaks naïve café ☕ text and stops here!"
)
PLAIN = ("completion",)
TINIES = (
    Model("tiny-think", ("completion", "thinking")),
    Model("tiny-tools", ("completion", "tools")),
    Model("tiny", PLAIN),
    Model("tiny-embed"),
    Model("tiny-loop", PLAIN),
)

# The same bytes as Ollama's, but for times, counts and ids.
SAME = """
01-root-get 03-version 12-show-missing 13-show-empty-object 14-show-malformed 15-show-empty-body 16-unload
18-generate-empty-prompt-load 20-chat-empty-messages-load 21-generate-nonstream 22-generate-stream
27-generate-bad-option-type 31-generate-format-bad 33-generate-missing-model-nonstream 34-generate-no-model
37-generate-malformed-json 38-generate-empty-body 39-generate-wrong-type 40-generate-array-body
41-generate-trailing-garbage 45-generate-raw-with-template 47-generate-suffix-unsupported
48-generate-think-unsupported 51-generate-embed-model 54-generate-length-stream 56-generate-keep-alive-bad
57-chat-nonstream 58-chat-stream 61-chat-missing-model 62-chat-no-messages 63-chat-malformed 65-chat-content-array
66-chat-tools 67-chat-tools-stream 68-chat-tools-unsupported 73-chat-embed-model 78-embed-empty-array
80-embed-bad-input 82-embed-missing-model 87-embeddings-legacy-empty 99-v1-model 101-v1-model-missing 102-v1-chat
103-v1-chat-stream 104-v1-chat-stream-usage 107-v1-chat-length-stream 108-v1-chat-stop-string
112-v1-chat-missing-model 114-v1-chat-no-model 115-v1-chat-no-messages 117-v1-chat-malformed 118-v1-chat-empty-body
119-v1-chat-wrong-type 125-v1-chat-content-null 127-v1-chat-image-url-http 128-v1-chat-tools
129-v1-chat-tools-stream 130-v1-chat-tools-unsupported 136-v1-completions 137-v1-completions-stream
138-v1-completions-stream-usage 139-v1-completions-array 140-v1-completions-empty-prompt
141-v1-completions-missing-model 143-v1-completions-suffix 148-v1-embeddings-tokens
150-v1-embeddings-empty-array 152-v1-embeddings-missing-model 155-unknown-path 159-wrong-method-get-generate
160-wrong-method-post-tags 163-head-v1-models
"""

# The same keys in the same order with the same types; the text is the stand-in's own.
ALIKE = """
05-tags 19-ps 25-generate-stop-stream 29-generate-format-json-stream 60-chat-format-json 69-chat-think
70-chat-think-stream 74-embed 86-embeddings-legacy 98-v1-models 145-v1-embeddings
"""

VOLATILE = re.compile(
    rb'"(created_at|context|(?:total|load|prompt_eval|eval)_duration|(?:prompt_)?eval_count|created|id'
    rb'|(?:prompt|completion|total)_tokens)":(?:"[^"]*"|\[[\d,]*\]|\d+)'
)
CITY = {"city": "Riga", "days": 1}
ASK: dict[str, Any] = {"model": "standin", "messages": [{"role": "user", "content": "hi"}]}
REPLY = "You said: hi. ☕ This is the stand-in, not a model."
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Riga", "Oslo"]}, "days": {"type": "integer"}},
        },
    },
}


@attrs.frozen
class Answer:
    """One answer as it came; ``chunks`` are HTTP chunks."""

    status: int
    headers: dict[str, str]
    chunks: list[bytes]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def lines(self) -> list[Any]:
        """Return the objects of NDJSON or of Server-Sent Events, ``[DONE]`` left out."""
        lines = [line.removeprefix(b"data: ") for line in self.body.splitlines() if line]
        return [json.loads(line) for line in lines if line != b"[DONE]"]


async def ask(session: aiohttp.ClientSession, url: str, body: object = None, method: str = "POST") -> Answer:
    """Send one request; ``body`` is JSON unless it is text."""
    data = body if isinstance(body, str) else json.dumps(body)
    async with session.request(method, url, data=data.encode() if body is not None else None) as response:
        chunks: list[bytes] = []
        part = b""
        async for data_part, whole in response.content.iter_chunks():
            part += data_part
            if whole:
                chunks.append(part)
                part = b""
            if response.content.at_eof():
                break  # aiohttp's reader of an empty body repeats itself for ever
        return Answer(response.status, dict(response.headers), [chunk for chunk in (*chunks, part) if chunk])


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that gives up after ten seconds."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield session


@pytest.fixture
async def url(standin: Standin) -> AsyncIterator[str]:
    """Where ``standin`` runs."""
    async with running(standin) as url:
        yield url


def recorded(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return request and response of a recording."""
    record = json.loads((RECORDINGS / f"{name}.json").read_text())
    # A recorded model calls its tool whatever is said; the stand-in has to be asked to, and told the city.
    if "get_time" in record["request"]["body"] and "Oslo" in record["response"]["body"]:
        body = record["request"]["body"].replace('"hi"', '"get_time"')
        record["request"]["body"] = body.replace('"city": {', '"city": {"default": "Oslo", ')
    return record["request"], record["response"]


async def replay(session: aiohttp.ClientSession, standin: Standin, request: dict[str, Any]) -> Answer:
    """Send a recorded request to a stand-in."""
    async with running(standin) as url:
        return await ask(session, url + request["path"], request["body"], request["method"])


def as_ollama(name: str) -> Standin:
    """Return a stand-in that has the recorded models and their words."""
    text = " one two three four" if "length" in name else TINY
    return Standin(models=TINIES, version="0.9.3", text=text, endless="length" in name)


def steady(body: bytes) -> bytes:
    """Return the body without what differs between any two runs."""
    return VOLATILE.sub(rb'"\1":0', body)


def shape(value: Any) -> Any:
    """Return keys in their order and types; of a list the first item's."""
    if isinstance(value, dict):
        return [(key, shape(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return "number" if type(value) in (int, float) else type(value).__name__


def distinct(shapes: Sequence[Any]) -> list[Any]:
    """Return the shapes of a stream without repetitions in a row."""
    return [item for index, item in enumerate(shapes) if index == 0 or shapes[index - 1] != item]


# --- Against the recordings


@pytest.mark.parametrize("name", SAME.split())
async def test_answers_with_ollamas_bytes(session: aiohttp.ClientSession, name: str) -> None:
    """Status, headers, framing and body are those of Ollama 0.9.3, but for times, counts and ids."""
    request, response = recorded(name)
    answer = await replay(session, as_ollama(name), request)
    headers = {key: value for key, value in response["headers"] if key not in ("Date", "Content-Length")}
    found = {key: value for key, value in answer.headers.items() if key not in ("Date", "Content-Length")}
    if len(response["body"]) < 2000:
        assert found == headers
    assert answer.status == response["status"]
    assert steady(answer.body).decode() == steady(response["body"].encode()).decode()


@pytest.mark.parametrize("name", ALIKE.split())
async def test_answers_in_ollamas_shape(session: aiohttp.ClientSession, name: str) -> None:
    """Keys, their order and their types are those of Ollama 0.9.3."""
    request, response = recorded(name)
    standin = as_ollama(name)
    if name == "19-ps":
        standin.loaded["tiny:latest"] = standin.clock()
    answer = await replay(session, standin, request)
    real = Answer(response["status"], dict(response["headers"]), [response["body"].encode()])
    assert answer.status == real.status
    assert answer.headers["Content-Type"] == real.headers["Content-Type"]
    assert distinct([shape(line) for line in answer.lines()]) == distinct([shape(line) for line in real.lines()])


@pytest.mark.parametrize("name", ["02-root-head", "04-version-head", "06-tags-head"])
async def test_answers_head(session: aiohttp.ClientSession, name: str) -> None:
    """HEAD has a length and no body, and the connection stays usable."""
    request, response = recorded(name)
    async with running(as_ollama(name)) as url:
        for _ in range(2):
            answer = await ask(session, url + request["path"], None, "HEAD")
            assert (answer.status, answer.body) == (200, b"")
            assert answer.headers["Content-Type"] == dict(response["headers"])["Content-Type"]
            assert int(answer.headers["Content-Length"]) > 0


@pytest.mark.parametrize("name", ["01-tags-no-models", "02-v1-models-no-models"])
async def test_lists_no_models_as_ollama(session: aiohttp.ClientSession, name: str) -> None:
    """Without a model the native list is empty and that of /v1 null."""
    request, response = recorded(name)
    answer = await replay(session, Standin(models=()), request)
    assert answer.body.decode() == response["body"]


@pytest.mark.parametrize("name", ["busy-api-generate-503", "busy-v1-chat-completions-503"])
async def test_is_busy_as_ollama(session: aiohttp.ClientSession, name: str) -> None:
    """``Fault.answer(503)`` has Ollama's words for a full queue, in either dialect."""
    request, response = recorded(name)
    standin = as_ollama(name)
    standin.script(Fault.answer(503))
    answer = await replay(session, standin, request)
    assert (answer.status, answer.body.decode()) == (503, response["body"])
    assert answer.headers["Content-Type"] == dict(response["headers"])["Content-Type"]


@pytest.mark.parametrize("name", ["02-runner-killed-generate-stream", "10-runner-killed-generate-nonstream"])
async def test_breaks_as_ollama(session: aiohttp.ClientSession, name: str) -> None:
    """A model that dies ends a native stream with an error line, and makes a whole answer a 500."""
    request, response = recorded(name)
    standin = as_ollama(name)
    standin.script(Fault.error(after=2))
    answer = await replay(session, standin, request)
    assert answer.status == response["status"]
    assert answer.body.splitlines()[-1].decode() == response["body"].splitlines()[-1]
    assert len(answer.chunks) == (3 if response["status"] == 200 else 1)


@pytest.mark.parametrize(
    "name",
    [
        "06-runner-killed-v1-chat-stream",
        "08-runner-killed-v1-completions-stream",
        "12-runner-killed-v1-chat-nonstream",
    ],
)
async def test_breaks_silently_as_ollama(session: aiohttp.ClientSession, name: str) -> None:
    """On /v1 a dying model leaves a chunk with an empty model and no ``[DONE]``; a whole answer is a 500."""
    request, response = recorded(name)
    standin = as_ollama(name)
    standin.script(Fault.error(after=2))
    answer = await replay(session, standin, request)
    last = response["body"].strip().splitlines()[-1].encode()
    assert answer.status == response["status"]
    assert steady(answer.body.strip().splitlines()[-1]) == steady(last)


# --- What 0.33 does differently, and what it says


async def test_says_what_it_was_asked(session: aiohttp.ClientSession, url: str) -> None:
    """The text is made from the last message and the system prompt, the same each time and in each dialect."""
    system = {"role": "system", "content": "be brief"}
    body = ASK | {"messages": [system, *ASK["messages"]], "stream": False}
    native = [(await ask(session, f"{url}/api/chat", body)).lines()[0] for _ in range(2)]
    v1 = (await ask(session, f"{url}/v1/chat/completions", body)).lines()[0]
    generated = {"model": "standin", "prompt": "hi", "system": "be brief", "stream": False}
    generate = (await ask(session, f"{url}/api/generate", generated)).lines()[0]
    texts = [*(answer["message"]["content"] for answer in native), v1["choices"][0]["message"]["content"]]
    assert [*texts, generate["response"]] == [f"[system: be brief] {REPLY}"] * 4
    assert v1["usage"]["completion_tokens"] == native[0]["eval_count"] == generate["eval_count"] == 24


async def test_streams_one_token_an_http_chunk(session: aiohttp.ClientSession, url: str) -> None:
    """Each token is an HTTP chunk of its own, and ``eval_count`` counts them."""
    answer = await ask(session, f"{url}/api/chat", ASK)
    last = answer.lines()[-1]
    assert "".join(line["message"]["content"] for line in answer.lines()) == REPLY
    assert len(answer.chunks) == last["eval_count"] + 1 == len(answer.lines())
    assert list(last)[:5] == ["model", "created_at", "message", "done", "done_reason"]
    assert min(value for key, value in last.items() if key.endswith("_duration")) > 0


async def test_streams_v1_as_033(session: aiohttp.ClientSession, url: str) -> None:
    """The first delta alone has the role, the finish chunk's is empty, usage comes last, then ``[DONE]``."""
    body = ASK | {"stream": True, "stream_options": {"include_usage": True}}
    answer = await ask(session, f"{url}/v1/chat/completions", body)
    first, *middle, finish, usage = answer.lines()
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "You"}
    assert {tuple(line["choices"][0]["delta"]) for line in middle} == {("content",)}
    assert finish["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], len(middle) + 1)
    assert answer.chunks[-1] == b"data: [DONE]\n\n"


async def test_errors_of_033(session: aiohttp.ClientSession, url: str) -> None:
    """Ollama 0.33 names the kind of a /v1 error, and says of a missing chat model only that it is not found."""
    answer = await ask(session, f"{url}/v1/chat/completions", ASK | {"model": "nope"})
    error = {"message": "model 'nope' not found", "type": "not_found_error", "param": None, "code": None}
    assert (answer.status, answer.lines()) == (404, [{"error": error}])


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/api/chat", '{"model": x}', 400, "invalid character 'x' looking for beginning of value"),
        ("/api/chat", '{"model" "x"}', 400, "invalid character '\"' after object key"),
        ("/api/chat", '{"model":"standin', 400, "unexpected EOF"),
        ("/api/chat", {"messages": []}, 400, "model is required"),
        ("/api/chat", ASK | {"think": "much"}, 400, 'invalid think value: "much" (must be "high", "medium",'),
        ("/api/chat", ASK | {"keep_alive": "-1"}, 400, 'time: missing unit in duration "-1"'),
        ("/api/chat", ASK | {"keep_alive": "1.m2"}, 400, 'time: invalid duration "1.m2"'),
        ("/api/chat", ASK | {"keep_alive": True}, 400, "Unsupported type: 'bool'"),
        ("/api/chat", ASK | {"options": {"top_p": "x"}}, 500, 'option "top_p" must be of type float32'),
        ("/api/chat", ASK | {"options": {"stop": "x"}}, 500, 'option "stop" must be of type array'),
        ("/api/embed", {"model": "standin", "input": "x " * 2049, "truncate": False}, 400, "the input length exceeds"),
        ("/api/embeddings", {"prompt": "x"}, 400, "model is required"),
        ("/v1/embeddings", {"model": "standin", "input": "x", "encoding_format": "hex"}, 400, "Invalid value for"),
        ("/v1/chat/completions", ASK | {"max_tokens": 1.5}, 400, "json: cannot unmarshal number 1.5 into Go struct"),
        ("/v1/chat/completions", ASK | {"messages": [{"role": "user", "content": 1}]}, 400, "invalid message format"),
        ("/v1/chat/completions", ASK | {"messages": [{"content": [{"type": "file"}]}]}, 400, "invalid message format"),
        (
            "/v1/chat/completions",
            ASK | {"messages": [{"tool_calls": [{"function": {"name": "f", "arguments": ""}}]}]},
            400,
            "invalid tool call arguments",
        ),
    ],
)
async def test_refuses_as_033(
    session: aiohttp.ClientSession, url: str, path: str, body: object, status: int, message: str
) -> None:
    """A wrong request gets Ollama's status and words in the dialect's shape."""
    answer = await ask(session, url + path, body)
    error = answer.lines()[0]["error"]
    assert answer.status == status
    assert (error["message"] if path.startswith("/v1/") else error).startswith(message)


@pytest.mark.parametrize(
    "body",
    [
        '{"Model":"standin","MESSAGES":[{"role":"user","content":"hi"}],"stream":null,"options":{"seed":null}}',
        '{"model":"standin","messages":[{"role":"user","content":"hi"}],"bogus":1,"keep_alive":"5m"} and more',
    ],
)
async def test_reads_json_as_go_does(session: aiohttp.ClientSession, url: str, body: str) -> None:
    """Keys match in any case, null is absent, and what follows the first JSON value does not matter."""
    answer = await ask(session, f"{url}/api/chat", body)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/x-ndjson")


async def test_reads_v1_content_parts(session: aiohttp.ClientSession, url: str) -> None:
    """Each part of a content list is a message of its own, as in Ollama, so the last part is what was said."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    parts = [image, {"type": "text", "text": "hi"}]
    earlier = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    body = ASK | {"messages": [earlier, {"role": "user", "content": parts}]}
    answer = (await ask(session, f"{url}/v1/chat/completions", body)).lines()[0]
    assert answer["choices"][0]["message"]["content"] == REPLY


@pytest.mark.parametrize("name", ["standin", "STANDIN", "StandIn:latest"])
async def test_finds_a_model_by_any_spelling(session: aiohttp.ClientSession, url: str, name: str) -> None:
    """Case and ``:latest`` do not matter, and the answer repeats the client's spelling."""
    answer = await ask(session, f"{url}/api/chat", ASK | {"model": name, "stream": False})
    assert answer.lines()[0]["model"] == name


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/api/chat", {"options": {"num_predict": 3}}),
        ("/v1/chat/completions", {"max_tokens": 3}),
        ("/v1/chat/completions", {"max_completion_tokens": 3}),
    ],
)
async def test_stops_at_the_limit(session: aiohttp.ClientSession, url: str, path: str, limit: dict[str, Any]) -> None:
    """Three tokens are three tokens, and the reason is "length"."""
    answer = await ask(session, url + path, ASK | {"stream": False} | limit)
    text = answer.body.decode()
    assert "You said:" in text
    assert "hi" not in text
    assert '"length"' in text


async def test_stops_at_a_stop_word(session: aiohttp.ClientSession, url: str) -> None:
    """The text ends before the earliest stop word, with reason "stop"."""
    body = ASK | {"stop": ["stand", "This"]}
    answer = (await ask(session, f"{url}/v1/chat/completions", body)).lines()[0]
    choice = answer["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("You said: hi. ☕ ", "stop")


async def test_answers_in_the_format(session: aiohttp.ClientSession, url: str) -> None:
    """Asked for JSON it says an object; asked for a schema, one that fits it."""
    loose = (await ask(session, f"{url}/api/chat", ASK | {"stream": False, "format": "json"})).lines()[0]
    schema = WEATHER["function"]["parameters"]  # type: ignore[index]
    response_format = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    tight = (await ask(session, f"{url}/v1/chat/completions", ASK | {"response_format": response_format})).lines()[0]
    assert json.loads(loose["message"]["content"]) == {"reply": REPLY}
    assert json.loads(tight["choices"][0]["message"]["content"]) == CITY


async def test_calls_a_tool_that_is_named(session: aiohttp.ClientSession, url: str) -> None:
    """Only a user message that names a tool calls it; the tool's answer is then repeated."""
    user = {"role": "user", "content": "please get_weather"}
    body = ASK | {"messages": [user], "tools": [WEATHER], "stream": False}
    called = (await ask(session, f"{url}/api/chat", body)).lines()[0]
    call = called["message"]["tool_calls"][0]
    assert call["function"] == {"index": 0, "name": "get_weather", "arguments": CITY}
    assert re.fullmatch("call_[a-z0-9]{8}", call["id"])
    body["messages"] = [user, called["message"], {"role": "tool", "content": "rain", "tool_name": "get_weather"}]
    told = (await ask(session, f"{url}/api/chat", body)).lines()[0]
    assert told["message"]["content"].startswith("The tool said: rain.")
    uncalled = (await ask(session, f"{url}/api/chat", ASK | {"tools": [WEATHER], "stream": False})).lines()[0]
    assert "tool_calls" not in uncalled["message"]


@pytest.mark.parametrize(
    ("path", "think", "key"),
    [("/api/chat", {"think": True}, "thinking"), ("/v1/chat/completions", {"reasoning_effort": "low"}, "reasoning")],
)
async def test_thinks_first(
    session: aiohttp.ClientSession, url: str, path: str, think: dict[str, Any], key: str
) -> None:
    """Asked to think, it streams its thoughts before its text, under the dialect's own key."""
    answer = await ask(session, url + path, ASK | {"stream": True} | think)
    parts = [line.get("message") or line["choices"][0]["delta"] for line in answer.lines()]
    assert "".join(part.get(key, "") for part in parts) == "Let me think about that."
    assert [key in part for part in parts[:8]] == [True] * 6 + [False] * 2
    assert "".join(part.get("content", "") for part in parts) == REPLY


async def test_repeats_a_fixed_text_in_exact_chunks(session: aiohttp.ClientSession) -> None:
    """``text="word " * 200`` is 200 tokens, each a chunk; ``burst`` puts many into one chunk."""
    standin = Standin(text="word " * 200)
    async with running(standin) as url:
        fine = await ask(session, f"{url}/api/chat", ASK)
        standin.burst = 50
        coarse = await ask(session, f"{url}/api/chat", ASK)
    for answer, chunks in ((fine, 201), (coarse, 5)):
        assert (len(answer.lines()), len(answer.chunks)) == (201, chunks)
        assert "".join(line["message"]["content"] for line in answer.lines()) == "word " * 200


async def test_keeps_its_pace(session: aiohttp.ClientSession, standin: Standin, url: str) -> None:
    """``pace_s`` lies between two tokens, and a whole answer takes as long as all of its tokens."""
    standin.pace_s = 0.02
    standin.text = "one two three four five"
    for stream in (True, False):
        began = time.monotonic()
        await ask(session, f"{url}/api/chat", ASK | {"stream": stream})
        assert time.monotonic() - began > 0.08


async def test_loads_and_unloads(session: aiohttp.ClientSession, url: str) -> None:
    """An empty prompt loads the model, which ``ps`` then lists; ``keep_alive`` 0 unloads it."""
    seen = []
    for keep_alive in (300, "0s", ".5h", ".0μs"):
        body = {"model": "standin", "keep_alive": keep_alive}
        reason = (await ask(session, f"{url}/api/generate", body)).lines()[0]["done_reason"]
        rows = (await ask(session, f"{url}/api/ps", None, "GET")).lines()[0]["models"]
        seen.append((reason, [row["name"] for row in rows]))
    assert seen == [("load", ["standin:latest"]), ("unload", [])] * 2


async def test_embeds_to_unit_vectors(session: aiohttp.ClientSession, url: str) -> None:
    """A text is always the same 8 numbers of length 1, in both dialects; ``dimensions`` cuts and re-normalises."""
    body = {"model": "standin-embed", "input": ["hi", "ho"]}
    native = (await ask(session, f"{url}/api/embed", body)).lines()[0]["embeddings"]
    v1 = (await ask(session, f"{url}/v1/embeddings", body)).lines()[0]["data"]
    short = (await ask(session, f"{url}/api/embed", body | {"dimensions": 3})).lines()[0]["embeddings"]
    assert native == [row["embedding"] for row in v1]
    assert native[0] != native[1]
    assert [len(row) for row in (*native, *short)] == [8, 8, 3, 3]
    assert all(math.hypot(*row) == pytest.approx(1) for row in (*native, *short))


# --- Real clients


async def test_serves_the_ollama_package(url: str) -> None:
    """The ``ollama`` package lists, shows, chats, streams, generates, embeds, and raises for a missing model."""
    client = ollama.AsyncClient(host=url)
    assert [model.model for model in (await client.list()).models] == ["standin:latest", "standin-embed:latest"]
    assert (await client.show("standin")).capabilities == ["completion", "tools", "thinking"]
    assert (await client.chat("standin", ASK["messages"])).message.content == REPLY
    parts = [part async for part in await client.chat("standin", ASK["messages"], stream=True)]
    assert "".join(part.message.content or "" for part in parts) == REPLY
    assert (await client.generate("standin", "hi")).response == REPLY
    assert len((await client.embed("standin-embed", ["hi", "ho"])).embeddings) == 2
    assert len((await client.embeddings("standin-embed", "hi")).embedding) == 8
    assert [model.model for model in (await client.ps()).models] == ["standin-embed:latest", "standin:latest"]
    with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as caught:
        await client.chat("nope", ASK["messages"])
    assert caught.value.status_code == 404
    await client.close()  # type: ignore[no-untyped-call]


async def test_serves_the_openai_package(url: str) -> None:
    """The ``openai`` package lists, chats, streams, completes, embeds, and raises for a missing model."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        assert [model.id async for model in client.models.list()] == ["standin:latest", "standin-embed:latest"]
        assert (await client.models.retrieve("standin")).id == "standin"
        whole = await client.chat.completions.create(**ASK)
        assert whole.choices[0].message.content == REPLY
        stream = await client.chat.completions.create(**ASK, stream=True)
        assert "".join([part.choices[0].delta.content or "" async for part in stream]) == REPLY
        completed = await client.completions.create(model="standin", prompt="hi")
        assert completed.choices[0].text == REPLY
        embedded = await client.embeddings.create(model="standin-embed", input="hi")
        assert math.hypot(*embedded.data[0].embedding) == pytest.approx(1)
        with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
            await client.chat.completions.create(**ASK | {"model": "nope"})


async def test_calls_tools_for_the_openai_package(url: str) -> None:
    """A tool call comes as JSON text with finish_reason "tool_calls", whole and streamed."""
    body = ASK | {"messages": [{"role": "user", "content": "get_weather!"}], "tools": [WEATHER]}
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        choice = (await client.chat.completions.create(**body)).choices[0]
        async with client.chat.completions.stream(**body) as stream:
            streamed = (await stream.get_final_completion()).choices[0]
    for found in (choice, streamed):
        assert found.finish_reason == "tool_calls"
        calls = [call.function for call in found.message.tool_calls or () if call.type == "function"]
        assert [(call.name, json.loads(call.arguments)) for call in calls] == [("get_weather", CITY)]


# --- Faults


async def test_scripted_answer(session: aiohttp.ClientSession, standin: Standin, url: str) -> None:
    """Faults befall one inference request each, in their order; status, headers and bytes are as scripted."""
    standin.script(
        Fault.answer(429, "slow down", headers={"Retry-After": "7"}),
        Fault.answer(502, body=b"<html>", headers={"content-type": "text/html"}),
    )
    assert (await ask(session, f"{url}/api/tags", None, "GET")).status == 200
    limited = await ask(session, f"{url}/v1/chat/completions", ASK)
    broken = await ask(session, f"{url}/api/chat", ASK)
    error = {"message": "slow down", "type": "api_error", "param": None, "code": None}
    assert (limited.status, limited.lines(), limited.headers["Retry-After"]) == (429, [{"error": error}], "7")
    assert (broken.status, broken.body, broken.headers["Content-Type"]) == (502, b"<html>", "text/html")
    assert (await ask(session, f"{url}/api/chat", ASK)).status == 200


async def test_fault_at_a_path(session: aiohttp.ClientSession, standin: Standin, url: str) -> None:
    """``at`` aims a fault at the next request to one path and lets others pass."""
    standin.script(Fault.answer(500).at("/api/tags"))
    assert (await ask(session, f"{url}/api/chat", ASK)).status == 200
    assert [(await ask(session, f"{url}/api/tags", None, "GET")).status for _ in range(2)] == [500, 200]


async def test_delay(session: aiohttp.ClientSession, standin: Standin, url: str) -> None:
    """A delayed answer is complete, only later."""
    standin.script(Fault.delay(0.2))
    began = time.monotonic()
    assert len((await ask(session, f"{url}/api/chat", ASK)).chunks) == 19
    assert time.monotonic() - began > 0.2


@pytest.mark.parametrize("fault", [Fault.reset(), Fault.close()])
@pytest.mark.parametrize("stream", [True, False])
async def test_cut_before_any_byte(
    session: aiohttp.ClientSession, standin: Standin, url: str, fault: Fault, stream: bool
) -> None:
    """The connection ends without an answer: RST or FIN."""
    standin.script(fault)
    error = aiohttp.ClientOSError if fault.ending is Ending.RESET else aiohttp.ServerDisconnectedError
    with pytest.raises(error) as caught:
        await ask(session, f"{url}/api/chat", ASK | {"stream": stream})
    assert (getattr(caught.value, "errno", None) == errno.ECONNRESET) == (fault.ending is Ending.RESET)
    assert standin.abandoned.count == 0


@pytest.mark.parametrize("fault", [Fault.reset(3), Fault.close(3)])
async def test_cut_in_mid_stream(session: aiohttp.ClientSession, standin: Standin, url: str, fault: Fault) -> None:
    """Three chunks arrive, then the connection ends inside the HTTP message."""
    standin.script(fault)
    async with session.post(f"{url}/api/chat", json=ASK) as response:
        lines = [await response.content.readline() for _ in range(3)]
        with pytest.raises(aiohttp.ClientError):
            await response.content.readline()
    assert [json.loads(line)["message"]["content"] for line in lines] == ["You", " said", ":"]
    assert standin.open_streams == 0


@pytest.mark.parametrize("fault", [Fault.reset(1), Fault.close(1)])
async def test_cut_in_a_whole_answer(session: aiohttp.ClientSession, standin: Standin, url: str, fault: Fault) -> None:
    """A whole answer breaks off before its Content-Length is reached."""
    standin.script(fault)
    with pytest.raises(aiohttp.ClientError):
        await ask(session, f"{url}/v1/chat/completions", ASK)


async def test_error_before_the_first_chunk(session: aiohttp.ClientSession, standin: Standin, url: str) -> None:
    """``error(after=0)`` is a 500 with the message, though a stream was asked for."""
    standin.script(Fault.error("boom", after=0))
    answer = await ask(session, f"{url}/api/chat", ASK)
    assert (answer.status, answer.lines()) == (500, [{"error": "boom"}])


async def test_truncate(session: aiohttp.ClientSession, standin: Standin, url: str) -> None:
    """The HTTP message is complete, but the end mark is missing: all tokens by default, else as many as said."""
    standin.script(Fault.truncate(), Fault.truncate(2), Fault.truncate(), Fault.truncate())
    native = await ask(session, f"{url}/api/chat", ASK)
    assert (len(native.lines()), native.lines()[-1]["done"]) == (18, False)
    assert len((await ask(session, f"{url}/api/chat", ASK)).lines()) == 2
    v1 = await ask(session, f"{url}/v1/chat/completions", ASK | {"stream": True})
    assert (len(v1.lines()), v1.lines()[-1]["choices"][0]["finish_reason"]) == (18, None)
    with pytest.raises(json.JSONDecodeError):
        (await ask(session, f"{url}/v1/chat/completions", ASK)).lines()


@pytest.mark.parametrize("stream", [True, False])
async def test_garbage(session: aiohttp.ClientSession, standin: Standin, url: str, stream: bool) -> None:
    """The scripted bytes stand where JSON should be, under status 200 and the usual type."""
    standin.script(Fault.garbage(b"what?\n"))
    answer = await ask(session, f"{url}/api/chat", ASK | {"stream": stream})
    assert (answer.status, answer.body, "json" in answer.headers["Content-Type"]) == (200, b"what?\n", True)


@pytest.mark.parametrize("fault", [Fault.hang(), Fault.stall(), Fault.stall(0)])
@pytest.mark.parametrize("stream", [True, False])
async def test_silence(session: aiohttp.ClientSession, standin: Standin, url: str, fault: Fault, stream: bool) -> None:
    """Hang and stall keep the connection open without a byte more, and notice a client that leaves."""
    standin.script(fault)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await ask(session, f"{url}/api/chat", ASK | {"stream": stream})
    await standin.abandoned.reach(1, timeout_s=1)
    assert (standin.open_streams, standin.in_flight) == (0, 0)


async def test_silence_is_bounded(session: aiohttp.ClientSession, standin: Standin, url: str) -> None:
    """After ``limit_s`` the connection is closed."""
    standin.script(Fault.hang(0.05), Fault.stall(limit_s=0.05))
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await ask(session, f"{url}/api/chat", ASK)
    with pytest.raises(aiohttp.ClientPayloadError):
        await ask(session, f"{url}/api/chat", ASK)
    assert standin.abandoned.count == 0


async def test_wrong_kind_of_answer(session: aiohttp.ClientSession, standin: Standin, url: str) -> None:
    """``whole`` answers a stream request with one object, ``stream`` a whole one with a stream."""
    standin.script(Fault.whole(), Fault.stream(), Fault.stream())
    types = [
        (await ask(session, url + path, ASK | {"stream": stream})).headers["Content-Type"]
        for path, stream in (("/api/chat", True), ("/api/chat", False), ("/v1/chat/completions", False))
    ]
    assert types == ["application/json; charset=utf-8", "application/x-ndjson", "text/event-stream"]


async def test_down(session: aiohttp.ClientSession, standin: Standin, url: str) -> None:
    """While ``down``, everything is a 503; after that nothing is."""
    paths = ("/", "/api/tags", "/v1/models", "/nope")
    standin.down = True
    assert {(await ask(session, url + path, None, "GET")).status for path in paths} == {503}
    standin.down = False
    assert [(await ask(session, url + path, None, "GET")).status for path in paths] == [200, 200, 200, 404]


# --- What a test can see


async def test_remembers_requests(session: aiohttp.ClientSession) -> None:
    """The last requests are kept with method, path, headers and bytes, the oldest forgotten first."""
    standin = Standin(remember=2)
    async with running(standin) as url:
        for number in range(3):
            await ask(session, f"{url}/api/chat?n={number}", ASK)
    first, last = standin.requests
    assert (first.method, first.path, last.path) == ("POST", "/api/chat?n=1", "/api/chat?n=2")
    assert (last.headers["USER-AGENT"], last.json()) == (last.headers["user-agent"], ASK)
    assert (json.loads(last.body), standin.received.count) == (ASK, 3)


@pytest.mark.parametrize("pace_s", [0.0, 0.01])
async def test_sees_a_client_leave(session: aiohttp.ClientSession, pace_s: float) -> None:
    """An endless stream counts as open until its client is gone, which is seen within a second at any pace."""
    standin = Standin(endless=True, pace_s=pace_s)
    async with running(standin) as url:
        async with session.post(f"{url}/api/chat", json=ASK) as response:
            for _ in range(30):
                await response.content.readline()
            assert (standin.open_streams, standin.abandoned.count) == (1, 0)
            response.close()
        await standin.abandoned.reach(1, timeout_s=1)
    assert (standin.open_streams, standin.in_flight) == (0, 0)


async def test_sees_a_client_leave_in_any_runner(session: aiohttp.ClientSession) -> None:
    """Without aiohttp's ``handler_cancellation`` a client that leaves is seen too."""
    standin = Standin()
    standin.script(Fault.hang())
    runner = aiohttp.web.AppRunner(make_app(standin), handler_cancellation=False)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await ask(session, f"http://127.0.0.1:{runner.addresses[0][1]}/api/chat", ASK)
    await standin.abandoned.reach(1, timeout_s=1)
    await runner.cleanup()


async def test_waiting_for_a_count_is_bounded(standin: Standin) -> None:
    """``reach`` raises TimeoutError when the count is not reached in time."""
    with pytest.raises(TimeoutError):
        await standin.abandoned.reach(1, timeout_s=0.01)


async def test_endless_whole_answer_ends(session: aiohttp.ClientSession) -> None:
    """A whole answer of an endless text is the context length."""
    async with running(Standin(endless=True, text="la ")) as url:
        answer = (await ask(session, f"{url}/api/chat", ASK | {"stream": False})).lines()[0]
    assert (answer["eval_count"], answer["message"]["content"][:6]) == (2048, "la la ")


@pytest.mark.parametrize("fault", [None, Fault.hang(), Fault.stall()])
async def test_stops_at_once_and_starts_again(session: aiohttp.ClientSession, fault: Fault | None) -> None:
    """Stopping ends streams and waits at once; the same port serves again, and nobody abandoned anything."""
    standin = Standin(endless=True)
    if fault:
        standin.script(fault)
    async with running(standin, port=free_port()) as url:
        task = asyncio.create_task(ask(session, f"{url}/api/chat", ASK))
        await standin.received.reach(1)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    with pytest.raises(aiohttp.ClientError):
        await task
    with pytest.raises(aiohttp.ClientConnectorError):
        await ask(session, f"{url}/", None, "GET")
    async with running(standin, port=int(url.rpartition(":")[2])) as again:
        assert again == url
        assert (await ask(session, f"{url}/", None, "GET")).status == 200
    assert standin.abandoned.count == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_runs_from_the_command_line(session: aiohttp.ClientSession, number: signal.Signals) -> None:
    """``python -m agenthub.standin`` says its URL, serves, and ends with status 0 on either signal."""
    options = ("--port", "0", "--model", "mine", "--text", "hello", "--pace", "0")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agenthub.standin", *options, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    url = line.split()[3]
    answer = (await ask(session, f"{url}/api/chat", ASK | {"model": "mine", "stream": False})).lines()[0]
    process.send_signal(number)
    assert (answer["message"]["content"], await process.wait()) == ("hello", 0)
