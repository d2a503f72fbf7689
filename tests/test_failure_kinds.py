"""Every kind of failure: who else may be asked, whether the client need ask again, and what the breaker counts."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import pytest

from agenthub.middleware.circuit_breaker import CircuitBreaker
from agenthub.settings import BackendSettings, HealthSettings, RetrySettings
from tests.faults.test_matrix import deaf_port
from tests.hubs import RunningHub, error_of, running_hub
from tests.raw_upstream import CLOSE, RESET, SILENCE, Act, Asked, RawUpstream, chunked, message, proper, raw_upstream
from tests.upstreams import HI

QUIET = HealthSettings(models_refresh_s=0, interval_s=0)
CHAT = ("/api/chat", {"model": "m", "messages": HI})
WITH_A_TOOL = (
    "/v1/chat/completions",
    {
        "model": "m",
        "messages": HI,
        "tool_choice": "required",
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    },
)
DIED = "llama runner process has terminated: exit status 2"
STOPPED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)

PART = b'{"model":"m","message":{"role":"assistant","con'


def status(code: int, text: str = "no", head: str = "") -> Act:
    return Act(message(json.dumps({"error": text}).encode(), status=f"{code} Reason", head=head))


@attrs.frozen
class Kind:
    """A failure of the backend that is asked first, and what becomes of it.

    ``status`` is the answer where no other backend has the model. ``moves`` says that another answers where one has it,
    ``may_ask`` that the client of the failure is not told to leave it be, ``failures`` what the breaker counts for the
    one request, and ``sent`` how often it reaches the lone backend within two attempts.
    """

    act: Act | str
    status: int
    moves: bool
    may_ask: bool
    failures: int
    sent: int = 1
    is_reused: bool = False
    asks: tuple[str, Any] = CHAT
    backend: dict[str, Any] = attrs.field(factory=dict)
    headers: dict[str, str] = attrs.field(factory=dict)


KINDS = {
    #                                              status moves  may_ask failures
    "refused": Kind("refused", 502, moves=True, may_ask=True, failures=1, sent=0),
    "no connection in time": Kind(
        "deaf", 504, moves=True, may_ask=True, failures=1, sent=0, backend={"connect_timeout_s": 0.3}
    ),
    "closed at once, new": Kind(CLOSE, 502, moves=True, may_ask=True, failures=1),
    "reset at once, new": Kind(RESET, 502, moves=True, may_ask=True, failures=1),
    "closed at once, reused": Kind(CLOSE, 502, moves=True, may_ask=False, failures=1, sent=2, is_reused=True),
    "reset at once, reused": Kind(RESET, 502, moves=True, may_ask=False, failures=1, sent=2, is_reused=True),
    "closed in the head": Kind(Act(b"HTTP/1.1 2", "FIN"), 502, moves=True, may_ask=True, failures=1, is_reused=True),
    "closed after the head": Kind(Act(chunked(b""), "FIN"), 502, moves=True, may_ask=True, failures=1),
    "closed in the first event": Kind(Act(chunked(PART), "FIN"), 502, moves=True, may_ask=True, failures=1),
    "no content": Kind(Act(b"HTTP/1.1 204 No Content\r\n\r\n"), 502, moves=True, may_ask=True, failures=1),
    "ended before the first event": Kind(
        Act(chunked(b"") + b"0\r\n\r\n"), 502, moves=True, may_ask=True, failures=1
    ),
    "an empty 200": Kind(Act(message(b"")), 502, moves=True, may_ask=True, failures=1),
    "silent": Kind(
        SILENCE, 504, moves=True, may_ask=True, failures=1, backend={"first_event_timeout_s": 0.3}
    ),
    "no HTTP": Kind(Act(b"\x00\x01garbage\r\n\r\n"), 502, moves=True, may_ask=True, failures=1),
    "no JSON": Kind(Act(message(b"<html>")), 502, moves=True, may_ask=True, failures=1),
    "JSON that is no answer": Kind(
        Act(message(b'{"choices":5}')), 502, moves=True, may_ask=True, failures=0
    ),
    "a line that is no answer": Kind(
        Act(chunked(b'{"message":{"content":true}}\n') + b"0\r\n\r\n"), 502, moves=True, may_ask=True, failures=0
    ),
    "500": Kind(status(500), 500, moves=True, may_ask=True, failures=1),
    "500, the runner died": Kind(status(500, DIED), 500, moves=True, may_ask=True, failures=1),
    "500, the client's fault": Kind(
        status(500, 'option "top_k" must be of type integer'), 500, moves=False, may_ask=True, failures=0
    ),
    "501": Kind(status(501), 501, moves=True, may_ask=False, failures=0),
    "502": Kind(status(502), 502, moves=True, may_ask=True, failures=1),
    "503, later than may be waited": Kind(
        status(503, head="Retry-After: 60\r\n"), 503, moves=True, may_ask=True, failures=1
    ),
    "503, soon": Kind(
        status(503, head="Retry-After: 0\r\n"), 503, moves=True, may_ask=False, failures=2, sent=2
    ),
    "429": Kind(status(429, head="Retry-After: 0\r\n"), 429, moves=True, may_ask=False, failures=0, sent=2),
    "404": Kind(status(404, "model 'm' not found"), 404, moves=True, may_ask=True, failures=0),
    "400": Kind(status(400), 400, moves=False, may_ask=True, failures=0),
    "401": Kind(status(401), 502, moves=True, may_ask=False, failures=0),
    "403": Kind(status(403), 502, moves=True, may_ask=False, failures=0),
    # Of a strict client, and the model is asked twice: the second time for nothing but the call.
    "no tool called": Kind(proper(Asked("POST", "/api/chat", b"{}", 1, 1)), 502, moves=False, may_ask=False,
                           failures=0, sent=2, asks=WITH_A_TOOL, headers={"X_AgentHub_Strict": "true"}),
    "breaker open": Kind("open", 503, moves=True, may_ask=False, failures=0, sent=0),
    "queue full": Kind("full", 503, moves=True, may_ask=False, failures=0, sent=0,
                       backend={"max_concurrency": 1, "queue_size": 0}),
}  # fmt: skip


@asynccontextmanager
async def case(kind: Kind, *others: str) -> AsyncIterator[tuple[RunningHub, RawUpstream]]:
    """A hub whose backend ``first`` fails so, with ``others`` behind it."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(raw_upstream())
        backends = {"first": BackendSettings(url=first.url, **kind.backend)}
        backends |= {f"other{number}": BackendSettings(url=url) for number, url in enumerate(others)}
        hub = await stack.enter_async_context(running_hub(backends, health=QUIET))
        await hub.hub.router.refresh()
        await prepare(kind, hub, first, stack)
        yield hub, first


async def prepare(kind: Kind, hub: RunningHub, first: RawUpstream, stack: AsyncExitStack) -> None:
    if not kind.is_reused:
        hang_up(first)
    first.asked.clear()
    if kind.act == "refused":
        move(hub, "first", "http://127.0.0.1:1")
    elif kind.act == "deaf":
        move(hub, "first", f"http://127.0.0.1:{stack.enter_context(deaf_port())}")
    elif kind.act == "open":
        breaker = breaker_of(hub)
        for _ in range(3):
            breaker.failed(breaker.admit())
    elif kind.act == "full":
        assert hub.hub.router.backends["first"].slots.take()
    else:
        act = kind.act
        assert isinstance(act, Act)
        first.act = lambda asked: act


def hang_up(upstream: RawUpstream) -> None:
    """End the idle connections of the hub, so that its next request takes a new one."""
    for writer in upstream.writers:
        made: Any = writer.get_extra_info("socket")
        made.shutdown(socket.SHUT_RDWR)


def move(hub: RunningHub, name: str, url: str) -> None:
    """Have a backend be at another URL from now on, its list being known."""
    upstream: Any = hub.hub.router.backends[name].adapters["native"].upstream  # type: ignore[attr-defined]
    upstream.settings = attrs.evolve(upstream.settings, url=url)
    upstream._urls.clear()


def breaker_of(hub: RunningHub, name: str = "first") -> Any:
    (layer,) = [layer for layer in hub.hub.dispatcher.middleware if isinstance(layer, CircuitBreaker)]
    return layer.breaker(name)


@pytest.mark.parametrize("name", KINDS)
async def test_no_other_has_it(name: str) -> None:
    """The failure is the answer; x-should-retry says whether the client may ask again at once."""
    kind = KINDS[name]
    async with case(kind) as (hub, first):
        before = breaker_of(hub).failures
        answer = await hub.post(*kind.asks, **kind.headers)
        assert answer.status == kind.status, answer.text
        assert ("x-should-retry" not in answer.headers) is kind.may_ask
        assert breaker_of(hub).failures - before == kind.failures
        assert len(first.asked) == kind.sent


@pytest.mark.parametrize("name", KINDS)
async def test_another_has_it(name: str) -> None:
    """What another backend may answer it does, and the first was asked once at the most."""
    kind = KINDS[name]
    async with raw_upstream() as other, case(kind, other.url) as (hub, first):
        answer = await hub.post(*kind.asks, **kind.headers)
        assert answer.status == (200 if kind.moves else kind.status), answer.text
        assert len(other.of("/api/chat")) == kind.moves
        assert len(first.asked) == (min(kind.sent, 1) if kind.moves else kind.sent)


DEADLY = {
    "closed": CLOSE,
    "reset": RESET,
    "closed in the head": Act(b"HTTP/1.1 200 OK\r\nConte", "FIN"),
    "closed after the head": Act(chunked(b""), "FIN"),
    "closed in the first event": Act(chunked(PART), "FIN"),
    "ended before the first event": Act(chunked(b"") + b"0\r\n\r\n"),
    "an empty 200": Act(message(b"")),
    "a body without a length": Act(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + PART, "FIN"),
    "the runner died": status(500, DIED),
    "the runner stopped": status(500, STOPPED),
    "Envoy": status(503, "upstream connect error or disconnect/reset before headers. reset reason: overflow"),
    "LiteLLM": status(500, "Server disconnected without sending a response."),
    "a broken pipe": status(500, "write tcp 127.0.0.1:1->127.0.0.1:2: write: broken pipe"),
    "the runner's connection": status(500, 'do embedding request: Post "http://127.0.0.1:4/embedding": EOF'),
    "another hub's word": status(502, "the request broke off x and y, so it is sent to no other backend: EOF"),
    "another hub's backend": status(502, "backend x broke off the connection"),
    "a whole 200 that is an error": Act(message(json.dumps({"error": STOPPED}).encode())),
    "the first line": Act(chunked(json.dumps({"error": f"an error was encountered: {DIED}"}).encode() + b"\n")),
}
HARMLESS = {
    "500": status(500, "no"),
    "503": status(503, "busy"),
    "429": status(429, "busy"),
    "404": status(404, "not found"),
    "501": status(501, "no embeddings"),
    "no JSON": Act(message(b"<html>")),
    "JSON that is no answer": Act(message(b'{"choices":5}')),
    "the same without a length": Act(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}", "FIN"),
}


@asynccontextmanager
async def row(*acts: Act, attempts: int = 9) -> AsyncIterator[tuple[RunningHub, list[RawUpstream]]]:
    """A hub with a backend for each act, named a, b, c ..., asked in this order, and none reused."""
    async with AsyncExitStack() as stack:
        upstreams = [await stack.enter_async_context(raw_upstream(acting(act))) for act in acts]
        backends = {
            name: BackendSettings(url=one.url, priority=9 - number)
            for number, (name, one) in enumerate(zip("abcde", upstreams, strict=False))
        }
        settings = {"health": QUIET, "retries": RetrySettings(attempts=attempts)}
        yield await stack.enter_async_context(running_hub(backends, **settings)), upstreams


def acting(act: Act) -> Callable[[Asked], Act]:
    return lambda asked: proper(asked) if asked.method == "GET" else act


def counts(upstreams: list[RawUpstream]) -> list[int]:
    return [len(one.of("/api/chat", "/v1/chat")) for one in upstreams]


@pytest.mark.parametrize("is_reused", [False, True], ids=["new", "reused"])
@pytest.mark.parametrize("act", DEADLY.values(), ids=DEADLY)
async def test_what_broke_off_two_goes_to_no_third(act: Act, is_reused: bool) -> None:
    """However many attempts are left; the client hears which two, and need not ask again."""
    good = proper(Asked("POST", "/api/chat", json.dumps(CHAT[1]).encode(), 1, 1))
    async with row(act, act, good) as (hub, upstreams):
        await hub.hub.router.refresh()
        if not is_reused:
            for one in upstreams:
                hang_up(one)
        answer = await hub.post(*CHAT)
        assert counts(upstreams) == [1, 1, 0]
        assert (answer.status, answer.headers["x-should-retry"]) == (502, "false")
        assert error_of(answer.json()).startswith("the request broke off a and b, so it is sent to no other backend: ")


@pytest.mark.parametrize("act", HARMLESS.values(), ids=HARMLESS)
async def test_what_has_an_answer_goes_on(act: Act) -> None:
    """A backend that answers, in whatever words, did not die of the request."""
    async with row(act, act, act, Act(message(b'{"done":true,"message":{"content":"hey"}}'))) as (hub, upstreams):
        assert (await hub.post("/api/chat", CHAT[1] | {"stream": False})).status == 200
        assert counts(upstreams) == [1, 1, 1, 1]


async def test_what_was_never_sent_goes_on() -> None:
    """Refused connections are no break-off, however many."""
    good = Act(message(b'{"done":true,"message":{"content":"hey"}}'))
    async with row(good, good, good) as (hub, upstreams):
        await hub.hub.router.refresh()
        for name in "ab":
            move(hub, name, "http://127.0.0.1:1")
        assert (await hub.post("/api/chat", CHAT[1] | {"stream": False})).status == 200
        assert counts(upstreams) == [0, 0, 1]


async def test_two_of_several_failures() -> None:
    """What fails otherwise in between takes nothing from the count."""
    async with row(CLOSE, status(500), status(500, DIED), CLOSE) as (hub, upstreams):
        answer = await hub.post("/v1/chat/completions", CHAT[1])
        assert (answer.status, counts(upstreams)) == (502, [1, 1, 1, 0])
        assert error_of(answer.json()).startswith("the request broke off a and c, ")


@pytest.mark.parametrize("attempts", [2, 3])
async def test_the_last_failure_of_two_backends(attempts: int) -> None:
    """Where there is no third, the client hears the same."""
    async with row(CLOSE, status(500, DIED), attempts=attempts) as (hub, upstreams):
        answer = await hub.post(*CHAT)
        assert (answer.status, counts(upstreams)) == (502, [1, 1])
        assert error_of(answer.json()).endswith(DIED)


async def test_one_attempt_stays_with_one_backend() -> None:
    """``retries.attempts = 1``: the failure is the answer, and the client may ask again."""
    async with row(CLOSE, CLOSE, attempts=1) as (hub, upstreams):
        answer = await hub.post(*CHAT)
        assert (answer.status, counts(upstreams)) == (502, [1, 0])
        assert error_of(answer.json()) == "backend a broke off the connection"
        assert "x-should-retry" not in answer.headers


async def test_back_to_a_backend_that_may_not_have_read_it() -> None:
    """Its reused connection was closed, and the other takes nothing at the moment: it is asked again."""
    kind = KINDS["closed at once, reused"]
    async with raw_upstream() as other, case(kind, other.url) as (hub, first):
        first.act = lambda asked: CLOSE if asked.is_reused else proper(asked)
        breaker = breaker_of(hub, "other0")
        for _ in range(3):
            breaker.failed(breaker.admit())
        answer = await hub.post("/api/chat", CHAT[1] | {"stream": False})
        assert (answer.status, answer.headers["X-AgentHub-Backend"]) == (200, "first")
        assert [asked.is_reused for asked in first.asked] == [True, False]
        assert other.of("/api/chat") == []
        assert breaker_of(hub).failures == 0
