"""Attacks on who may call: what is tried, and what becomes of it."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import sys
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from agenthub.api.access.clients import Clients
from agenthub.errors import Unauthorized
from agenthub.middleware import Caller
from agenthub.settings import BackendSettings, ClientSettings
from agenthub.settings import keys as kept_keys
from agenthub.standin import Standin, running
from tests.cli.support import clean_environ, started
from tests.hubs import RunningHub, running_hub
from tests.replay.wire import Message, send
from tests.upstreams import Reply, answering, serving

KEY, OTHER = "right-key-0123456789abcdef", "other-key-fedcba9876543210"
CLIENTS = {
    "first": ClientSettings(api_key=OTHER),
    "limited": ClientSettings(api_key=KEY, models=("allowed",), operations=("all",)),
    "last": ClientSettings(api_key="third-key-000"),
}
CHAT: dict[str, Any] = {"model": "allowed", "messages": [{"role": "user", "content": "hi"}], "stream": False}


@pytest.fixture
def standin() -> Standin:
    return Standin(models=("allowed", "secret"))


@pytest.fixture
async def upstream(standin: Standin) -> AsyncIterator[str]:
    async with running(standin) as url:
        yield url


@pytest.fixture
async def keyed(upstream: str) -> AsyncIterator[RunningHub]:
    async with running_hub(upstream, clients=CLIENTS) as hub:
        yield hub


@pytest.fixture
async def free(upstream: str) -> AsyncIterator[RunningHub]:
    async with running_hub(upstream) as hub:
        yield hub


def raw(
    body: object, *headers: bytes, path: str = "/api/chat", host: bytes = b"localhost", method: str = "POST"
) -> bytes:
    """A request, byte by byte."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"{method} {path} HTTP/1.1".encode(), b"Host: " + host, b"Content-Length: %d" % len(data), *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + data


def bearer(key: str = KEY) -> bytes:
    return f"Authorization: Bearer {key}".encode()


def asked(standin: Standin) -> list[str]:
    """What came to the upstream beside what a hub fetches by itself."""
    return [received.path for received in standin.requests if received.method not in ("GET", "HEAD")]


# --- from a web page


@pytest.mark.parametrize("origin", [(), (b"Origin: http://evil.example:9090",), (b"Origin: http://localhost",)])
async def test_dns_rebinding(free: RunningHub, standin: Standin, origin: tuple[bytes, ...]) -> None:
    """A site has its own name point to 127.0.0.1; its page then is of the same origin. The Host gives it away: 403."""
    for path in ("/api/chat", "/v1/chat/completions", "/api/tags", "/health"):
        got = await send(free.url, raw(CHAT, *origin, path=path, host=b"evil.example:9090"))
        assert (got.status, got.body) == (403, b"")
    assert asked(standin) == []


@pytest.mark.parametrize(
    "origins",
    [
        [b"https://evil.example"],
        [b"null"],
        [b"", b"https://evil.example"],
        [b"http://localhost.evil.example"],
        [b"http://localhost@evil.example"],
        [b"http://localhost\xc2\xa0.evil.example"],
        [b"http://localhost, https://evil.example"],
        [b"http://localhost", b"https://evil.example"],
        [b"https://evil.example", b"http://localhost"],
        [b"http://localhost", b"http://localhost"],
        [b"http://l\xefcalhost"],
        [b"http://localhost:99999999"],
        [b"x" * 5000],
    ],
)
async def test_a_foreign_page(free: RunningHub, standin: Standin, origins: list[bytes]) -> None:
    """A page sends what needs no preflight (text/plain), or pretends to be of this machine: 403, nothing is asked."""
    headers = [b"Origin: " + origin for origin in origins]
    got = await send(free.url, raw(CHAT, b"Content-Type: text/plain", *headers))
    assert (got.status, got.body) == (403, b"")
    assert not [name for name, _ in got.headers if name.lower().startswith("access-control")]
    flight = await send(free.url, raw(b"", b"Access-Control-Request-Method: POST", *headers, method="OPTIONS"))
    assert (flight.status, flight.body) == (403, b"")
    assert asked(standin) == []


async def test_many_origins_and_hosts_fill_no_memory(free: RunningHub) -> None:
    """Verdicts are remembered for a bounded number of names, each of a bounded length."""
    from agenthub.api.access import hosts

    access = free.hub.access
    for number in range(1000):
        access.pages.admit([f"http://{number}.example"], "localhost")
        hosts.is_ours(f"{number}.example")
    access.pages.admit(["http://localhost"], "x" * 9000)
    hosts.is_ours("x" * 9000)
    assert access.pages._remembered.cache_info().currsize == 256  # type: ignore[attr-defined]
    assert hosts._is_ours.cache_info().currsize == 256


# --- by headers and names

BREAKS = (
    "x\r\nInjected: 1",
    "x\nInjected: 1",
    "x\rInjected: 1",
    "x\r\n\r\n{}",
    "x\u0085Injected: 1",
    "x\u2028y",
    "x\x00y",
)


@pytest.mark.parametrize("text", BREAKS)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_header_injection_by_a_model_name(free: RunningHub, path: str, text: str) -> None:
    """A name with line breaks, as a model and as the name of a field, becomes no header of an answer."""
    for mode in (b"native", b"openai"):
        got = await send(free.url, raw(CHAT | {"model": text, text: 1}, b"X-AgentHub-Api-Mode: " + mode, path=path))
        assert got.status >= 400
        assert "injected" not in [name.lower() for name, _ in got.headers]
        kept = await send(free.url, raw(CHAT | {text: 1}, b"X-AgentHub-Api-Mode: " + mode, path=path))
        assert kept.status == 200
        assert "injected" not in [name.lower() for name, _ in kept.headers]


@pytest.mark.parametrize("name", [b"X-Client-Name", b"X-Request-Id", b"X-AgentHub-Api-Mode", b"Origin", b"Host"])
@pytest.mark.parametrize("value", [b"a\nInjected: 1", b"a\rInjected: 1", b"a\x00b", b"a\x1b[31m", b"a\x0bb"])
async def test_header_injection_by_headers(free: RunningHub, name: bytes, value: bytes) -> None:
    """Control characters in a header make no request at all: 400, or another header of the same request."""
    got = await send(free.url, raw(CHAT, name + b": " + value))
    assert "injected" not in [name.lower() for name, _ in got.headers]
    assert got.status in (400, 403) or b"\n" in value


@pytest.mark.parametrize("value", [b"a b", b"a\tb", "\u00e4".encode(), b"\x9b31m", b"a" * 129, b"<script>\xff", b""])
async def test_request_ids_that_are_none(free: RunningHub, value: bytes) -> None:
    """What is no plain word is not echoed: the answer has a fresh id."""
    got = await send(free.url, raw(CHAT, b"X-Request-Id: " + value))
    assert re.fullmatch(r"[0-9a-f]{24}", got.header("X-Request-Id"))


# --- on keys


@pytest.mark.parametrize(
    "headers",
    [
        [bearer(KEY[:-1])],
        [bearer(KEY + "0")],
        [bearer(KEY.upper())],
        [bearer(KEY[:1])],
        [bearer("x" * 7000)],
        [b"Authorization: Bearer " + KEY.encode() + b"\xff"],
        [b"Authorization: Bearer \xc3\xa4\xff"],
        ["Authorization: Bearer \u212a\u00df".encode()],
        [b"Authorization: Bearer " + KEY.encode() + b", Bearer " + KEY.encode()],
        [bearer(), bearer()],
        [bearer(), bearer("wrong")],
        [bearer("wrong"), bearer()],
        [b"x-api-key: " + KEY.encode(), b"x-api-key: " + KEY.encode()],
        [b"x-api-key: wrong", b"X-API-KEY: " + KEY.encode()],
        [b"Authorization: Bearer\t" + KEY.encode()],
        [b"Proxy-Authorization: Bearer " + KEY.encode()],
        [b"X-Forwarded-Authorization: Bearer " + KEY.encode()],
        [b"Cookie: api_key=" + KEY.encode()],
    ],
)
async def test_keys_that_are_almost_right(keyed: RunningHub, standin: Standin, headers: list[bytes]) -> None:
    """Too short, too long, not ASCII, shown twice, or elsewhere than in the two headers: 401, nothing is asked."""
    got = await send(keyed.url, raw(CHAT, *headers))
    assert (got.status, got.header("WWW-Authenticate")) == (401, "Bearer")
    in_path = await send(keyed.url, raw(CHAT, path=f"/api/chat?api_key={KEY}&key={KEY}"))
    assert in_path.status == 401
    assert asked(standin) == []


@pytest.mark.parametrize("key", [KEY, OTHER, "third-key-000", "wrong", "x" * 4000, KEY[:5], KEY[:-1], KEY + "0"])
async def test_timing(keyed: RunningHub, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """The time of an answer tells nothing of a key: what is looked up is its digest, which shares nothing with those of
    keys that are almost right, and only where it is found is it compared, in constant time and with one other.
    """
    compared: list[tuple[int, int]] = []

    def compare(kept: bytes, shown: bytes) -> bool:
        compared.append((len(kept), len(shown)))
        return hmac.compare_digest(kept, shown)

    monkeypatch.setattr(kept_keys, "hmac", type("hmac", (), {"compare_digest": staticmethod(compare)}))
    await send(keyed.url, raw(CHAT, b"x-api-key: " + key.encode()))
    assert compared == ([(32, 32)] if key in (KEY, OTHER, "third-key-000") else [])


@pytest.mark.parametrize("shown", ["right", "wrong"])
def test_the_cost_of_a_key(shown: str) -> None:
    """Is that of one digest and one look-up, however many clients have keys."""
    clients = Clients.of({f"c{number}": ClientSettings(api_key=f"key-{number}") for number in range(1000)})
    key, calls = "key-500" if shown == "right" else "key-1000", 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        caller = Caller()
        with suppress(Unauthorized):
            clients.identify(CIMultiDictProxy(CIMultiDict({"x-api-key": key})), caller)
    finally:
        sys.setprofile(None)
    assert caller.client == ("c500" if shown == "right" else "")
    assert calls < 40


async def test_a_key_that_is_not_ascii(upstream: str) -> None:
    """It is compared byte by byte as UTF-8, so that it works, and only it."""
    async with running_hub(upstream, clients={"a": ClientSettings(api_key="schl\u00fcssel")}) as hub:
        good = await send(hub.url, raw(CHAT, "Authorization: Bearer schl\u00fcssel".encode()))
        latin = await send(hub.url, raw(CHAT, "Authorization: Bearer schl\u00fcssel".encode("latin-1")))
        decomposed = unicodedata.normalize("NFD", "schl\u00fcssel").encode()
        other = await send(hub.url, raw(CHAT, b"Authorization: Bearer " + decomposed))
    assert [good.status, latin.status, other.status] == [200, 401, 401]


async def test_another_client_by_its_name(keyed: RunningHub) -> None:
    """X-Client-Name beside one's own key changes neither rights nor the log."""
    secret = CHAT | {"model": "secret"}
    for name in (b"first", b"", b"last", b"limited"):
        assert (await send(keyed.url, raw(secret, bearer(), b"X-Client-Name: " + name))).status == 403
    assert {line["client"] for line in keyed.dispatches()} == {"limited"}


# --- on rights

TWINS: list[tuple[str, bytes]] = [
    ("/api/chat", b'{"model":"secret","model":"allowed","messages":[]}'),
    ("/api/chat", b'{"model":"allowed","model":"secret","messages":[]}'),
    ("/api/chat", b'{"Model":"x","model":"allowed","Model":"secret","messages":[]}'),
    ("/api/chat", b'{"model":"secret","MODEL":"allowed","messages":[]}'),
    ("/api/chat", b'{"model":"secret","mod\\u0065l":"allowed","messages":[]}'),
    ("/v1/chat/completions", b'{"model":"secret","Model":"allowed","messages":[{"role":"user","content":"x"}]}'),
    ("/v1/chat/completions", b'{"model":"allowed","models":["secret"],"messages":[{"role":"user","content":"x"}]}'),
    ("/v1/chat/completions", b'{"model":"allowed","fallbacks":["secret"],"messages":[{"role":"user","content":"x"}]}'),
    ("/api/generate", b'{"model":"secret","model":"allowed","prompt":"x"}'),
    ("/api/embed", b'{"model":"secret","model":"allowed","input":"x"}'),
    ("/api/show", b'{"model":"secret","model":null,"name":"allowed"}'),
    ("/api/show", b'{"name":"secret","Name":"allowed"}'),
    ("/api/pull", b'{"model":"secret","MODEL":null,"name":"allowed"}'),
    ("/api/push", b'{"name":"secret","name":"allowed"}'),
    ("/api/copy", b'{"source":"allowed","destination":"allowed","\xc5\xbfource":"secret"}'),
    ("/api/copy", b'{"source":"allowed","destination":"allowed","de\xc5\xbftination":"secret"}'),
    ("/api/create", b'{"model":"allowed","from":"allowed","From":"secret"}'),
    ("/api/create", b'{"model":"allowed","modelfile":"FROM secret"}'),
    ("/api/create", b'{"model":"allowed","from":"secret","from":null,"files":{"a":"b"}}'),
]


@pytest.mark.parametrize(("path", "body"), TWINS)
async def test_a_model_under_a_second_name(keyed: RunningHub, standin: Standin, path: str, body: bytes) -> None:
    """A body in which the upstream may read another model than the hub: never sent for a client with rights to some."""
    got = await send(keyed.url, raw(body, bearer(), path=path))
    assert got.status in (400, 403), got.body
    assert asked(standin) == []
    assert [line["outcome"] for line in keyed.dispatches()] == ["rejected"]


@pytest.mark.parametrize(
    "path", ["/api/%63hat", "//api/chat", "/api/chat/", "/API/CHAT", "/api/./chat", "/v1/../api/chat"]
)
async def test_other_spellings_of_a_path(keyed: RunningHub, standin: Standin, path: str) -> None:
    """None of them leads past the key, nor past the rights."""
    assert (await send(keyed.url, raw(CHAT, path=path))).status == 401
    answer = await send(keyed.url, raw(CHAT | {"model": "secret"}, bearer(), path=path))
    # A redirect leads to the one spelling that there is, and to no other host.
    assert answer.status in (403, 404, 405) or (answer.status, answer.header("Location")) == (307, "/api/chat")
    assert asked(standin) == []


@pytest.mark.parametrize(
    "start", [b"http://localhost/api/chat", b"http://evil.example/health", b"*", b"evil.example:80"]
)
async def test_requests_as_to_a_proxy(keyed: RunningHub, standin: Standin, start: bytes) -> None:
    """A whole URL in the first line is no way past the key, and nobody is asked for it."""
    request = raw(CHAT).replace(b"POST /api/chat", b"POST " + start, 1)
    assert (await send(keyed.url, request)).status in (400, 401, 405)
    assert asked(standin) == []


# --- on the cache

POISON: list[bytes] = [
    b'{"model":"m","messages":[{"role":"user","content":"hi"}],"options":{"num_predict":1},'
    b'"options":{"temperature":0},"stream":false}',
    b'{"model":"m","messages":[{"role":"user","content":"hi"}],"options":{"temperature":0},'
    b'"OPTIONS":{"temperature":0},"stream":false}',
    b'{"model":"m","messages":[{"role":"user","content":"evil","content":"hi"}],"options":{"temperature":0},'
    b'"stream":false}',
    b'{"model":"m","Messages":[{"role":"user","content":"evil"}],"messages":[{"role":"user","content":"hi"}],'
    b'"options":{"temperature":0},"stream":false}',
]


@pytest.mark.parametrize("poison", POISON)
async def test_cache_poisoning(poison: bytes) -> None:
    """A body that the upstream reads in another way than the hub leaves nothing behind for those who ask plainly."""
    plain = {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "options": {"temperature": 0},
        "stream": False,
    }
    async with serving(answering("evil")) as upstream, running_hub(upstream.url, clients=CLIENTS) as hub:
        assert (await hub.post("/api/chat", poison, Authorization=f"Bearer {OTHER}")).status == 200
        upstream.reply = answering("good")
        got = await hub.post("/api/chat", plain, Authorization="Bearer third-key-000")
        assert (got.headers["X-AgentHub-Cache"], got.json()["message"]["content"]) == ("miss", "good")
        again = await hub.post("/api/chat", poison, Authorization=f"Bearer {OTHER}")
        assert (again.headers["X-AgentHub-Cache"], again.json()["message"]["content"]) == ("hit", "evil")


# --- on what is asked


@asynccontextmanager
async def canary() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A port that must hear of nothing."""
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()


NAMES = (
    "http://127.0.0.1:{port}/x",
    "//127.0.0.1:{port}/x",
    "@127.0.0.1:{port}",
    "127.0.0.1:{port}",
    "127.0.0.1:{port}/a/b:c",
    "../../../etc/passwd",
    "..%2f..%2fv1%2fmodels",
    "/api/delete",
    "m?x=1#y",
    "m HTTP/1.1\r\nHost: 127.0.0.1:{port}",
    "file:///etc/passwd",
    "{port}",
)
ENDPOINTS = (
    ("POST", "/api/chat"),
    ("POST", "/api/generate"),
    ("POST", "/api/embed"),
    ("POST", "/api/show"),
    ("POST", "/api/create"),
    ("POST", "/api/copy"),
    ("DELETE", "/api/delete"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
)
UPSTREAMS = {path for _, path in ENDPOINTS} | {"/api/tags", "/v1/models", "/api/version"}


@pytest.mark.parametrize("mode", ["native", "openai"])
@pytest.mark.parametrize("name", NAMES)
async def test_ssrf_by_a_model_name(standin: Standin, upstream: str, mode: str, name: str) -> None:
    """A name that is a URL, a host or a path stays a member of a body: nobody else is asked, nor any other path."""
    async with canary() as (port, heard), running_hub(upstream, api_mode=mode) as hub:
        model = name.format(port=port)
        body = {**CHAT, "model": model, "prompt": "x", "input": "x", "source": model, "destination": model}
        for method, path in ENDPOINTS:
            await send(hub.url, raw(body | {"from": model}, path=path, method=method))
        one = await hub.http.get(f"{hub.url}/v1/models/{model.split('?')[0]}".replace("\r\n", "%0D%0A"))
        assert one.status in (200, 400, 404)
        assert {line["backend"] for line in hub.dispatches()} <= {"", "ollama"}
    assert heard == []
    assert {received.path for received in standin.requests} <= UPSTREAMS


# --- on the log

ESCAPES = (
    "a\nb",
    "a\r\n{}",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\u009b31m",
    "\u2028x",
    "\u202eevil",
    "a\x00b\x7f",
)


CLIENT_NAMES = ("\u009b31m", "\u2028x", "\u202eevil", "a\tb")
"""Those that an HTTP header can hold."""


async def fake_lines(url: str) -> int:
    """Send names that would forge lines or paint a terminal; return how many of the requests are dispatched."""
    for text in ESCAPES:
        await send(url, raw(CHAT | {"model": text}))
        await send(url, raw(CHAT | {"model": text}, path="/v1/chat/completions"))
        await send(url, raw(CHAT, b"X-Client-Name: " + text.encode()))
    for header in map(str.encode, CLIENT_NAMES):
        await send(url, raw(CHAT, b"X-Client-Name: " + header, b"X-Request-Id: " + header))
        await send(url, raw(CHAT, b"X-AgentHub-Api-Mode: " + header))
        await send(url, raw(CHAT, b"Origin: http://" + header))
        await send(url, raw(CHAT, host=header))
    # Of the texts, three are headers too: those without C0 controls.
    return 2 * len(ESCAPES) + 3 + 2 * len(CLIENT_NAMES)


@pytest.mark.parametrize("form", ["json", "console"])
async def test_log_injection(upstream: str, form: str) -> None:
    """Line breaks and terminal escapes in clients, models and ids: one line each, nothing but printable characters."""
    environ = clean_environ(OLLAMA_HOST=upstream, AGENTHUB_PORT="0", AGENTHUB_LOG__FORMAT=form, NO_COLOR="1")
    async with started("serve", environ=environ) as hub:
        dispatched = await fake_lines(await _url_of(hub))
        hub.signal(15)
        _, out, err = await hub.end()
    assert out == ""
    lines = err.removesuffix("\n").split("\n")
    assert [line for line in lines if not line.isprintable()] == []
    is_dispatch = re.compile(r"agenthub\.dispatch_finished|^\d\d:\d\d:\d\d  \d{3}  .* \d+\.\d\d s  ")
    assert len([line for line in lines if is_dispatch.search(line)]) == dispatched
    if form == "json":
        assert all(isinstance(json.loads(line), dict) for line in lines)
    else:
        # The opening has lines without a time; nothing that a client sent makes another.
        untimed = [line for line in lines if not re.match(r"\d\d:\d\d:\d\d ", line)]
        assert [line.split("  ")[5] for line in untimed] == ["Ollama clients", "OpenAI clients", "who may call"]


async def _url_of(hub: Any) -> str:
    async with asyncio.timeout(20):
        while line := (await hub.process.stderr.readline()).decode():
            if "listening" in line and (found := re.search(r"http://127\.0\.0\.1:\d+", line)):
                return found[0]
    raise AssertionError("it does not listen")


# --- on secrets


@pytest.mark.parametrize("form", ["json", "console"])
async def test_keys_are_never_said(form: str) -> None:
    """After right and wrong uses, and broken ones, no key is in any line, answer, description or error."""

    def reply(path: str, body: Any) -> Reply:
        if body and "crash" in json.dumps(body):
            return Reply({"error": "upstream is out of order"}, status=500)
        return answering()(path, body)

    settings = {
        "AGENTHUB_CLIENTS__FIRST__API_KEY": KEY,
        "AGENTHUB_CLIENTS__SECOND__API_KEY": OTHER,
        "AGENTHUB_BACKENDS__OLLAMA__FORWARD_AUTHORIZATION": "true",
        "AGENTHUB_LOG__FORMAT": form,
        "AGENTHUB_LOG__LEVEL": "debug",
        "AGENTHUB_LOG__CONTENT": "true",
        "AGENTHUB_PORT": "0",
    }
    wrong = "wrong-key-1111222233334444"
    said: list[Message] = []
    async with serving(reply) as upstream:
        environ = clean_environ(AGENTHUB_BACKENDS__OLLAMA__URL=upstream.url, PYTHONASYNCIODEBUG="1", **settings)
        async with started("serve", environ=environ) as hub:
            url = await _url_of(hub)
            for key in (KEY, OTHER, wrong):
                shown = (bearer(key), b"x-api-key: " + key.encode(), b"Authorization: Basic " + key.encode())
                for header in shown:
                    for path in ("/api/chat", "/v1/chat/completions", "/nope", "/openapi.json", "/ready", "/api/tags"):
                        method = "POST" if "chat" in path else "GET"
                        said.append(await send(url, raw(CHAT | {"model": "m"}, header, path=path, method=method)))
                    said.append(await send(url, raw(CHAT | {"model": "crash"}, header)))
                    said.append(await send(url, raw(b"{broken", header)))
                    said.append(await send(url, raw(CHAT, header, header)))
                    said.append(await send(url, raw(CHAT, header, b"Origin: http://localhost")))
                    said.append(await send(url, raw(CHAT, header, b"Origin: http://evil.example")))
                    said.append(await send(url, raw(CHAT, header, b"Content-Encoding: gzip")))
                    await send(url, raw(CHAT, header + b"\x01"))
                    await send(url, raw(CHAT, b"Broken \x01", header))
            hub.signal(15)
            _, out, err = await hub.end()
    forwarded = {asked for asked in upstream.asked if isinstance(asked, str)}
    everything = out + err + repr(said) + repr(forwarded)
    assert {200, 401, 403, 400} <= {message.status for message in said}
    assert err.count("agenthub.request_refused") > 5
    assert [key for key in (KEY, OTHER, wrong) if key in everything] == []


def test_keys_are_in_no_repr() -> None:
    """Settings, clients and callers show stars."""
    from agenthub.api.access import Access
    from agenthub.settings import Settings

    settings = Settings(backends={"a": BackendSettings(url="http://h")}, clients=CLIENTS)
    shown = f"{settings!r} {Access.of(settings)!r} {settings.clients!s}"
    assert "********" in shown
    digests = [client.api_key._digest for client in CLIENTS.values()]
    assert [found for d in digests for found in (KEY, OTHER, d.hex(), repr(d)) if found in shown] == []
