"""Prompts put better on their way: X-Enhance, auto_enhance, and what the answer says of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from agenthub.settings import BackendSettings, ClientSettings, ModelSettings
from agenthub.standin import Standin, running
from tests.enhancement.support import BETTER, Rewriter, a_rule, by_rules, is_rewriting
from tests.hubs import ONCE, RunningHub, running_hub, until
from tests.tap import tapped
from tests.test_openapi import DESCRIBED
from tests.upstreams import PATHS, Reply, serving

pytestmark = pytest.mark.parametrize("adapter", ["native", "openai"])
ENHANCED = "X-AgentHub-Enhanced"
PROMPT = "make it better"
BODIES: dict[str, dict[str, Any]] = {
    "/api/chat": {"model": "m", "messages": [{"role": "user", "content": PROMPT}], "stream": False},
    "/api/generate": {"model": "m", "prompt": PROMPT, "stream": False},
    "/v1/chat/completions": {"model": "m", "messages": [{"role": "user", "content": PROMPT}]},
    "/v1/completions": {"model": "m", "prompt": PROMPT},
}
AUTO = {"auto": ClientSettings(auto_enhance=True)}


def asked(body: Any) -> str:
    """Return the prompt that an upstream was to answer."""
    return str(body["prompt"] if "prompt" in body else body["messages"][-1]["content"])


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_on_each_endpoint(adapter: str, path: str, stream: bool) -> None:
    """The upstream answers the better prompt; the answer and its log line name the rule."""
    rewriter = Rewriter()
    async with (
        serving(rewriter) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=by_rules(ed=a_rule(version="2"))) as hub,
    ):
        headers = {"X_Enhance": "true", "X_Client_Name": "ed"}
        answer = await hub.post(path, BODIES[path] | {"stream": stream}, **headers)
        assert answer.status == 200
        DESCRIBED.check_headers(DESCRIBED.operation("POST", path)["responses"]["200"]["headers"], answer)
        errand, own = hub.dispatches()
    assert answer.headers[ENHANCED] == "ed@2"
    assert [asked(body) for body in rewriter.answered] == [BETTER]
    assert len(rewriter.rewrote) == 1
    assert (errand["enhancing"], own["enhanced"]) == ("ed@2", "ed@2")
    assert not {"enhanced", "stream"} & {name for name, value in errand.items() if value}
    assert (errand["request_id"], "enhancing" in own) == (own["request_id"], False)


async def test_only_who_wants_it(adapter: str) -> None:
    """The header says so, or the client's setting; the header may also say no to that. The rest goes untouched."""
    rewriter = Rewriter()
    wishes: list[tuple[dict[str, str], str | None]] = [
        ({}, None),
        ({"X_Enhance": "false"}, None),
        ({"X_Enhance": "maybe"}, None),
        ({"X_Enhance": "TRUE"}, "default@1"),
        ({"X_Client_Name": "auto"}, "default@1"),
        ({"X_Client_Name": "auto", "X_Enhance": "false"}, None),
        ({"X_Client_Name": "other"}, None),
    ]
    async with (
        serving(rewriter) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=by_rules(), clients=AUTO) as hub,
    ):
        for headers, said in wishes:
            answer = await hub.post("/api/chat", BODIES["/api/chat"], **headers)
            assert (answer.status, answer.headers.get(ENHANCED)) == (200, said), headers
            assert asked(rewriter.answered[-1]) == (BETTER if said else PROMPT)
        embedded = await hub.post("/api/embed", {"model": "m", "input": "text"}, X_Enhance="true")
        assert (embedded.status, ENHANCED in embedded.headers) == (200, False)
        assert ["enhanced" in line for line in hub.dispatches() if "enhancing" not in line] == [
            *(said is not None for _, said in wishes), False
        ]  # fmt: skip


async def test_everything_else_stays_byte_for_byte(adapter: str) -> None:
    """Where the dialects agree, the upstream gets the client's own bytes, but for the one text."""
    path = PATHS["ollama" if adapter == "native" else "openai"]
    image = '"images":["aGk="],' if adapter == "native" else ""
    sent = (
        '{ "model":"standin", "temperature": 0.50,\n "messages":[ {"role":"system","content":"s\\u00e9"},'
        f'{{{image}"role":"user", "content": @ }} ],"tools":[{{"type":"function","function":{{"name":"f","n":1e2}}}}],'
        '"stream":false , "unknown":{"a":[1.0]} }'
    )
    standin = Standin(text=BETTER)
    async with (
        running(standin) as url,
        running_hub(url, api_mode=adapter, enhancement=by_rules(a_rule(model="standin"))) as hub,
    ):
        answer = await hub.post(path, sent.replace("@", json.dumps(PROMPT)).encode(), X_Enhance="true")
        assert answer.headers[ENHANCED] == "default@1"
        bodies = [received.body for received in standin.requests if received.path == path]
    assert bodies[1:] == [sent.replace("@", json.dumps(BETTER)).encode()]


async def test_content_parts(adapter: str) -> None:
    """Of OpenAI's parts only the last text of the last user message; the image and the other texts stay."""
    rewriter = Rewriter()
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    parts = [{"type": "text", "text": "about this:"}, image, {"type": "text", "text": PROMPT}]
    body = {"model": "m", "messages": [{"role": "user", "content": "before"}, {"role": "user", "content": parts}]}
    async with (
        serving(rewriter) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=by_rules()) as hub,
    ):
        answer = await hub.post("/v1/chat/completions", body, X_Enhance="true")
        assert answer.headers[ENHANCED] == "default@1"
    (told,) = rewriter.rewrote
    assert told["messages"][-1] == {"role": "user", "content": PROMPT}
    (sent,) = rewriter.answered
    assert sent["messages"][0] == {"role": "user", "content": "before"}
    last = sent["messages"][1]
    if adapter == "openai":
        assert last["content"] == [parts[0], image, {"type": "text", "text": BETTER}]
    else:
        assert (last["content"], last["images"]) == (f"about this:\n{BETTER}", ["aGk="])


async def test_the_requests_own_model_where_the_rule_names_none(adapter: str) -> None:
    """It rewrites the prompt, then answers it."""
    rewriter = Rewriter()
    async with (
        serving(rewriter) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=by_rules(a_rule(model=""))) as hub,
    ):
        await hub.post("/api/chat", BODIES["/api/chat"] | {"model": "mine"}, X_Enhance="true")
    assert [body["model"] for body in (*rewriter.rewrote, *rewriter.answered)] == ["mine", "mine"]


async def test_it_never_stands_in_the_way(adapter: str) -> None:
    """Whatever keeps the hub from it: the prompt is answered as it was, and the header says why."""
    rules = by_rules(
        off=a_rule(enabled=False),
        gone=a_rule(model="gone"),
        late=a_rule(model="late", timeout_s=0.05),
        short=a_rule(skip_shorter_than=99),
        **{"c d": a_rule(enabled=False)},
    )

    def reply(path: str, body: Any) -> Reply | None:
        return Reply({"error": "no such\nmodel ☕"}, status=404) if body["model"] == "gone" else None

    rewriter = Rewriter(instead=reply)
    async with tapped() as silent, serving(rewriter) as upstream:
        backends = {
            "ollama": BackendSettings(url=upstream.url),
            "silent": BackendSettings(url=silent.url),
        }
        late = ModelSettings(target="m", backends=("silent",))
        settings = {
            "default_backend": "ollama",
            "models": {"late": late, "m": ModelSettings(target="m", backends=("ollama",))},
        }
        async with running_hub(backends, api_mode=adapter, enhancement=rules, retries=ONCE, **settings) as hub:
            for client, said in {
                "off": "no: the rule off is off",
                "gone": "no: no such?model ?",
                "late": "no: no answer within 0.05 s",
                "c d": "no: the rule c d is off",
                "short": "no: the prompt is shorter than 99 characters",
            }.items():
                answer = await hub.post("/api/chat", BODIES["/api/chat"], X_Enhance="true", X_Client_Name=client)
                assert (answer.status, answer.headers[ENHANCED]) == (200, said)
                assert hub.dispatches()[-1]["enhanced"] == said
                assert asked(rewriter.answered[-1]) == PROMPT
            for body, said in (
                ({"model": "m", "messages": [], "stream": False}, "no: there is no user message"),
                ({"model": "m", "messages": None, "stream": False}, "no: there is no user message"),
            ):
                loaded = await hub.post("/api/chat", body, X_Enhance="true")
                assert (loaded.status, loaded.headers[ENHANCED]) == (200, said)
            raw = await hub.post("/api/generate", BODIES["/api/generate"] | {"raw": True}, X_Enhance="true")
            assert raw.headers[ENHANCED] == "no: the prompt is raw"
    assert [body["model"] for body in rewriter.rewrote] == ["gone"]


async def test_errors_say_it_too(adapter: str, lane: tuple[str, str]) -> None:
    """An answer that is a failure carries the header as well, in either dialect."""
    if lane[1] != adapter:
        pytest.skip("each lane once")
    path = PATHS[lane[0]]

    def reply(path: str, body: Any) -> Reply:
        rewriting = Rewriter()(path, body)
        return rewriting if is_rewriting(body) else Reply({"error": "broken"}, status=500)

    async with (
        serving(reply) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=by_rules(), retries=ONCE) as hub,
    ):
        failed = await hub.post(path, BODIES[path], X_Enhance="true")
        DESCRIBED.check("POST", path, failed, status=500)
        assert failed.headers[ENHANCED] == "default@1"


async def test_nothing_there_at_all(adapter: str, unused_tcp_port: int) -> None:
    """The request fails for its own reason, with its own status; the header tells of the other failure."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with running_hub(url, api_mode=adapter, enhancement=by_rules(), retries=ONCE) as hub:
        answer = await hub.post("/v1/chat/completions", BODIES["/v1/chat/completions"], X_Enhance="true")
        DESCRIBED.check("POST", "/v1/chat/completions", answer, status=502)
        assert answer.headers[ENHANCED] == f"no: backend ollama at {url} cannot be reached: Connection refused"


async def test_a_client_that_leaves_meanwhile(adapter: str) -> None:
    """The upstream is closed, and the request itself is never dispatched."""
    async with tapped() as tap, running_hub(tap.url, api_mode=adapter, enhancement=by_rules()) as hub:
        asking = asyncio.create_task(hub.post("/api/chat", BODIES["/api/chat"], X_Enhance="true"))
        call = await tap.call()
        asking.cancel()
        await call.left.reach()
        await until(lambda: not hub.hub.running)
        assert [line["outcome"] for line in hub.dispatches()] == ["abandoned"]
        assert len(tap.calls) == 1


async def test_one_request_to_the_limit(adapter: str) -> None:
    """With its enhancement it counts once, and what it has left is told once, in its dialect's headers."""
    clients = {"auto": ClientSettings(auto_enhance=True, requests_per_minute=2, max_concurrency=1)}
    rewriter = Rewriter()
    async with (
        serving(rewriter) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=by_rules(), clients=clients) as hub,
    ):
        path = "/v1/chat/completions"
        answers = [await hub.post(path, BODIES[path], X_Client_Name="auto") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    DESCRIBED.check("POST", path, answers[-1], status=429)
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["1", "0", "0"]
    over = "no: client auto may send at most 2 requests a minute"
    assert [answer.headers[ENHANCED] for answer in answers] == ["default@1", "default@1", over]


async def test_rights_hold(adapter: str) -> None:
    """A client that may not use the rule's model gets its prompt answered as it was."""
    clients = {"narrow": ClientSettings(auto_enhance=True, models=("m",))}
    rewriter = Rewriter()
    async with (
        serving(rewriter) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=by_rules(a_rule(model="big")), clients=clients) as hub,
    ):
        answer = await hub.post("/api/chat", BODIES["/api/chat"], X_Client_Name="narrow")
        assert (answer.status, answer.headers[ENHANCED]) == (200, "no: this client may not use model 'big'")
    assert rewriter.rewrote == []


async def test_a_strict_client(adapter: str) -> None:
    """X-AgentHub-Strict is about the client's own fields, not about the hub's question."""
    rewriter = Rewriter()
    async with (
        serving(rewriter) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=by_rules(a_rule(think=False))) as hub,
    ):
        answer = await hub.post("/api/chat", BODIES["/api/chat"], X_Enhance="true", X_AgentHub_Strict="true")
        assert answer.headers[ENHANCED] == "default@1"


async def test_kept_answers(adapter: str) -> None:
    """A deterministic request is answered from the cache by its better prompt, which comes from there itself."""
    rewriter = Rewriter()
    body = BODIES["/v1/chat/completions"] | {"temperature": 0}
    async with (
        serving(rewriter) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=by_rules()) as hub,
    ):
        answers = [await ask(hub, body, X_Enhance="true") for _ in range(2)]
        plain = await ask(hub, body)
    assert (answers, plain) == (["miss", "hit"], "miss")
    assert (len(rewriter.rewrote), len(rewriter.answered)) == (1, 2)


async def ask(hub: RunningHub, body: Any, **headers: str) -> str:
    return (await hub.post("/v1/chat/completions", body, **headers)).headers["X-AgentHub-Cache"]


async def test_both_sdks(adapter: str) -> None:
    """A header of the client's is all that it takes."""
    rewriter = Rewriter()
    async with (
        serving(rewriter) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=by_rules()) as hub,
    ):
        hub.ollama._client.headers["X-Enhance"] = "true"
        first = await hub.ollama.chat("m", BODIES["/api/chat"]["messages"])
        raw = await hub.openai.chat.completions.with_raw_response.create(
            model="m", messages=BODIES["/api/chat"]["messages"], extra_headers={"X-Enhance": "true"}
        )
        second = raw.parse()
    assert (first.message.content, second.choices[0].message.content) == ("the answer", "the answer")
    assert raw.headers[ENHANCED] == "default@1"
    assert [asked(body) for body in rewriter.answered] == [BETTER, BETTER]
