"""What HTTP clients meet: unknown paths, bad bodies, limits, ids, health."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
from typing import Any
from urllib.parse import unquote

import pytest
import structlog

from agenthub.log import configure_logging
from agenthub.settings import BackendSettings, ClientSettings, LogSettings
from agenthub.standin import Standin, running
from tests.hubs import RunningHub, running_hub

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
NATIVE = {"model": "standin", "messages": MESSAGES, "stream": False}


@pytest.fixture
def hub_settings() -> dict[str, Any]:
    return {"max_body_bytes": 100_000}


async def test_liveness(hub: RunningHub) -> None:
    """GET and HEAD / say what Ollama says; HEAD has no body and leaves the connection usable."""
    assert (await hub.get("/")).text == "Ollama is running"
    for path in ("/", "/api/version", "/api/tags", "/health"):
        answer = await hub.get(path, method="HEAD")
        assert (answer.status, answer.body) == (200, b"")
    assert (await hub.get("/health")).json() == {"status": "ok"}


async def test_ready_says_which_backend_answers(hub: RunningHub, standin: Standin) -> None:
    """200 while one answers, 503 and the reason when none does."""
    ready = await hub.get("/ready")
    assert (ready.status, ready.json()) == (200, {"status": "ready", "backends": {"ollama": "ok"}})
    standin.down = True
    gone = await hub.get("/ready")
    assert gone.status == 503
    assert gone.json()["backends"]["ollama"] != "ok"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/api/nope", 404),
        ("POST", "/v1/nope", 404),
        ("GET", "/api/%0Anope", 404),
        ("POST", "/v1/nope%0A", 404),
        ("PUT", "/api/chat", 405),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/", 405),
    ],
)
async def test_unknown_paths_and_methods(hub: RunningHub, method: str, path: str, status: int) -> None:
    """The dialect's own error shape, and Allow with a 405."""
    answer = await hub.get(path, method=method)
    assert answer.status == status
    error = answer.json()["error"]
    if path.startswith("/v1"):
        assert list(error) == ["message", "type", "param", "code"]
        assert error["type"] == "invalid_request_error"
        assert error["code"] is None
        error = error["message"]
    words = "404 page not found" if status == 404 else "405 method not allowed"
    assert error.startswith(f"{words}: {method} {unquote(path)}")
    assert ("Allow" in answer.headers) is (status == 405)
    (line,) = [line for line in hub.lines if line["event"] == "agenthub.request_rejected"]
    assert (line["asked"], line["status"]) == (f"{method} {unquote(path)}", status)


@pytest.mark.parametrize("path", ["/" + "x" * 5000, "/v1/" + "y" * 5000])
async def test_a_long_unknown_path_is_cut(hub: RunningHub, path: str) -> None:
    """Neither the answer nor the log line repeats more than the beginning of it."""
    answer = await hub.get(path)
    (line,) = [line for line in hub.lines if line["event"] == "agenthub.request_rejected"]
    assert (answer.status, len(answer.body) < 400, len(line["asked"]) < 200) == (404, True, True)


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/messages", "Anthropic's Messages API"),
        ("/v1/messages/count_tokens", "Anthropic's Messages API"),
        ("/v1/responses", "OpenAI's Responses API"),
        ("/v1/responses/resp_1/cancel", "OpenAI's Responses API"),
    ],
)
async def test_apis_that_are_not_served(hub: RunningHub, path: str, api: str) -> None:
    """The clients of an API that the hub lacks are told so, in that API's own shape of errors."""
    answer = await hub.get(path, method="POST")
    error = answer.json()["error"]
    assert (answer.status, f"(AgentHub does not serve {api} yet)" in error["message"]) == (404, True)
    if "messages" in path:
        assert answer.json()["type"] == "error"
        assert error["type"] == "not_found_error"
        assert answer.json()["request_id"] == answer.headers["request-id"] == answer.headers["X-Request-Id"]
    else:
        assert error == {"message": error["message"], "type": "invalid_request_error", "param": None, "code": None}


async def test_only_whole_segments_are_an_api(hub: RunningHub) -> None:
    """A path that only begins like one of Anthropic's is an unknown path of the OpenAI API."""
    assert list((await hub.get("/v1/messages_of_mine")).json()) == ["error"]


SLASHED = [
    ("GET", "/api/tags/"),
    ("GET", "/api/version/"),
    ("GET", "/api/ps/"),
    ("GET", "/v1/models/"),
    ("GET", "/v1/models/standin/"),
    ("GET", "/health/"),
    ("GET", "/openapi.json/"),
    ("POST", "/api/chat/"),
    ("POST", "/v1/chat/completions/"),
    ("POST", "/hub/explain/"),
    ("DELETE", "/api/delete/"),
]


@pytest.mark.parametrize(("method", "path"), SLASHED)
async def test_a_slash_at_the_end(hub: RunningHub, method: str, path: str) -> None:
    """A path with a slash at its end answers as the one without does."""
    described = json.dumps({"method": "POST", "path": "/api/chat", "body": NATIVE})
    body = described if "explain" in path else json.dumps(NATIVE if "chat" in path else {"model": "standin"})
    data = body.encode() if method != "GET" else b""
    async with hub.http.request(method, hub.url + path, data=data) as slashed:
        assert slashed.status == 200
    if method == "GET":
        assert (await hub.get(path)).body == (await hub.get(path.rstrip("/"))).body


async def test_a_slash_behind_a_model(hub: RunningHub) -> None:
    """Also where it belongs to nothing that is there: the 404 is that of the model."""
    assert (await hub.get("/v1/models/nothing/")).json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("method", "path", "status", "location"),
    [
        ("GET", "//api/tags", 301, "/api/tags"),
        ("HEAD", "/api///tags", 301, "/api/tags"),
        ("POST", "//api/chat", 307, "/api/chat"),
        ("POST", "/v1//chat/completions", 307, "/v1/chat/completions"),
        ("GET", "//v1/models//a%20b%2Fc", 301, "/v1/models/a%20b/c"),
        ("GET", "//example.org/api/tags", 404, None),
        ("GET", "//api/nope", 404, None),
    ],
)
async def test_too_many_slashes(hub: RunningHub, method: str, path: str, status: int, location: str | None) -> None:
    """As Ollama does, the hub sends the client to the path with single slashes, and never to another host."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(hub.url.rpartition(":")[2]))
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    writer.write(head.encode())
    answer = (await reader.read()).decode()
    writer.close()
    told = [line.partition(": ")[2] for line in answer.splitlines() if line.startswith("Location")]
    assert (answer.split()[1], told) == (str(status), [location] if location else [])


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/v1/chat/completions", "/api/pull", "/hub/enhance"])
async def test_a_stream_to_an_old_client_ends(hub: RunningHub, path: str) -> None:
    """HTTP/1.0 has no chunks: a stream ends with its connection, though the client wants to keep that."""
    body = json.dumps({"model": "standin", "messages": MESSAGES, "prompt": "hi", "stream": True}).encode()
    head, data = await _ask_by_http_1_0(hub, b"POST", path, body)
    assert head.startswith("HTTP/1.0 200") or head.startswith("HTTP/1.1 200")
    assert "keep-alive" not in head
    assert data.rstrip().endswith(b"[DONE]" if path.startswith("/v1") else b"}")


@pytest.mark.parametrize("path", ["/api/tags", "/api/chat", "/api/nope"])
async def test_a_whole_answer_keeps_the_connection_of_an_old_client(hub: RunningHub, path: str) -> None:
    """One with a length needs no end of the connection, errors included."""
    body = json.dumps(NATIVE).encode() if path == "/api/chat" else b""
    head = (await _ask_by_http_1_0(hub, b"POST" if body else b"GET", path, body, twice=True))[0]
    assert "Connection: keep-alive" in head


async def _ask_by_http_1_0(
    hub: RunningHub, method: bytes, path: str, body: bytes, *, twice: bool = False
) -> tuple[str, bytes]:
    """Return the head, and all that comes until the hub ends the connection.

    ``twice`` on one connection: as much as its length says.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", int(hub.url.rpartition(":")[2]))
    lines = (method + b" " + path.encode() + b" HTTP/1.0", b"Host: localhost", b"Connection: keep-alive")
    request = b"\r\n".join((*lines, b"Content-Length: %d" % len(body), b"", body))
    for _ in range(1 + twice):
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = [int(line[16:]) for line in head.splitlines() if line.lower().startswith("content-length: ")]
        data = await reader.readexactly(length[0]) if twice else await reader.read()
    writer.close()
    return head, data


async def test_nobody_is_told_what_serves(hub: RunningHub) -> None:
    """No answer has a Server header with the versions of Python and aiohttp: whole, streamed, refused, no HTTP."""
    answers = [
        await hub.get("/"),
        await hub.get("/health"),
        await hub.get("/api/nope"),
        await hub.get("/openapi.json"),
        await hub.get("/api/tags", Origin="http://evil.example"),
        await hub.post("/api/chat", NATIVE),
        await hub.post("/api/chat", NATIVE | {"stream": True}),
        await hub.post("/api/chat", b"{"),
    ]
    assert [answer.headers.get("Server") for answer in answers] == [None] * len(answers)
    for request in (b"GET / HTTP/1.0\r\n\r\n", b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(hub.url.rpartition(":")[2]))
        writer.write(request)
        assert b"Server:" not in await reader.read()
        writer.close()


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/api/chat", b"", 400, "missing request body"),
        ("/api/chat", b'{"model":', 400, "unexpected EOF"),
        ("/api/chat", b"[1]", 400, "cannot unmarshal array into Go value of type api.ChatRequest"),
        ("/api/chat", b'{"model": "standin", "messages": 5}', 400, "cannot unmarshal number"),
        ("/api/chat", b'{"messages": []}', 400, "model is required"),
        ("/api/generate", b'{"prompt": "hi"}', 404, "model '' not found"),
        ("/api/embed", b'{"model": "standin-embed", "input": 5}', 400, "invalid input type"),
        ("/v1/chat/completions", b"", 400, "EOF"),
        ("/v1/chat/completions", b'{"model": "standin"}', 400, "[] is too short - 'messages'"),
        ("/v1/chat/completions", b'{"model": "standin", "messages": "hi"}', 400, "cannot unmarshal string"),
        ("/v1/embeddings", b'{"model": "standin-embed", "input": []}', 400, "invalid input"),
    ],
)
async def test_bad_bodies(hub: RunningHub, path: str, body: bytes, status: int, words: str) -> None:
    """Refused in Ollama's words and the dialect's shape, and nothing is sent upstream."""
    answer = await hub.post(path, body)
    assert answer.status == status
    error = answer.json()["error"]
    assert words in (error if path.startswith("/api") else error["message"])
    assert hub.dispatches() == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json"])
async def test_the_content_type_does_not_matter(hub: RunningHub, content_type: str) -> None:
    """curl sends forms by default, some clients text."""
    body = b'{"model": "standin", "messages": [{"role": "user", "content": "hi"}], "stream": false}'
    assert (await hub.post("/api/chat", body, Content_Type=content_type)).status == 200


async def test_a_body_that_is_too_large(hub: RunningHub) -> None:
    """413 in the dialect's shape, for both dialects."""
    large = {"model": "standin", "messages": [{"role": "user", "content": "x" * 100_000}]}
    native = await hub.post("/api/chat", large)
    assert (native.status, list(native.json())) == (413, ["error"])
    completion = await hub.post("/v1/chat/completions", large)
    assert (completion.status, completion.json()["error"]["code"]) == (413, "request_too_large")


async def test_request_ids(hub: RunningHub) -> None:
    """A client's id is echoed, also with an error; a strange one is replaced; without one there is a fresh one."""
    assert (await hub.post("/api/chat", NATIVE, X_Request_Id="abc-1")).headers["X-Request-Id"] == "abc-1"
    assert (await hub.post("/api/chat", b"", X_Request_Id="abc-2")).headers["X-Request-Id"] == "abc-2"
    assert (await hub.get("/nope", X_Request_Id="a b")).headers["X-Request-Id"] != "a b"
    ids = {(await hub.get("/")).headers["X-Request-Id"] for _ in range(10)}
    assert len(ids) == 10


async def test_what_is_dropped_is_said(hub: RunningHub, standin: Standin) -> None:
    """A field that the other side cannot carry is named in a header and in the log, or refused when strict."""
    body = NATIVE | {"options": {"num_ctx": 8192, "top_k": 5}, "keep_alive": "5m"}
    answer = await hub.post("/api/chat", body, X_AgentHub_Api_Mode="openai")
    assert answer.headers["X-AgentHub-Dropped"] == "options.num_ctx,options.top_k,keep_alive"
    assert hub.dispatches()[-1]["dropped"] == ["options.num_ctx", "options.top_k", "keep_alive"]
    refused = await hub.post("/api/chat", body, X_AgentHub_Api_Mode="openai", X_AgentHub_Strict="true")
    assert refused.status == 400
    assert "options.num_ctx" in refused.json()["error"]
    several = {"model": "standin", "messages": MESSAGES, "logit_bias": {"5": 1}}
    rejected = await hub.post("/v1/chat/completions", several)
    assert (rejected.status, rejected.json()["error"]["param"]) == (400, "logit_bias")
    assert "X-AgentHub-Dropped" not in (await hub.post("/api/chat", body)).headers


async def test_contents_are_logged_only_on_demand(standin: Standin) -> None:
    """Prompts and answers are in the log only with log.content."""
    async with running(standin) as upstream:
        for content in (False, True):
            async with running_hub(upstream, log=LogSettings(content=content)) as hub:
                body = NATIVE | {"messages": [{"role": "user", "content": "secret-word"}]}
                await hub.post("/api/chat", body)
                await hub.post("/v1/chat/completions", body)
                assert ("secret-word" in str(hub.lines)) is content


async def test_contents_in_the_log_are_bounded(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer without end is not held for its line, which says so; the answer itself is whole."""
    monkeypatch.setattr("agenthub.middleware.logging._MAX_CONTENT_BYTES", 2000)
    standin.text = "word " * 200
    async with running(standin) as upstream, running_hub(upstream, log=LogSettings(content=True)) as hub:
        answer = await hub.post("/api/chat", NATIVE | {"stream": True})
        said = "".join(frame["message"]["content"] for frame in answer.frames())
        assert said == standin.text
        assert [line["content"] for line in hub.dispatches()] == ["not shown: too large"]


async def test_keys_stay_here(standin: Standin) -> None:
    """The backend's key goes upstream, the client's does not unless configured; neither is ever shown."""
    async with running(standin) as upstream:
        backend = BackendSettings(url=upstream, api_key="backend-key", headers={"X-Team": "team-secret"})
        async with running_hub({"ollama": backend}) as hub:
            await hub.post("/api/chat", NATIVE, Authorization="Bearer client-key")
            sent = standin.requests[-1].headers
            assert sent["Authorization"] == "Bearer backend-key"
            assert sent["X-Team"] == "team-secret"
            standin.down = True
            failed = await hub.post("/api/chat", NATIVE, Authorization="Bearer client-key")
            shown = failed.text + str(failed.headers) + str(hub.lines) + repr(hub.hub)
            assert not any(secret in shown for secret in ("backend-key", "team-secret", "client-key"))
            standin.down = False
        forwarding = BackendSettings(url=upstream, forward_authorization=True)
        async with running_hub({"ollama": forwarding}) as hub:
            await hub.post("/api/chat", NATIVE, Authorization="Bearer client-key")
            assert standin.requests[-1].headers["Authorization"] == "Bearer client-key"


async def test_loading_a_model(hub: RunningHub) -> None:
    """An empty prompt loads, keep_alive 0 unloads: one object even though streams are the default."""
    for mode in ("native", "openai"):
        for path, body in (("/api/generate", {}), ("/api/chat", {"messages": []})):
            loaded = await hub.post(path, {"model": "standin"} | body, X_AgentHub_Api_Mode=mode)
            assert loaded.headers["Content-Type"].startswith("application/json")
            assert (loaded.json()["done"], loaded.json()["done_reason"]) == (True, "load")
            unloaded = await hub.post(path, {"model": "standin", "keep_alive": 0} | body, X_AgentHub_Api_Mode=mode)
            assert unloaded.json()["done_reason"] == "unload"


async def test_strange_field_names_break_no_header(hub: RunningHub) -> None:
    """Names of dropped fields come from the client: bounded in length and number, nothing but plain characters."""
    body = NATIVE | {"a\r\nX-Evil: 1": 1, "naïve": 2, "x" * 500: 3, "a,b": 4} | {f"f{n}": n for n in range(100)}
    answer = await hub.post("/api/chat", body, X_AgentHub_Api_Mode="openai")
    assert answer.status == 200
    names = answer.headers["X-AgentHub-Dropped"].split(",")
    assert names[:4] == ["a??x-evil:?1", "na?ve", "x" * 64, "a?b"]
    assert names[-1] == "..."
    assert "X-Evil" not in answer.headers


async def test_a_strict_client(standin: Standin) -> None:
    """A client known by its name may be strict by its settings, or have its own api mode."""
    clients = {"careful": ClientSettings(strict=True, api_mode="openai")}
    async with running(standin) as upstream, running_hub(upstream, clients=clients) as hub:
        body = NATIVE | {"options": {"num_ctx": 5}}
        assert (await hub.post("/api/chat", body)).status == 200
        refused = await hub.post("/api/chat", body, X_Client_Name="careful")
        assert (refused.status, "options.num_ctx" in refused.text) == (400, True)
        allowed = await hub.post("/api/chat", NATIVE, X_Client_Name="careful")
        assert allowed.headers["X-AgentHub-Api-Mode"] == "openai"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_a_body_that_cannot_be_decoded(hub: RunningHub, encoding: str, caplog: pytest.LogCaptureFixture) -> None:
    """A client's mistake, not a crash."""
    # Twice: the connection, on which nothing more can be read, is given up in time.
    for _ in range(2):
        answer = await hub.post("/api/chat", b"this is not compressed", Content_Encoding=encoding)
        assert answer.status == 400
        assert answer.json()["error"]
    assert not caplog.records
    assert not [line for line in hub.lines if line["event"] == "agenthub.request_crashed"]


async def test_logging_contents_takes_no_answer_away(standin: Standin) -> None:
    """What is nested too deep for the log is answered all the same, with its line."""
    deep: Any = {}
    for _ in range(450):
        deep = {"p": deep}
    async with running(standin) as upstream, running_hub(upstream, log=LogSettings(content=True)) as hub:
        answer = await hub.post("/api/chat", NATIVE | {"format": deep})
        assert answer.status < 500
        assert len(hub.dispatches()) == 1


def test_tracebacks_on_a_terminal_show_no_locals() -> None:
    """They would hold prompts and keys."""
    stream, handlers = io.StringIO(), logging.getLogger().handlers[:]
    configure_logging(LogSettings(format="console"), stream)
    try:
        crash("-".join(("secret", "prompt")))
    except ValueError as error:
        structlog.get_logger("crash").error("crashed", exc_info=error)
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers[:] = handlers
    assert "ValueError" in stream.getvalue()
    assert "secret-prompt" not in stream.getvalue()


def crash(prompt: str) -> None:
    raise ValueError(len(prompt))


@pytest.mark.parametrize("adapter", ["native", "openai"])
async def test_a_large_image_passes(standin: Standin, adapter: str) -> None:
    """12 MB, in either dialect through either adapter, without the warning that aiohttp has for large bodies."""
    image = base64.b64encode(9 * 2**20 * b"x").decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}
    bodies: dict[str, Any] = {
        "/api/chat": NATIVE | {"messages": [{"role": "user", "content": "hi", "images": [image]}]},
        "/v1/chat/completions": {"model": "standin", "messages": [{"role": "user", "content": [part]}]},
    }
    async with running(standin) as upstream, running_hub(upstream, api_mode=adapter) as hub:
        for path, body in bodies.items():
            async with hub.http.post(hub.url + path, data=io.BytesIO(json.dumps(body).encode())) as response:
                assert response.status == 200
            assert image.encode() in standin.requests[-1].body
