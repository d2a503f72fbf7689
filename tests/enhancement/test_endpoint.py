"""POST /hub/enhance: prompts put better, or given back with the reason why not."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
import pytest

from agenthub.api.openapi import OPERATIONS
from agenthub.settings import BackendSettings, CachingSettings, CircuitBreakerSettings, ClientSettings
from agenthub.standin import Fault, Standin, running
from tests.enhancement.support import BETTER, TOLD, Rewriter, a_rule, by_rules, cut_at_length
from tests.hubs import ONCE, Answered, RunningHub, running_hub, until
from tests.tap import tapped
from tests.test_openapi import DESCRIBED
from tests.upstreams import PATHS, Reply, answering, serving

pytestmark = pytest.mark.parametrize("adapter", ["native", "openai"])
PATH = "/hub/enhance"
ASKED = {"prompt": "make it better"}


async def enhance(hub: RunningHub, body: Any = ASKED, **headers: str) -> dict[str, Any]:
    """Return the result, without its time, of an answer that is as documented."""
    answer = await hub.post(PATH, body, **headers)
    DESCRIBED.check("POST", PATH, answer, status=200)
    found: dict[str, Any] = answer.json()
    assert found.pop("elapsed_s") >= 0
    return found


def made(**fields: Any) -> dict[str, Any]:
    """Return what is said of a prompt that was put better."""
    return {
        "original": ASKED["prompt"],
        "enhanced": BETTER,
        "was_enhanced": True,
        "rule": "default",
        "rule_version": "1",
        "model": "m",
        "cached": False,
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        "error": None,
    } | fields


def left(error: str, **fields: Any) -> dict[str, Any]:
    """Return what is said of a prompt that stays as it was."""
    kept = {"enhanced": ASKED["prompt"], "was_enhanced": False, "model": None, "usage": None, "error": error}
    return made() | kept | fields


async def test_a_prompt_is_put_better(adapter: str) -> None:
    """By one chat, not streamed, with what the rule says; it is a dispatch like any other, with a line in the log."""
    rewriter = Rewriter(better=f"Here is the improved prompt:\n\n{BETTER}")
    rule = a_rule(temperature=0.5, max_tokens=99, system_prompt=f"{TOLD} For {{client}}.", version="7")
    async with (
        serving(rewriter) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=by_rules(ed=rule)) as hub,
    ):
        found = await enhance(hub, X_Client_Name="ed")
        assert found == made(rule="ed", rule_version="7")
        (line,) = hub.dispatches()
    told = [{"role": "system", "content": f"{TOLD} For ed."}, {"role": "user", "content": ASKED["prompt"]}]
    (body,) = rewriter.rewrote
    assert (body["messages"], body["model"], body["stream"]) == (told, "m", False)
    options = body["options"] if adapter == "native" else body
    assert (options["temperature"], options["num_predict" if adapter == "native" else "max_tokens"]) == (0.5, 99)
    said = {
        name: line.get(name) for name in ("client", "operation", "api_mode", "cache", "outcome", "enhancing", "status")
    }
    assert said == {
        "client": "ed", "operation": "chat", "api_mode": adapter, "cache": "miss", "outcome": "ok", "enhancing": "ed@7",
        "status": 200,
    }  # fmt: skip


async def test_a_result_is_kept_by_prompt_rule_version_and_model(adapter: str) -> None:
    """Whatever the temperature; only the very same question is answered from the cache, unless it is to be bypassed."""
    rewriter = Rewriter()
    rule = a_rule(temperature=0.8)
    rules = by_rules(rule, one=rule, two=attrs.evolve(rule, version="2"))
    async with serving(rewriter) as upstream, running_hub(upstream.url, api_mode=adapter, enhancement=rules) as hub:
        for body, cached in (
            (ASKED, False),
            (ASKED, True),
            (ASKED | {"client": "nobody"}, True),
            (ASKED | {"client": "one"}, False),
            (ASKED | {"client": "one"}, True),
            (ASKED | {"client": "two"}, False),
            (ASKED | {"model": "m2"}, False),
            (ASKED | {"model": "m2"}, True),
            ({"prompt": "another prompt"}, False),
            (ASKED | {"bypass_cache": True}, False),
            (ASKED, True),
        ):
            found = await enhance(hub, body)
            assert (found["cached"], found["enhanced"]) == (cached, BETTER), body
        # Not an answer to the same chat by the same words, which may be another every time.
        chat = {"model": "m", "messages": [{"role": "user", "content": ASKED["prompt"]}], "stream": False}
        assert (await hub.post("/api/chat", chat)).headers["X-AgentHub-Cache"] == "bypass"
    assert len(rewriter.rewrote) == 6


async def test_a_changed_rule_is_another_question(adapter: str) -> None:
    """Even where nobody raised its version: after a reload nothing of the old instructions comes out of the cache."""
    rewriter = Rewriter()
    async with (
        serving(rewriter) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=by_rules()) as hub,
    ):
        assert (await enhance(hub))["cached"] is False
        hub.hub.enhancer.rules = by_rules(a_rule(system_prompt=f"{TOLD} Anew.")).rules
        assert (await enhance(hub))["cached"] is False
        assert (await enhance(hub))["cached"] is True


async def test_with_caching_off_nothing_is_kept(adapter: str) -> None:
    """Nor with Cache-Control: no-store."""
    async with serving(Rewriter()) as upstream:
        off = CachingSettings(policy="off")
        async with running_hub(upstream.url, api_mode=adapter, enhancement=by_rules(), caching=off) as hub:
            assert [(await enhance(hub))["cached"] for _ in range(2)] == [False, False]
        async with running_hub(upstream.url, api_mode=adapter, enhancement=by_rules()) as hub:
            assert [(await enhance(hub, Cache_Control="no-store"))["cached"] for _ in range(2)] == [False, False]


async def test_skipped_prompts_ask_nobody(adapter: str) -> None:
    """The rule is off, the prompt is too short or too long, no model is named: 200 and the reason."""
    rules = by_rules(
        off=a_rule(enabled=False),
        short=a_rule(skip_shorter_than=99),
        long=a_rule(skip_longer_than=3),
        bare=a_rule(model=""),
    )
    rewriter = Rewriter()
    async with serving(rewriter) as upstream:
        async with running_hub(upstream.url, api_mode=adapter, enhancement=rules) as hub:
            for client, reason in {
                "off": "the rule off is off",
                "short": "the prompt is shorter than 99 characters",
                "long": "the prompt is longer than 3 characters",
                "bare": "the rule bare names no model: name one in the request (model), or set enhancement.model",
            }.items():
                assert await enhance(hub, ASKED | {"client": client}) == left(reason, rule=client)
            empty = await enhance(hub, {"prompt": ""})
            assert (empty["enhanced"], empty["error"]) == ("", "the prompt is empty")
        async with running_hub(upstream.url, api_mode=adapter) as hub:
            why = "the rule default names no model: name one in the request (model), or set enhancement.model"
            assert await enhance(hub, ASKED | {"client": "x"}) == left(why) | {"rule_version": "built-in"}
            assert hub.dispatches() == []
    assert rewriter.rewrote == []


async def test_what_goes_wrong_gives_the_prompt_back(adapter: str) -> None:
    """No such model, an empty or an endless answer, one that is only thoughts, garbage: 200 and the reason."""
    answers: dict[str, tuple[Any, str]] = {
        "missing": (Reply({"error": "model 'm' not found"}, status=404), "model 'm' not found"),
        "empty": (answering(" \n"), "the model answered nothing"),
        "thoughts": (answering("<think>hm</think>"), "the model answered nothing"),
        "endless": (lambda path, body: cut_at_length(path, "on and on"), "the model went on and on"),
        "runaway": (answering("long " * 10_000), "the model went on and on"),
        "same": (answering(ASKED["prompt"]), "there is nothing to put better"),
        "garbage": (Reply(["what"]), "the upstream sent what its API does not allow"),
    }
    for name, (reply, reason) in answers.items():
        rewriter = Rewriter(instead=lambda path, body, reply=reply: reply(path, body) if callable(reply) else reply)
        async with (
            serving(rewriter) as upstream,
            running_hub(upstream.url, api_mode=adapter, enhancement=by_rules(), retries=ONCE) as hub,
        ):
            found = await enhance(hub)
        assert (found["enhanced"], found["was_enhanced"]) == (ASKED["prompt"], False), name
        assert reason in found["error"], name
        assert (found["model"], found["usage"] is None) == (("m", False) if name == "same" else (None, True)), name


async def test_an_unfit_answer_out_of_the_cache_is_asked_for_anew(adapter: str) -> None:
    """A model's bad moment is not kept for an hour."""
    rewriter = Rewriter(better="")
    async with (
        serving(rewriter) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=by_rules()) as hub,
    ):
        assert (await enhance(hub))["error"] == "the model answered nothing"
        rewriter.better = BETTER
        assert await enhance(hub) == made()
        assert await enhance(hub) == made(cached=True)


async def test_nobody_there_and_an_open_breaker(adapter: str, unused_tcp_port: int) -> None:
    """The hub cannot reach the upstream, then does not even try."""
    backends = {"ollama": BackendSettings(url=f"http://127.0.0.1:{unused_tcp_port}")}
    breaker = CircuitBreakerSettings(failure_threshold=1)
    async with running_hub(
        backends, api_mode=adapter, enhancement=by_rules(), retries=ONCE, circuit_breaker=breaker
    ) as hub:
        first, second = await enhance(hub), await enhance(hub)
        lines = hub.dispatches()
    assert "cannot be reached" in first["error"]
    assert second == left(second["error"])
    assert "open" in second["error"]
    assert [line["status"] for line in lines] == [502, 503]


async def test_fallback_models_are_asked_in_turn(adapter: str) -> None:
    """Until one gives a prompt; where none does, the reason tells of each. A model that is asked for stands alone."""

    def reply(path: str, body: Any) -> Reply | None:
        if body["model"] == "gone":
            return Reply({"error": "no such model"}, status=404)
        return answering("")(path, body) if body["model"] == "mute" else None

    rules = by_rules(
        a_rule(model="gone", fallback_models=("mute", "m")), bad=a_rule(model="gone", fallback_models=("mute",))
    )
    rewriter = Rewriter(instead=reply)
    async with (
        serving(rewriter) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=rules, retries=ONCE) as hub,
    ):
        assert await enhance(hub) == made()
        assert [body["model"] for body in rewriter.rewrote] == ["gone", "mute", "m"]
        bad = await enhance(hub, ASKED | {"client": "bad"})
        assert bad == left(bad["error"], rule="bad")
        assert bad["error"].split("; ") == ["gone: no such model", "mute: the model answered nothing"]
        alone = await enhance(hub, ASKED | {"model": "gone"})
        assert alone["error"] == "no such model"


async def test_too_late_is_given_up(adapter: str) -> None:
    """After timeout_s in all, whoever is being asked: the prompt comes back, and the upstream is left."""
    rules = by_rules(a_rule(timeout_s=0.05), second=a_rule(model="gone", fallback_models=("m",), timeout_s=0.3))
    async with tapped() as tap, running_hub(tap.url, api_mode=adapter, enhancement=rules, retries=ONCE) as hub:
        assert await enhance(hub) == left("no answer within 0.05 s")
        await (await tap.call()).left.reach()
        asking = asyncio.create_task(enhance(hub, ASKED | {"client": "second"}))
        (await tap.call(2)).refuse(404, "no such model")
        found = await asking
        assert found["error"] == "gone: no such model; no answer within 0.3 s"
        await (await tap.call(3)).left.reach()
        assert [line["outcome"] for line in hub.dispatches()] == ["abandoned", "rejected", "abandoned"]


async def test_a_client_that_leaves_stops_the_model(adapter: str) -> None:
    """Whole or streamed."""
    async with tapped() as tap, running_hub(tap.url, api_mode=adapter, enhancement=by_rules()) as hub:
        for number, stream in enumerate((False, True), 1):
            asking = asyncio.create_task(hub.post(PATH, ASKED | {"stream": stream}))
            call = await tap.call(number)
            asking.cancel()
            await call.left.reach()
        await until(lambda: len(hub.dispatches()) == 2)
        assert [line["outcome"] for line in hub.dispatches()] == ["abandoned", "abandoned"]


async def test_streamed(adapter: str) -> None:
    """Deltas as they come, then the result; what is taken off the answer is in no delta."""
    async with tapped() as tap, running_hub(tap.url, api_mode=adapter, enhancement=by_rules()) as hub:
        asking = asyncio.create_task(hub.http.post(hub.url + PATH, json=ASKED | {"stream": True}))
        call = await tap.call()
        assert (call.path, call.body["stream"]) == (PATHS["ollama" if adapter == "native" else "openai"], True)
        call.say("Here is the improved prompt:", "\n\n", "Write ", "one", " haiku")
        async with await asking as response:
            lines = [await response.content.readline()]
            call.say(" now.")
            lines.append(await response.content.readline())
            call.finish()
            lines += [line async for line in response.content]
        head = dict(response.headers)
    answer = Answered(response.status, head, b"".join(lines))
    DESCRIBED.check("POST", PATH, answer, status=200)
    *deltas, result = answer.frames()
    assert "".join(line["delta"] for line in deltas) == "Write one haiku now."
    del result["elapsed_s"]
    assert result == made(enhanced="Write one haiku now.")


async def test_a_stream_that_breaks_gives_the_prompt_back(adapter: str) -> None:
    """After the first delta no other model is asked; the last line says what holds."""
    rules = by_rules(a_rule(fallback_models=("m2",)))
    async with tapped() as tap, running_hub(tap.url, api_mode=adapter, enhancement=rules) as hub:
        asking = asyncio.create_task(hub.post(PATH, ASKED | {"stream": True}))
        call = await tap.call()
        call.say("Write a", " haiku")
        call.cut()
        answer = await asking
        assert len(tap.calls) == 1
    delta, result = answer.frames()
    assert delta["delta"] in ("Write a", "Write a haiku")
    assert (result["enhanced"], result["was_enhanced"]) == (ASKED["prompt"], False)


async def test_a_kept_answer_is_streamed_too(adapter: str) -> None:
    """And one that was streamed is good for a client that wants the whole."""
    async with (
        serving(Rewriter()) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=by_rules()) as hub,
    ):
        first = (await hub.post(PATH, ASKED | {"stream": True})).frames()
        again = (await hub.post(PATH, ASKED | {"stream": True})).frames()
        whole = await enhance(hub)
    assert [frames[-1]["cached"] for frames in (first, again)] == [False, True]
    assert "".join(line["delta"] for line in again[:-1]) == BETTER
    assert whole == made(cached=True)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "missing request body"),
        (b"{", "unexpected EOF"),
        (b"[]", "cannot unmarshal array"),
        ({}, "prompt is required"),
        ({"prompt": None}, "prompt is required"),
        ({"prompt": 1}, "cannot unmarshal number into Go struct field EnhanceRequest.prompt of type string"),
        ({"prompt": "a", "client": 1}, "EnhanceRequest.client of type string"),
        ({"prompt": "a", "client": ""}, "client must have 1 to 128 characters"),
        ({"prompt": "a", "client": "x" * 129}, "client must have 1 to 128 characters"),
        ({"prompt": "a", "model": []}, "EnhanceRequest.model of type string"),
        ({"prompt": "a", "stream": "yes"}, "EnhanceRequest.stream of type bool"),
        ({"prompt": "a", "bypass_cache": 1}, "EnhanceRequest.bypass_cache of type bool"),
    ],
)
async def test_a_malformed_request_is_refused(adapter: str, body: Any, reason: str) -> None:
    """400 in Ollama's shape."""
    async with running_hub("http://127.0.0.1:9", api_mode=adapter, enhancement=by_rules()) as hub:
        answer = await hub.post(PATH, body)
        DESCRIBED.check("POST", PATH, answer, status=400)
        assert reason in answer.json()["error"]


async def test_an_api_mode_that_there_is_not(adapter: str) -> None:
    """Is a mistake of the request's own, as everywhere."""
    async with running_hub("http://127.0.0.1:9", api_mode=adapter, enhancement=by_rules()) as hub:
        answer = await hub.post(PATH, ASKED, X_AgentHub_Api_Mode="nope")
        DESCRIBED.check("POST", PATH, answer, status=400)
        assert answer.json()["error"].startswith("api mode 'nope' is not one of native, openai")


async def test_whose_rule_it_is(adapter: str) -> None:
    """The body's client, else X-Client-Name; where clients have keys, the key's, and no other may be named."""
    rules = by_rules(one=a_rule(), two=a_rule())
    clients = {name: ClientSettings(api_key=f"key-{name}") for name in ("one", "two", "none")}
    async with serving(Rewriter()) as upstream:
        async with running_hub(upstream.url, api_mode=adapter, enhancement=rules) as hub:
            assert (await enhance(hub, X_Client_Name="one"))["rule"] == "one"
            assert (await enhance(hub, ASKED | {"client": "two"}, X_Client_Name="one"))["rule"] == "two"
            assert (await enhance(hub))["rule"] == "default"
        async with running_hub(upstream.url, api_mode=adapter, enhancement=rules, clients=clients) as hub:
            key = {"Authorization": "Bearer key-one"}
            assert (await enhance(hub, X_Client_Name="two", **key))["rule"] == "one"
            assert (await enhance(hub, ASKED | {"client": "one"}, **key))["rule"] == "one"
            assert (await enhance(hub, Authorization="Bearer key-none"))["rule"] == "default"
            other = await hub.post(PATH, ASKED | {"client": "two"}, **key)
            DESCRIBED.check("POST", PATH, other, status=403)
            assert other.json() == {"error": "the API key is that of client one"}


async def test_the_rights_of_a_chat(adapter: str) -> None:
    """Who may not chat, or not with the model, may not have it enhance; of several models one allowed will do."""
    rules = by_rules(a_rule(model="other", fallback_models=("m",)), narrow=a_rule(model="other"))
    clients = {
        "mute": ClientSettings(operations=("embed", "list")),
        "narrow": ClientSettings(models=("m",)),
        "wide": ClientSettings(models=("m",)),
    }
    rewriter = Rewriter()
    async with (
        serving(rewriter) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=rules, clients=clients) as hub,
    ):
        for client, reason in {
            "mute": "this client may not use the operation chat",
            "narrow": "this client may not use model 'other'",
        }.items():
            for body, headers in ((ASKED, {"X_Client_Name": client}), (ASKED | {"client": client}, {})):
                for stream in (False, True):
                    answer = await hub.post(PATH, body | {"stream": stream}, **headers)
                    DESCRIBED.check("POST", PATH, answer, status=403)
                    assert answer.json() == {"error": reason}
        assert rewriter.rewrote == []
        assert (await enhance(hub, X_Client_Name="wide"))["model"] == "m"


async def test_a_client_over_its_limit(adapter: str) -> None:
    """It gets its prompt back with the reason, and what it has left in the headers; fallback models count no more."""
    rules = by_rules(a_rule(model="mute", fallback_models=("m",)))
    rewriter = Rewriter(instead=lambda path, body: answering("")(path, body) if body["model"] == "mute" else None)
    clients = {"ci": ClientSettings(requests_per_minute=2)}
    async with (
        serving(rewriter) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=rules, clients=clients) as hub,
    ):
        answers = [await hub.post(PATH, ASKED | {"prompt": f"prompt {n}"}, X_Client_Name="ci") for n in range(3)]
    for answer in answers:
        DESCRIBED.check("POST", PATH, answer, status=200)
    assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
    assert [answer.json()["was_enhanced"] for answer in answers] == [True, True, False]
    assert answers[-1].json()["error"] == "client ci may send at most 2 requests a minute"


async def test_the_api_mode_is_the_clients(adapter: str) -> None:
    """As for each dispatch: the request's header, the client's setting."""
    other = "openai" if adapter == "native" else "native"
    clients = {"other": ClientSettings(api_mode=other)}
    async with (
        serving(Rewriter()) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=by_rules(), clients=clients) as hub,
    ):
        await enhance(hub, {"prompt": "one"})
        await enhance(hub, {"prompt": "two"}, X_Client_Name="other")
        await enhance(hub, {"prompt": "three"}, X_AgentHub_Api_Mode=other)
        assert [line["api_mode"] for line in hub.dispatches()] == [adapter, other, other]


async def test_the_clients_own_authorization_goes_on(adapter: str) -> None:
    """Where a backend is to see it; a key of the hub's never."""
    standin = Standin(text=BETTER)
    async with running(standin) as url:
        backends = {"ollama": BackendSettings(url=url, forward_authorization=True)}
        rules = by_rules(a_rule(model="standin"))
        async with running_hub(backends, api_mode=adapter, enhancement=rules) as hub:
            await enhance(hub, Authorization="Bearer theirs")
        keyed = {"one": ClientSettings(api_key="ours")}
        async with running_hub(backends, api_mode=adapter, enhancement=rules, clients=keyed) as hub:
            await enhance(hub, Authorization="Bearer ours")
        shown = [received.headers.get("Authorization") for received in standin.requests if received.method == "POST"]
    assert shown == ["Bearer theirs", None]


async def test_another_backend_serves_where_one_fails(adapter: str) -> None:
    """Failing over is the dispatcher's, for this as for any request."""
    broken, good = Standin(text=BETTER), Standin(text=BETTER)
    broken.script(Fault.answer(500))
    async with running(broken) as one, running(good) as two:
        backends = {"one": BackendSettings(url=one, priority=1), "two": BackendSettings(url=two)}
        async with running_hub(backends, api_mode=adapter, enhancement=by_rules(a_rule(model="standin"))) as hub:
            assert (await enhance(hub))["enhanced"] == BETTER
            assert [line["backend"] for line in hub.dispatches()] == ["two"]


async def test_the_documented_example_works(adapter: str) -> None:
    """As it stands in /openapi.json."""
    async with (
        serving(Rewriter()) as upstream,
        running_hub(upstream.url, api_mode=adapter, enhancement=by_rules()) as hub,
    ):
        example = OPERATIONS["POST", PATH].example
        assert DESCRIBED.complaints(DESCRIBED.body_schema("POST", PATH), example) == []
        assert (await enhance(hub, example))["was_enhanced"] is True
