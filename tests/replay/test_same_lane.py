"""Every recorded request, sent through the adapter of its own dialect, gets the recorded answer.

Byte for byte, streamed and whole, but for what is listed here, each with its reason.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from agenthub.settings import BackendSettings, CorsSettings
from tests.hubs import RunningHub, running_hub
from tests.replay.exchanges import LLAMA, OLLAMA, Exchange, exchanges, find
from tests.replay.oracle import Said, error_body, refusal
from tests.replay.wire import Message, Player, playing, send

GUARDED = {
    "ollama-0.9.3/168-options-preflight": "a preflight from localhost is answered",
    "ollama-0.9.3/170-origin-forbidden": "a foreign origin is refused",
    "ollama-0.9.3/171-host-forbidden": "a foreign host is refused on a loopback listener",
    "llama-server-2026/51-options": "a preflight is answered",
}
"""What is meant for browsers."""
ORIGIN_HEADERS = ("Access-Control-Allow-Origin", "Access-Control-Max-Age")
"""What is told in the very words of the recorded server."""
LISTED = {"/api/tags", "/api/ps", "/api/version", "/v1/models", "/v1/models/tiny", "/v1/models/tiny:latest"}
"""What the hub answers for all its backends: the same JSON, written anew."""
NOTHING_USED = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
JSON_ANSWERS: dict[str, tuple[Any, str]] = {
    "ollama-0.9.3-no-models/02-v1-models-no-models": (
        {"object": "list", "data": []},
        "no models are an empty list; Ollama's null breaks clients",
    ),
    "ollama-0.9.3/140-v1-completions-empty-prompt": (
        {"choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}], "usage": NOTHING_USED},
        "a model that was loaded; OpenAI's clients know no such reason",
    ),
    "llama-server-2026/01-health": ({"status": "ok"}, "the hub's own health, which happens to be llama.cpp's too"),
}
"""Members of answers of status 200 that are others than the recorded, and why."""
MESSAGES_WANTED = "[] is too short - 'messages'"
REFUSED: dict[str, tuple[int, str, str]] = {
    "ollama-0.9.3/31-generate-format-bad": (
        400,
        'invalid format: "\\"yaml\\""; expected "json" or a valid JSON Schema object',
        "the request is at fault, whatever number Ollama puts on it",
    ),
    "llama-server-2026/15-v1-chat-no-model": (400, "model is required", "a hub routes by the model"),
    "llama-server-2026/22-v1-chat-no-messages": (400, MESSAGES_WANTED, "refused in Ollama's words, before it is sent"),
    "llama-server-2026/23-v1-chat-empty-messages": (400, MESSAGES_WANTED, "as Ollama does: there is nothing to answer"),
    "llama-server-2026/24-v1-chat-malformed": (400, "unexpected EOF", "a client's mistake is no 500"),
    "llama-server-2026/25-v1-chat-empty-body": (400, "EOF", "a client's mistake is no 500"),
    "llama-server-2026/26-v1-chat-wrong-type": (
        400,
        "json: cannot unmarshal string into Go struct field ChatCompletionRequest.messages of type []openai.Message",
        "refused in Ollama's words, before it is sent",
    ),
    "llama-server-2026/27-v1-chat-bad-temperature": (
        400,
        "json: cannot unmarshal string into Go struct field ChatCompletionRequest.temperature of type float64",
        "refused in Ollama's words, before it is sent",
    ),
    "llama-server-2026/41-v1-chat-invalid-utf8": (
        400,
        "the body is not UTF-8: invalid byte 0xff",
        "a client's mistake is no 500",
    ),
    "llama-server-2026/50-wrong-method": (
        405,
        "405 method not allowed: GET /v1/chat/completions, allowed: POST",
        "the path is known, as Ollama says too",
    ),
    "llama-server-2026-key/02-chat-no-key": (400, "model is required", "a hub routes by the model"),
    "llama-server-2026-key/03-chat-bad-key": (400, "model is required", "a hub routes by the model"),
    "llama-server-2026-key/04-chat-good-key": (400, "model is required", "a hub routes by the model"),
}
"""Refusals that are others than the recorded answer: status, text, and why."""
OWN_PATHS = {
    "llama-server-2026/04-v1-model": "one model can be asked for; llama.cpp only lists them",
    "llama-server-2026/05-models": "no path of either dialect",
    "llama-server-2026/06-props": "no path of either dialect",
    "llama-server-2026/07-slots": "no path of either dialect",
    "llama-server-2026/08-metrics": "the hub's own, once it has one",
    "llama-server-2026/46-completion-native": "no path of either dialect",
    "llama-server-2026/48-tokenize": "no path of either dialect",
    "llama-server-2026/49-unknown-path": "refused in Ollama's words, and not asked for upstream",
    "llama-server-2026/09-api-tags": "an Ollama client sees llama.cpp's models",
    "llama-server-2026/10-api-version": "an Ollama client sees a version",
    "llama-server-2026/02-root-head": "an Ollama client sees that the server runs",
    "ollama-0.9.3/163-head-v1-models": "HEAD is answered wherever GET is",
}
"""Where the hub's face is another than that server's: answered by the hub itself, never by a crash."""
BROKEN_OFF = {
    "ollama-0.9.3/181-client-disconnect-midstream": "the recorder hung up",
    "ollama-0.9.3-runner-killed/06-runner-killed-v1-chat-stream": "Ollama hides on /v1 that its model died",
    "ollama-0.9.3-runner-killed/08-runner-killed-v1-completions-stream": "Ollama hides on /v1 that its model died",
}
"""Streams without their end mark: what came arrives untouched, then an error that the upstream did not send."""
NOT_HTTP = {
    "ollama-0.9.3/175-no-host": "HTTP/1.1 wants a Host header",
    "ollama-0.9.3/176-garbage": "not HTTP at all",
}
"""Refused by aiohttp's parser: there is no request, and so no dialect, to answer in."""
KEY_REFUSED = {"llama-server-2026-key/01-models-no-key": "the hub's own key was refused, not its client's"}
SLASHES = {
    "ollama-0.9.3/164-trailing-slash": (200, ""),
    "ollama-0.9.3/165-double-slash": (301, "/api/tags"),
}
"""Redirects of Ollama's: one slash at the end is answered at once, since not every client follows with its body."""
ELSEWHERE = set().union(GUARDED, JSON_ANSWERS, REFUSED, OWN_PATHS, BROKEN_OFF, NOT_HTTP, SLASHES, KEY_REFUSED)

NATIVE = [exchange for exchange in exchanges(*OLLAMA) if not exchange.path.startswith("/v1")]
OPENAI = [exchange for exchange in exchanges(*OLLAMA) if exchange.path.startswith("/v1")] + list(exchanges(*LLAMA))
LANES = [(exchange, "native") for exchange in NATIVE] + [(exchange, "openai") for exchange in OPENAI]
USUAL = [lane for lane in LANES if lane[0].name not in ELSEWHERE]


def plain(url: str) -> dict[str, BackendSettings]:
    """A server that nobody takes for an Ollama, for which the lane of OpenAI's dialect changes some words."""
    return {"ollama": BackendSettings(url, flavour="generic")}


def by_name(value: Exchange | str) -> str:
    return value if isinstance(value, str) else value.name


def lanes(*names: str) -> list[tuple[Exchange, str]]:
    """The lanes of these exchanges; fails for a name that is none."""
    found = [lane for lane in LANES if lane[0].name in names]
    assert len(found) == len(names), set(names) - {exchange.name for exchange, _ in found}
    return found


async def replay(exchange: Exchange, mode: str) -> tuple[Message, Player]:
    """Send the recorded request through a hub to an upstream that gives the recorded answer."""
    # llama.cpp lets any page call.
    cors = CorsSettings(origins=("*",) if exchange.server in LLAMA else ())
    async with playing(exchange) as (upstream, player), running_hub(plain(upstream), api_mode=mode, cors=cors) as hub:
        answer = await send(hub.url, exchange.request())
        check_every_answer(hub, answer)
        return answer, player


def check_every_answer(hub: RunningHub, answer: Message) -> None:
    """What holds for all answers: complete, with an id, with nothing dropped, and without a crash behind it."""
    assert answer.complete
    assert not answer.header("X-AgentHub-Dropped")
    assert not [line for line in hub.lines if line["event"] == "agenthub.request_crashed"]


def dialect_of(exchange: Exchange) -> str:
    return "openai" if exchange.path.startswith("/v1") else "ollama"


def check_error(answer: Message, exchange: Exchange, said: Said) -> None:
    """An error of this status and text, in exactly the dialect's shape."""
    body = json.loads(answer.body)
    param = body["error"]["param"] if dialect_of(exchange) == "openai" else None
    assert (answer.status, body) == (said.status, error_body(said, dialect_of(exchange), param))
    assert param is None or param in exchange.body.decode("utf-8", "replace") + " model messages input"
    assert answer.content_type == "application/json"


@pytest.mark.parametrize(("exchange", "mode"), [lane for lane in USUAL if lane[0].status < 400], ids=by_name)
async def test_an_answer_is_the_recorded_one(exchange: Exchange, mode: str) -> None:
    """Status, type and every byte of the body; frames are never cut; the upstream got the request's own bytes."""
    answer, player = await replay(exchange, mode)
    assert (answer.status, answer.content_type) == (exchange.status, exchange.content_type)
    assert answer.header("X-Request-Id")
    if exchange.path.partition("?")[0] in LISTED and exchange.method != "HEAD":
        assert json.loads(answer.body) == listed(exchange)
        return
    assert answer.body == exchange.answer
    end = b"\n\n" if exchange.content_type == "text/event-stream" else b"\n"
    assert not exchange.streamed or all(chunk.endswith(end) for chunk in answer.chunks)
    if exchange.method in ("POST", "DELETE"):
        (asked,) = player.asked
        sent = exchange.request().partition(b"\r\n\r\n")[2]
        assert (asked.path, asked.body) == (exchange.path, asked_body(sent, exchange))


def asked_body(sent: bytes, exchange: Exchange) -> bytes:
    """The request's body without the chunks that it came in."""
    if b"Transfer-Encoding: chunked" not in exchange.request():
        return sent
    lines = sent.split(b"\r\n")
    return b"".join(lines[1::2])


def listed(exchange: Exchange) -> Any:
    """The recorded list; of llama.cpp's two lists in one body, OpenAI's."""
    body = json.loads(exchange.answer)
    if exchange.path == "/api/ps":
        return {"models": sorted(body["models"], key=lambda model: str(model["expires_at"]), reverse=True)}
    if exchange.server == "llama-server-2026" and exchange.path == "/v1/models":
        return {"object": body["object"], "data": body["data"]}
    return body


@pytest.mark.parametrize(("exchange", "mode"), [lane for lane in USUAL if lane[0].status >= 400], ids=by_name)
async def test_a_refusal_is_the_recorded_one(exchange: Exchange, mode: str) -> None:
    """Status and text; the body has exactly the dialect's shape, whatever shape the upstream used."""
    recorded = refusal(exchange)
    answer, player = await replay(exchange, mode)
    allowed = answer.header("Allow")
    assert bool(allowed) is (exchange.status == 405)
    text = path_refusal(exchange, recorded.error, allowed)
    check_error(answer, exchange, recorded if player.asked else Said(recorded.status, error=text))


def path_refusal(exchange: Exchange, text: str, allowed: str = "") -> str:
    """Ollama's words for a path or a method that it lacks, and behind them the hub's: what was asked."""
    if not text.endswith(("page not found", "method not allowed")):
        return text
    asked = f"{text}: {exchange.method} {exchange.path.partition('?')[0]}"
    if exchange.path == "/v1/responses":
        asked += " (AgentHub does not serve OpenAI's Responses API yet)"
    return f"{asked}, allowed: {allowed}" if allowed else asked


@pytest.mark.parametrize(("exchange", "mode"), lanes(*KEY_REFUSED), ids=by_name)
async def test_a_key_of_the_hub_that_is_refused(exchange: Exchange, mode: str) -> None:
    """A 502 with the upstream's words, that names the setting."""
    answer, _ = await replay(exchange, mode)
    text = json.loads(answer.body)["error"]["message"]
    assert answer.status == 502
    assert refusal(exchange).error in text
    assert text.endswith(".api_key")


@pytest.mark.parametrize(("exchange", "mode"), lanes(*SLASHES), ids=by_name)
async def test_slashes_too_many(exchange: Exchange, mode: str) -> None:
    """The listed status and place."""
    answer, _ = await replay(exchange, mode)
    assert (int(answer.start.split()[1]), answer.header("Location")) == SLASHES[exchange.name]


@pytest.mark.parametrize(("exchange", "mode"), lanes(*REFUSED), ids=by_name)
async def test_what_is_refused_in_another_way(exchange: Exchange, mode: str) -> None:
    """The listed status and text, in the dialect's shape."""
    status, text, _ = REFUSED[exchange.name]
    answer, player = await replay(exchange, mode)
    assert player.asked == []
    check_error(answer, exchange, Said(status, error=text))


@pytest.mark.parametrize(("exchange", "mode"), lanes(*JSON_ANSWERS), ids=by_name)
async def test_what_is_answered_in_another_way(exchange: Exchange, mode: str) -> None:
    """The listed members, and no error."""
    answer, _ = await replay(exchange, mode)
    body, members = json.loads(answer.body), JSON_ANSWERS[exchange.name][0]
    assert (answer.status, {name: body[name] for name in members}) == (exchange.status, members)


@pytest.mark.parametrize(("exchange", "mode"), lanes(*OWN_PATHS), ids=by_name)
async def test_the_hubs_own_face(exchange: Exchange, mode: str) -> None:
    """Answered, or refused in the dialect's shape."""
    answer, _ = await replay(exchange, mode)
    if answer.status == 200:
        shown = json.loads(answer.body) if answer.content_type == "application/json" and answer.body else {}
        assert "error" not in shown
        assert bool(answer.body) == (exchange.method != "HEAD")
    else:
        check_error(answer, exchange, Said(404, error=path_refusal(exchange, "404 page not found")))


@pytest.mark.parametrize(("exchange", "mode"), lanes(*BROKEN_OFF), ids=by_name)
async def test_a_stream_that_was_cut_ends_with_an_error(exchange: Exchange, mode: str) -> None:
    """Every recorded byte, then one error frame: no forged end, no ``[DONE]``."""
    answer, _ = await replay(exchange, mode)
    assert answer.status == 200
    came, end = answer.body[: len(exchange.answer)], answer.body[len(exchange.answer) :]
    assert came == exchange.answer
    body = json.loads(end.removeprefix(b"data: "))
    openai = dialect_of(exchange) == "openai"
    assert end == (b"data: %b\n\n" if openai else b"%b\n") % json.dumps(body, separators=(",", ":")).encode()
    text = "the upstream ended the stream without " + ("a finish reason" if openai else "done")
    error = {"message": text, "type": "server_error", "param": None, "code": "upstream_error"} if openai else text
    # The recorder hung up inside an HTTP body, which is a connection that broke.
    assert body == {"error": error if exchange.complete else "backend ollama broke off the connection"}


@pytest.mark.parametrize(("exchange", "mode"), lanes(*NOT_HTTP), ids=by_name)
async def test_what_is_no_request(exchange: Exchange, mode: str) -> None:
    """400 and a closed connection, as from Ollama; nothing is sent upstream."""
    async with playing(exchange) as (upstream, player), running_hub(plain(upstream), api_mode=mode) as hub:
        answer = await send(hub.url, exchange.request())
    assert (answer.status, player.asked) == (400, [])


@pytest.mark.parametrize(("exchange", "mode"), lanes(*GUARDED), ids=by_name)
async def test_browsers(exchange: Exchange, mode: str) -> None:
    """Preflights, origins and hosts are treated as Ollama treats them; llama.cpp's 200 to a preflight may be a 204."""
    answer, _ = await replay(exchange, mode)
    assert (answer.status // 100, answer.body) == (exchange.status // 100, exchange.answer)
    told = {name: value for name, value in exchange.answer_headers if name in ORIGIN_HEADERS}
    assert {name: answer.header(name) for name in told} == told


@pytest.mark.parametrize("exchange", [exchange for exchange in exchanges(*OLLAMA) if exchange.streamed], ids=by_name)
def test_the_recordings_hold_what_they_should(exchange: Exchange) -> None:
    """Each frame came in a chunk of its own, so that what is compared are streams and no lumps."""
    end = b"\n\n" if exchange.content_type == "text/event-stream" else b"\n"
    assert exchange.framing == "until close" or all(part.endswith(end) for part in exchange.parts)


def test_all_are_there() -> None:
    """The number of exchanges, so that none gets lost; the length of each body is the one its header tells."""
    assert len(exchanges()) == 255
    for exchange in exchanges():
        length = dict(exchange.answer_headers).get("Content-Length")
        assert length is None or exchange.method == "HEAD" or int(length) == len(exchange.answer)
    assert find("ollama-0.9.3/58-chat-stream").parts[0].startswith(b'{"model":"tiny"')
