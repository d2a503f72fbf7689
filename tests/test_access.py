"""Who may call: keys, rights, hosts, pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.api.access import hosts, is_loopback
from agenthub.api.access.pages import EXPOSED, Pages
from agenthub.app import make_app
from agenthub.errors import ConfigError
from agenthub.settings import BackendSettings, ClientSettings, CorsSettings, ModelSettings, Settings
from agenthub.standin import Standin, running
from tests.hubs import Answered, RunningHub, error_of, running_hub

CHAT = {"model": "standin", "messages": [{"role": "user", "content": "hi"}], "stream": False}
ADMIN, USER = "admin-key-0123456789", "user-key-9876543210"
CLIENTS: Mapping[str, ClientSettings] = {
    "admin": ClientSettings(api_key=ADMIN, operations=("all",)),
    "user": ClientSettings(api_key=USER),
    "limited": ClientSettings(api_key="limited-key", models=("standin", "fast*"), operations=("ask", "copy", "create")),
    "chatter": ClientSettings(api_key="chatter-key", operations=("chat",)),
    "keyless": ClientSettings(),
}
ALIASES = {"gpt-4o": ModelSettings(target="standin"), "fast": ModelSettings(target="secret")}


@pytest.fixture
def standin() -> Standin:
    return Standin(models=("standin", "standin-embed", "secret"))


@pytest.fixture
async def upstream(standin: Standin) -> AsyncIterator[str]:
    async with running(standin) as url:
        yield url


@pytest.fixture
async def keyed(upstream: str) -> AsyncIterator[RunningHub]:
    """A hub whose clients have keys."""
    async with running_hub(upstream, clients=CLIENTS, models=ALIASES) as hub:
        yield hub


@pytest.fixture
async def free(upstream: str) -> AsyncIterator[RunningHub]:
    """A hub without keys, on loopback."""
    async with running_hub(upstream) as hub:
        yield hub


@pytest.fixture(params=["keys", "no keys"])
async def hub(upstream: str, request: pytest.FixtureRequest) -> AsyncIterator[RunningHub]:
    """A hub with keys, then one without."""
    async with running_hub(upstream, clients=CLIENTS if request.param == "keys" else {}) as either_hub:
        yield either_hub


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def call(hub: RunningHub, method: str, path: str, body: object = None, **headers: str) -> Answered:
    """Send a request by any method; header names are written with underscores."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with hub.http.request(method, hub.url + path, json=body, headers=sent) as response:
        return Answered(response.status, response.headers, await response.read())


# --- keys


@pytest.mark.parametrize("header", ["Authorization", "authorization", "x-api-key", "X-API-Key"])
async def test_a_key_says_who_calls(keyed: RunningHub, header: str) -> None:
    """In either header, the scheme in any case; what X-Client-Name says is not looked at."""
    for shown in [USER] if "api" in header.lower() else [f"Bearer {USER}", f"bearer  {USER} "]:
        answer = await call(keyed, "POST", "/api/chat", CHAT, **{header: shown, "X-Client-Name": "admin"})
        assert answer.status == 200
    assert {line["client"] for line in keyed.dispatches()} == {"user"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer nope"},
        {"Authorization": USER},
        {"Authorization": f"Basic {USER}"},
        {"Authorization": "Bearer "},
        {"Authorization": ""},
        {"x-api-key": "nope"},
        {"x-api-key": f"Bearer {USER}"},
        {"x-api-key": ""},
        {"X-Client-Name": "user"},
        {"X-Client-Name": "keyless"},
    ],
)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_without_a_right_key_nothing_is_done(
    keyed: RunningHub, standin: Standin, headers: dict[str, str], path: str
) -> None:
    """401 in the dialect's shape, with the scheme that is wanted; the upstream is not asked, nothing is dispatched."""
    answer = await call(keyed, "POST", path, CHAT, **headers)
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    wrong = any(headers.get(name) for name in ("Authorization", "x-api-key"))
    text = (
        "the API key is not known here"
        if wrong
        else "an API key is needed: Authorization: Bearer KEY, or x-api-key: KEY"
    )
    error: Any = text
    if path.startswith("/v1"):
        error = {"message": text, "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
    assert answer.json() == {"error": error}
    assert keyed.dispatches() == []
    assert not [received for received in standin.requests if received.method == "POST"]
    (line,) = [line for line in keyed.lines if line["event"] == "agenthub.request_refused"]
    assert (line["status"], line["error"]) == (401, text)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("HEAD", "/"),
        ("GET", "/api/tags"),
        ("GET", "/api/ps"),
        ("GET", "/api/version"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/standin"),
        ("GET", "/openapi.json"),
        ("GET", "/no/such/path"),
        ("POST", "/health"),
        ("OPTIONS", "/api/chat"),
        ("DELETE", "/api/delete"),
        ("HEAD", f"/api/blobs/sha256:{'0' * 64}"),
    ],
)
async def test_every_path_needs_a_key(keyed: RunningHub, method: str, path: str) -> None:
    """Also those that do not exist: a stranger learns nothing."""
    assert (await call(keyed, method, path)).status == 401


@pytest.mark.parametrize("path", ["/health", "/ready", "/%68ealth"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_watches_the_process_needs_no_key(keyed: RunningHub, method: str, path: str) -> None:
    """/health and /ready answer whoever asks."""
    assert (await call(keyed, method, path)).status == 200


async def test_without_keys_a_name_is_enough(upstream: str) -> None:
    """Where no client has a key, X-Client-Name says who asks; keys that are shown are not looked at."""
    clients = {"careful": ClientSettings(strict=True, models=("standin",), operations=("chat",))}
    async with running_hub(upstream, clients=clients) as hub:
        strict = await hub.post("/v1/chat/completions", CHAT | {"num_foo": 1}, X_Client_Name="careful")
        other = await hub.post("/v1/chat/completions", CHAT | {"num_foo": 1}, X_Client_Name="other", Authorization="x")
        embed = await hub.post("/api/embed", {"model": "standin", "input": "x"}, X_Client_Name="careful")
        secret = await hub.post("/api/chat", CHAT | {"model": "secret"}, X_Client_Name="careful")
        pulled = await hub.post("/api/pull", {"model": "new", "stream": False})
    assert [strict.status, other.status, embed.status, secret.status, pulled.status] == [400, 200, 403, 403, 200]


async def test_a_key_may_be_given_as_its_digest(upstream: str) -> None:
    """sha256:HEX in the settings means the key, and is no key itself."""
    digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    async with running_hub(upstream, clients={"a": ClientSettings(api_key=digest)}) as hub:
        good = await hub.post("/api/chat", CHAT, Authorization="Bearer test")
        bad = await hub.post("/api/chat", CHAT, Authorization=f"Bearer {digest}")
    assert [good.status, bad.status] == [200, 401]


@pytest.mark.parametrize(
    ("headers", "forwarded"),
    [
        (bearer(USER), ""),
        ({"x-api-key": USER}, ""),
        ({"x-api-key": USER} | bearer("backends-own"), "Bearer backends-own"),
        ({"x-api-key": USER, "Authorization": "Basic dTpw"}, "Basic dTpw"),
        ({"x-api-key": USER} | bearer(USER), ""),
        ({"x-api-key": USER} | bearer(ADMIN), ""),
        ({"x-api-key": USER, "Authorization": f"Token {ADMIN}"}, ""),
        ({"x-api-key": USER, "Authorization": ADMIN}, ""),
        ({"x-api-key": "backends-own"} | bearer(USER), ""),
    ],
)
async def test_the_hubs_key_goes_no_further(
    standin: Standin, upstream: str, headers: dict[str, str], forwarded: str
) -> None:
    """Where Authorization is forwarded, it is only when it holds no key of the hub's; x-api-key never is."""
    backends = {"ollama": BackendSettings(url=upstream, forward_authorization=True)}
    async with running_hub(backends, clients=CLIENTS) as hub:
        assert (await call(hub, "POST", "/api/chat", CHAT, **headers)).status == 200
    (asked,) = [received for received in standin.requests if received.method == "POST"]
    assert (asked.headers.get("Authorization", ""), asked.headers.get("x-api-key")) == (forwarded, None)


def test_a_key_file_that_nobody_read_is_no_open_door() -> None:
    """Settings made by hand whose key was never read do not make a hub without keys."""
    settings = Settings(
        backends={"a": BackendSettings(url="http://h")}, clients={"x": ClientSettings(api_key_file="/key")}
    )
    with pytest.raises(ConfigError, match=r"^clients\.x\.api_key_file: the file was not read"):
        make_app(settings)


# --- rights

VERBS: list[tuple[str, str, str, Any]] = [
    ("pull", "POST", "/api/pull", {"model": "standin", "stream": False}),
    ("push", "POST", "/api/push", {"model": "standin", "stream": False}),
    ("create", "POST", "/api/create", {"model": "mine", "from": "standin", "stream": False}),
    ("copy", "POST", "/api/copy", {"source": "standin", "destination": "twin"}),
    ("delete", "DELETE", "/api/delete", {"model": "standin"}),
    ("blobs", "HEAD", f"/api/blobs/sha256:{'0' * 64}", None),
    ("blobs", "POST", f"/api/blobs/sha256:{'0' * 64}", {}),
]
ASKS: list[tuple[str, str, str, Any]] = [
    ("chat", "POST", "/api/chat", CHAT),
    ("chat", "POST", "/v1/chat/completions", CHAT),
    ("generate", "POST", "/api/generate", {"model": "standin", "prompt": "hi", "stream": False}),
    ("generate", "POST", "/v1/completions", {"model": "standin", "prompt": "hi"}),
    ("embed", "POST", "/api/embed", {"model": "standin-embed", "input": "hi"}),
    ("embed", "POST", "/api/embeddings", {"model": "standin-embed", "prompt": "hi"}),
    ("embed", "POST", "/v1/embeddings", {"model": "standin-embed", "input": "hi"}),
    ("show", "POST", "/api/show", {"model": "standin"}),
    ("list", "GET", "/api/tags", None),
    ("list", "GET", "/v1/models", None),
    ("list", "GET", "/v1/models/standin", None),
    ("ps", "GET", "/api/ps", None),
    ("version", "GET", "/api/version", None),
]


@pytest.mark.parametrize(("operation", "method", "path", "body"), VERBS + ASKS)
async def test_operations(keyed: RunningHub, operation: str, method: str, path: str, body: Any) -> None:
    """By default all but managing; as listed where a list is given. Dispatches that are refused are logged."""
    statuses = {
        key: (await call(keyed, method, path, body, **bearer(key))).status for key in ("chatter-key", USER, ADMIN)
    }
    manages = (operation, method, path, body) in VERBS
    expected = {"chatter-key": operation == "chat", USER: not manages, ADMIN: True}
    assert {key: status != 403 for key, status in statuses.items()} == expected
    refused = [line for line in keyed.dispatches() if line["status"] == 403]
    dispatched = operation not in ("list", "ps", "version")
    assert [line["outcome"] for line in refused] == ["rejected"] * list(expected.values()).count(False) * dispatched
    assert all(line["error"] == f"this client may not use the operation {operation}" for line in refused)


@pytest.mark.parametrize(
    ("model", "may"),
    [
        ("standin", True),
        ("STANDIN:latest", True),
        ("fast", True),
        ("FAST:latest", True),
        ("gpt-4o", False),
        ("secret", False),
        ("Secret:Latest", False),
        ("standin-embed", False),
        ("nope", False),
    ],
)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/api/generate", "/v1/completions"])
async def test_models(keyed: RunningHub, standin: Standin, path: str, model: str, may: bool) -> None:
    """By the name that the client writes, an alias under its own; refused in the dialect's shape, unasked."""
    answer = await call(keyed, "POST", path, {**CHAT, "prompt": "hi", "model": model}, **bearer("limited-key"))
    assert answer.status == (200 if may else 403)
    assert len([received for received in standin.requests if received.method == "POST"]) == may
    (line,) = keyed.dispatches()
    assert (line["outcome"], line["client"]) == ("ok" if may else "rejected", "limited")
    if not may:
        text = f"this client may not use model '{model}'"
        error: Any = text
        if path.startswith("/v1"):
            error = {"message": text, "type": "permission_error", "param": "model", "code": None}
        assert answer.json() == {"error": error}


async def test_lists_hold_what_may_be_used(keyed: RunningHub) -> None:
    """/api/tags, /v1/models, /v1/models/{id}, /api/show: other models are not there. /api/ps by name or alias."""
    key = bearer("limited-key")
    await call(keyed, "POST", "/api/chat", CHAT, **bearer(ADMIN))
    await call(keyed, "POST", "/api/chat", CHAT | {"model": "secret"}, **bearer(ADMIN))
    embed = {"model": "standin-embed", "input": "x"}
    await call(keyed, "POST", "/api/embed", embed, **bearer(ADMIN))
    tags = (await call(keyed, "GET", "/api/tags", **key)).json()["models"]
    models = (await call(keyed, "GET", "/v1/models", **key)).json()["data"]
    running_models = (await call(keyed, "GET", "/api/ps", **key)).json()["models"]
    all_running = (await call(keyed, "GET", "/api/ps", **bearer(ADMIN))).json()["models"]
    assert {model["name"] for model in tags} == {"standin:latest", "fast"}
    assert {model["id"] for model in models} == {"standin:latest", "fast"}
    assert {model["name"] for model in running_models} == {"standin:latest", "secret:latest"}
    assert {model["name"] for model in all_running} == {"standin:latest", "secret:latest", "standin-embed:latest"}
    for model, status in (("standin", 200), ("fast", 200), ("secret", 404), ("gpt-4o", 404)):
        described = await call(keyed, "GET", f"/v1/models/{model}", **key)
        shown = await call(keyed, "POST", "/api/show", {"model": model}, **key)
        assert (described.status, shown.status) == (status, status)
        if status == 404:
            assert error_of(described.json()) == error_of(shown.json()) == f"model '{model}' not found"


@pytest.mark.parametrize(
    ("path", "body", "refused"),
    [
        ("copy", {"source": "standin", "destination": "fast-2"}, ""),
        ("copy", {"source": "standin", "destination": "other"}, "other"),
        ("copy", {"source": "secret", "destination": "fast-2"}, "secret"),
        ("create", {"model": "fast-2", "from": "standin"}, ""),
        ("create", {"model": "other", "from": "standin"}, "other"),
        ("create", {"model": "fast-2", "from": "secret"}, "secret"),
        ("create", {"name": "other", "from": "standin"}, "other"),
        ("create", {"model": "other", "files": {}}, "other"),
    ],
)
async def test_verbs_name_more_than_one_model(keyed: RunningHub, path: str, body: Any, refused: str) -> None:
    """Each name in the request must be the client's."""
    answer = await call(keyed, "POST", f"/api/{path}", {**body, "stream": False}, **bearer("limited-key"))
    assert answer.status == (403 if refused else 200)
    assert not refused or answer.json() == {"error": f"this client may not use model '{refused}'"}


async def test_a_kept_answer_needs_the_right_too(keyed: RunningHub) -> None:
    """The cache serves an answer only to those who might have asked for it."""
    cold = CHAT | {"model": "secret", "options": {"temperature": 0}}
    states = [await call(keyed, "POST", "/api/chat", cold, **bearer(key)) for key in (ADMIN, USER, "limited-key")]
    assert [answer.status for answer in states] == [200, 200, 403]
    assert [answer.headers.get("X-AgentHub-Cache") for answer in states] == ["miss", "hit", None]
    assert [line["outcome"] for line in keyed.dispatches()] == ["ok", "cached", "rejected"]


async def test_a_kept_answer_of_anothers_authorization(standin: Standin, upstream: str) -> None:
    """What an upstream answered to one forwarded Authorization is for nobody who shows another, or none."""
    backends = {"ollama": BackendSettings(url=upstream, forward_authorization=True)}
    cold = CHAT | {"options": {"temperature": 0}}
    async with running_hub(backends, clients=CLIENTS) as hub:
        states = [
            (await call(hub, "POST", "/api/chat", cold, **headers)).headers["X-AgentHub-Cache"]
            for headers in (
                {"x-api-key": ADMIN} | bearer("upstream-1"),
                {"x-api-key": USER} | bearer("upstream-2"),
                {"x-api-key": USER},
                bearer(USER),
                {"x-api-key": USER} | bearer("upstream-1"),
            )
        ]
    assert states == ["miss", "miss", "miss", "hit", "hit"]


# --- hosts


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("", True),
        ("localhost", True),
        ("LocalHost:9090", True),
        ("127.0.0.1:9090", True),
        ("127.8.8.8", True),
        ("[::1]:9090", True),
        ("[::ffff:127.0.0.1]", True),
        ("::1", True),
        ("192.168.1.7:9090", True),
        ("10.0.0.7", True),
        ("172.16.0.1", True),
        ("[fd00::1]", True),
        ("app.localhost:1", True),
        ("box.local", True),
        ("hub.internal:80", True),
        (hosts.socket.gethostname().upper(), True),
        ("evil.example", False),
        ("evil.example:9090", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost@evil.example", False),
        ("evil.example/localhost", False),
        ("evil.example#.localhost", False),
        ("notlocalhost", False),
        ("0.0.0.0:9090", True),
        ("8.8.8.8", False),
        ("[2001:4860:4860::8888]", False),
        ("172.32.0.1", False),
        ("198.18.0.1", False),
        ("2130706433", False),
        ("0x7f.1", False),
        ("127.1", False),
        ("\u0661\u0662\u0667.0.0.1", False),
        ("localhost:9090x", False),
        ("localhost\x00", False),
        ("a" * 300 + ".local", False),
    ],
)
def test_hosts(host: str, ours: bool) -> None:
    """This machine, its network, and the names that only local resolvers know; as Ollama has it."""
    assert hosts.is_ours(host) is ours


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "[::1]", "localhost", "LOCALHOST", "hub.localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "hub.example", "localhost.example", ""])
def test_no_loopback(host: str) -> None:
    assert not is_loopback(host)


async def test_a_foreign_host_is_refused(upstream: str) -> None:
    """403 with an empty body on loopback without keys, on every path; else the name does not matter."""
    for settings, status in (
        ({}, 403),
        ({"clients": {"a": ClientSettings()}}, 403),
        ({"clients": CLIENTS}, 200),
        ({"host": "0.0.0.0", "insecure": True}, 200),
    ):
        async with running_hub(upstream, **settings) as hub:
            for path in ("/health", "/nope"):
                answer = await call(hub, "GET", path, Host="evil.example", **bearer(USER))
                assert answer.status == (404 if (path, status) == ("/nope", 200) else status)
                assert (answer.body == b"") is (status == 403)
            assert (await call(hub, "GET", "/health")).status == 200


# --- pages

LOCAL = [
    "http://localhost",
    "https://localhost:3000",
    "http://127.0.0.1:8080",
    "http://0.0.0.0:1",
    "http://[::1]:5173",
    "HTTP://LOCALHOST:3000",
    "app://obsidian.md",
    "app://.",
    "file://",
    "tauri://localhost",
    "vscode-webview://1rc3n6b",
    "vscode-file://vscode-app",
]
FOREIGN = [
    "http://evil.example",
    "http://localhost.evil.example",
    "http://localhost:3000.evil.example",
    "http://localhost:evil",
    "http://localhost@evil.example",
    "http://127.0.0.1.evil.example",
    "http://127.0.0.2",
    "http://evil.example/http://localhost",
    "https://evil.example#http://localhost",
    "chrome-extension://abcdef",
    "ws://localhost",
    "null",
    "localhost",
    "//localhost",
    "http://localhost ",
    "http://localhost http://evil.example",
    "http://localhost, http://evil.example",
    "http://localhost\u0000",
    "http://loc\u0430lhost",
    "http://localhost:" + "1" * 600,
]


def told(origins: tuple[str, ...], origin: str, host: str = "127.0.0.1:9090") -> bool:
    return Pages(origins).admit([origin], host) is not None


@pytest.mark.parametrize("origin", LOCAL)
def test_pages_of_this_machine(origin: str) -> None:
    """localhost and apps may call, as with Ollama."""
    assert told((), origin)


@pytest.mark.parametrize("origin", FOREIGN)
def test_foreign_pages(origin: str) -> None:
    """All others may not, nor what only looks like one of those that may."""
    assert not told((), origin)
    assert not told(("https://chat.example.com",), origin)


@pytest.mark.parametrize(
    ("entry", "good", "bad"),
    [
        ("https://chat.example.com", ["https://chat.example.com", "HTTPS://CHAT.example.com"],
         ["http://chat.example.com", "https://chat.example.com:8443", "https://chatxexample.com",
          "https://a.chat.example.com"]),
        ("https://chat.example.com:443", ["https://chat.example.com"], ["https://chat.example.com:8443"]),
        ("http://10.0.0.7:*", ["http://10.0.0.7", "http://10.0.0.7:3000"], ["http://10.0.0.70", "http://10.0.0.7:x"]),
        ("https://*.example.com", ["https://a.example.com", "https://a.b.example.com"],
         ["https://example.com", "https://evilexample.com", "https://a.example.com.evil.example",
          "https://evil/.example.com", "https://evil:1.example.com", "https://a.example.com:1"]),
        ("https://*.example.com:*", ["https://a.example.com:1", "https://a.example.com"], ["https://example.com"]),
        ("https://*", ["https://any.example", "https://[fd00::1]"], ["http://any.example", "https://a:1", "https://a/b"]),
        ("http://[fd00::1]:80", ["http://[fd00::1]"], ["http://[fd00::2]"]),
        ("chrome-extension://*", ["chrome-extension://abc"], ["moz-extension://abc"]),
        ("null", ["null"], ["http://null", "nullx"]),
        ("*", ["https://any.example:1", "null", "chrome-extension://abc", "file://"],
         ["", "*", "https://a b", "https://a, https://b", "https://a\u00e4", "javascript:alert(1)"]),
    ],
)  # fmt: skip
def test_listed_pages(entry: str, good: list[str], bad: list[str]) -> None:
    """[cors] origins: a whole origin, one with any port, any host below a domain, any host, any page."""
    assert [origin for origin in good if not told((entry,), origin)] == []
    assert [origin for origin in bad if told((entry,), origin)] == []


@given(
    st.text(st.sampled_from("abclohst.:/@#?*[]- \t\n\u0130\u017f127")) | st.text(),
    st.sampled_from(["http://", "https://", "http://localhost", "https://a.example.com", ""]),
)
def test_no_trick_with_the_spelling(text: str, start: str) -> None:
    """Whatever an origin is made of: one that is let in is of this machine or below the domain, as browsers read it."""
    for origin in (start + text, text + start, f"{start}{text}.example.com", f"https://{text}localhost"):
        if told(("https://*.example.com",), origin) and not origin.lower().startswith(("app:", "file:", "tauri:")):
            parts = urlsplit(origin)
            assert (parts.scheme, parts.path, parts.query, parts.fragment, parts.username) in (
                ("http", "", "", "", None),
                ("https", "", "", "", None),
            )
            host = parts.hostname or ""
            assert host in ("localhost", "127.0.0.1", "0.0.0.0", "::1") or host.endswith(".example.com")


def test_the_hubs_own_pages() -> None:
    """A page from the address that the request goes to was served by the hub itself."""
    assert told((), "http://hub.example:9090", "hub.example:9090")
    assert told((), "https://hub.example", "HUB.example")
    assert not told((), "http://hub.example:9091", "hub.example:9090")
    assert not told((), "http://", "")


CASES: list[tuple[str, str, Any, int]] = [
    ("GET", "/api/tags", None, 200),
    ("GET", "/", None, 200),
    ("GET", "/nope", None, 404),
    ("POST", "/api/chat", CHAT, 200),
    ("POST", "/api/chat", CHAT | {"stream": True}, 200),
    ("POST", "/v1/chat/completions", CHAT | {"stream": True}, 200),
    ("POST", "/api/chat", CHAT | {"model": "nope"}, 404),
    ("POST", "/api/chat", [], 400),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), CASES)
async def test_what_a_page_is_told(free: RunningHub, method: str, path: str, body: Any, status: int) -> None:
    """Whole answers, streams and errors say that the page may read them, and which headers; without a page nothing."""
    answer = await call(free, method, path, body, Origin="http://localhost:3000")
    assert answer.status == status
    said = {name: answer.headers.get(name) for name in ("Access-Control-Allow-Origin", "Vary")}
    assert said == {"Access-Control-Allow-Origin": "http://localhost:3000", "Vary": "Origin"}
    assert answer.headers["Access-Control-Expose-Headers"] == ", ".join(EXPOSED)
    ours = {name.lower() for name in answer.headers if name.startswith("X-")} - {"x-accel-buffering"}
    assert ours <= set(map(str.lower, EXPOSED))
    plain = await call(free, method, path, body)
    assert not [name for name in plain.headers if name.startswith("Access-Control") or name == "Vary"]


async def test_a_401_can_be_read_by_a_page(keyed: RunningHub) -> None:
    """So that it can ask its user for a key."""
    answer = await call(keyed, "GET", "/api/tags", Origin="http://localhost:3000")
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (401, "http://localhost:3000")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/api/chat", "/v1/models/a%2Fb", "/health", "/no/such/path"])
async def test_preflights(hub: RunningHub, path: str) -> None:
    """204 on every path before any key is asked for; every plain name of a header is allowed."""
    wanted = "content-type, x-stainless-new, x-api-key, bad name, bad\u00e4, ,authorization"
    headers = {"Origin": "https://localhost:3000", "Access-Control-Request-Method": "DELETE"}
    answer = await call(hub, "OPTIONS", path, **headers, Access_Control_Request_Headers=wanted)
    assert (answer.status, answer.body) == (204, b"")
    told = {
        name: value for name, value in answer.headers.items() if name.startswith("Access-Control") or name == "Vary"
    }
    assert told == {
        "Access-Control-Allow-Origin": "https://localhost:3000",
        "Access-Control-Allow-Methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
        "Access-Control-Allow-Headers": "content-type, x-stainless-new, x-api-key, authorization",
        "Access-Control-Max-Age": "43200",
        "Access-Control-Expose-Headers": ", ".join(EXPOSED),
        "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }
    bare = await call(hub, "OPTIONS", path, **headers, Access_Control_Request_Private_Network="true")
    assert "Access-Control-Allow-Headers" not in bare.headers
    assert bare.headers["Access-Control-Allow-Private-Network"] == "true"


@pytest.mark.parametrize("headers", [{}, {"Access-Control-Request-Method": "POST"}], ids=["request", "preflight"])
async def test_foreign_pages_are_refused(hub: RunningHub, headers: dict[str, str], standin: Standin) -> None:
    """403 with an empty body, with and without keys, even with the right one; nothing is asked."""
    method = "OPTIONS" if headers else "POST"
    answer = await call(hub, method, "/api/chat", CHAT, Origin="https://evil.example", **bearer(USER), **headers)
    assert (answer.status, answer.body) == (403, b"")
    assert not [name for name in answer.headers if name.startswith("Access-Control")]
    assert not [received for received in standin.requests if received.method == "POST"]
    (line,) = [line for line in hub.lines if line["event"] == "agenthub.request_refused"]
    assert (line["error"], line["origin"]) == ("origin not allowed", "https://evil.example")


async def test_a_listed_page(upstream: str) -> None:
    """A page of [cors] origins calls with a key, and preflights without."""
    cors = CorsSettings(origins=("https://*.example.com",))
    async with running_hub(upstream, clients=CLIENTS, cors=cors) as hub:
        origin = {"Origin": "https://chat.example.com"}
        flight = await call(hub, "OPTIONS", "/api/chat", **origin, Access_Control_Request_Method="POST")
        without = await call(hub, "POST", "/api/chat", CHAT, **origin)
        answer = await call(hub, "POST", "/api/chat", CHAT, **origin, **bearer(USER))
    assert [flight.status, without.status, answer.status] == [204, 401, 200]
    assert {a.headers["Access-Control-Allow-Origin"] for a in (flight, without, answer)} == {"https://chat.example.com"}
