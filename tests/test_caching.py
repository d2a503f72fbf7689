"""Caching: what is stored, what is served again and to whom, and what happens when the cache fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.canonical import (
    ChatRequest,
    EmbedRequest,
    GenerateRequest,
    Message,
    Request,
)
from agenthub.dialects.ollama import CODECS as OLLAMA
from agenthub.dialects.openai import CODECS as OPENAI
from agenthub.middleware.cache_key import make_key
from agenthub.middleware.cache_store import BoundedMemoryCache
from agenthub.middleware.caching import Caching, uncacheable
from agenthub.settings import BackendSettings, CachingSettings, ModelSettings
from agenthub.standin import Fault, Standin, running
from tests.hubs import Answered, Clock, RunningHub, running_hub

MESSAGES = [{"role": "user", "content": "hi"}]
COLD = {"temperature": 0}
CALLS: list[Any] = [
    {"role": "assistant", "tool_calls": [{"id": name, "function": {"name": "f", "arguments": {}}} for name in "xy"]}
]
NATIVE: dict[str, Any] = {"model": "standin", "messages": MESSAGES, "options": COLD, "stream": False}
OPENAI_BODY: dict[str, Any] = {"model": "standin", "messages": MESSAGES, "temperature": 0.0}


@pytest.fixture
async def upstream(standin: Standin) -> AsyncIterator[str]:
    async with running(standin) as url:
        yield url


def state(answered: Answered) -> str:
    return answered.headers["X-AgentHub-Cache"]


def asked(standin: Standin) -> int:
    return sum(received.method == "POST" for received in standin.requests)


@pytest.mark.parametrize("adapter", ["native", "openai"])
async def test_one_answer_serves_both_dialects_whole_and_streamed(
    upstream: str, standin: Standin, adapter: str
) -> None:
    """An answer stored through one dialect is served through the other, whole and streamed, in its own shape."""
    async with running_hub(upstream, api_mode=adapter) as hub:
        first = await hub.post("/api/chat", NATIVE)
        assert state(first) == "miss"
        others = [
            await hub.post("/api/chat", NATIVE | {"stream": True}),
            await hub.post("/v1/chat/completions", OPENAI_BODY),
            await hub.post("/v1/chat/completions", OPENAI_BODY | {"stream": True}),
        ]
        assert [state(answer) for answer in others] == ["hit", "hit", "hit"]
        assert asked(standin) == 1

        text = first.json()["message"]["content"]
        lines = others[0].frames()
        assert "".join(line["message"]["content"] for line in lines) == text
        assert lines[-1]["eval_count"] == first.json()["eval_count"]
        assert others[1].json()["choices"][0]["message"]["content"] == text
        assert others[1].json()["usage"]["completion_tokens"] == first.json()["eval_count"]
        assert others[2].frames()[-1] == "[DONE]"
        assert [line["outcome"] for line in hub.dispatches()] == ["ok", "cached", "cached", "cached"]


async def test_an_answer_stored_through_one_adapter_serves_the_other(upstream: str, standin: Standin) -> None:
    """The adapter is no part of the key."""
    async with running_hub(upstream) as hub:
        await hub.post("/api/chat", NATIVE, X_AgentHub_Api_Mode="openai")
        answer = await hub.post("/api/chat", NATIVE, X_AgentHub_Api_Mode="native")
        assert state(answer) == "hit"
        assert asked(standin) == 1


async def test_several_choices_of_one_adapter_are_not_those_of_the_other(upstream: str) -> None:
    """Ollama's /v1 ignores n; the hub itself asks n times: the one answer does not stand for the n."""
    async with running_hub(upstream) as hub:
        body = OPENAI_BODY | {"n": 2}
        answers = [
            await hub.post("/v1/chat/completions", body, X_AgentHub_Api_Mode=mode)
            for mode in ("openai", "native", "openai", "native")
        ]
        assert [state(answer) for answer in answers] == ["miss", "miss", "hit", "hit"]
        assert [len(answer.json()["choices"]) for answer in answers] == [1, 2, 1, 2]


async def test_a_streamed_answer_is_stored(upstream: str) -> None:
    """A stream that came to its end is served again, also to a client that wants it whole."""
    async with running_hub(upstream) as hub:
        first = await hub.post("/api/chat", NATIVE | {"stream": True})
        again = await hub.post("/api/chat", NATIVE)
        assert (state(first), state(again)) == ("miss", "hit")
        assert again.json()["message"]["content"] == "".join(f["message"]["content"] for f in first.frames())


async def test_a_stream_without_counts_serves_only_streams_without_counts(upstream: str) -> None:
    """What an OpenAI stream without include_usage stored has no token counts, so who wants counts is asked for anew."""
    async with running_hub(upstream, api_mode="openai") as hub:
        streamed = OPENAI_BODY | {"stream": True}
        answers = [
            await hub.post("/v1/chat/completions", streamed),
            await hub.post("/v1/chat/completions", streamed),
            await hub.post("/v1/chat/completions", OPENAI_BODY),
            await hub.post("/v1/chat/completions", OPENAI_BODY),
        ]
        assert [state(answer) for answer in answers] == ["miss", "hit", "miss", "hit"]
        assert answers[3].json()["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize(
    "fault", [Fault.truncate(), Fault.error(after=2), Fault.reset(after=2), Fault.garbage(after=2)], ids=str
)
async def test_a_stream_that_broke_is_not_stored(upstream: str, standin: Standin, fault: Fault) -> None:
    """Only finished answers are served again."""
    async with running_hub(upstream) as hub:
        standin.script(fault)
        broken = await hub.post("/api/chat", NATIVE | {"stream": True})
        assert "error" in broken.frames()[-1]
        assert state(await hub.post("/api/chat", NATIVE)) == "miss"


async def test_cache_control(upstream: str, standin: Standin) -> None:
    """no-cache skips the look-up but stores; no-store skips both."""
    async with running_hub(upstream) as hub:
        assert state(await hub.post("/api/chat", NATIVE, Cache_Control="no-store")) == "bypass"
        assert state(await hub.post("/api/chat", NATIVE, Cache_Control="no-cache")) == "bypass"
        assert state(await hub.post("/api/chat", NATIVE)) == "hit"
        assert state(await hub.post("/api/chat", NATIVE, Cache_Control="max-age=0, no-cache")) == "bypass"
        assert asked(standin) == 3


async def test_entries_expire(upstream: str) -> None:
    """An entry is served for ttl_s seconds."""
    clock = Clock()
    async with running_hub(upstream, clock=clock, caching=CachingSettings(ttl_s=60)) as hub:
        states = []
        for step in (0, 59, 2):
            clock.now += step
            states.append(state(await hub.post("/api/chat", NATIVE)))
        assert states == ["miss", "hit", "miss"]


@pytest.mark.parametrize(
    ("policy", "options", "stored"),
    [
        ("deterministic", {"temperature": 0}, True),
        ("deterministic", {"temperature": 0.0}, True),
        ("deterministic", {"seed": 7}, True),
        ("deterministic", {"seed": -1}, False),
        ("deterministic", {"temperature": 0.7}, False),
        ("deterministic", {}, False),
        ("all", {}, True),
        ("off", {"temperature": 0}, False),
    ],
)
def test_the_policy_says_what_is_stored(policy: str, options: dict[str, Any], stored: bool) -> None:
    """deterministic: temperature 0 or a seed; all; off."""
    request = ChatRequest(model="m", messages=(Message("user", "hi"),), options=options)
    assert (not uncacheable(request, policy)) is stored


def test_embeddings_are_deterministic_and_loads_are_nothing_to_store() -> None:
    """Embeddings are always stored; a request that only loads a model never is, nor one with several choices."""
    assert not uncacheable(EmbedRequest(model="m", inputs=("a",)), "deterministic")
    assert uncacheable(EmbedRequest(model="m"), "all")
    assert uncacheable(GenerateRequest(model="m"), "all")
    several = ChatRequest(model="m", messages=(Message("user", "hi"),), extras={"logit_bias": {"5": 1}})
    assert uncacheable(several, "all")


class Broken(BoundedMemoryCache):
    async def get(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("the cache is gone")

    async def set(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("the cache is gone")


async def test_a_cache_that_fails_is_a_miss(upstream: str) -> None:
    """Clients get their answers; the log says what is wrong."""
    async with running_hub(upstream) as hub:
        caching_of(hub).store = Broken(max_bytes=1)
        for _ in range(2):
            answer = await hub.post("/api/chat", NATIVE)
            assert (answer.status, state(answer)) == (200, "miss")
        assert [line["operation"] for line in hub.lines if line["event"] == "agenthub.cache_failed"] == [
            "read",
            "write",
            "read",
            "write",
        ]


async def test_an_entry_that_is_no_entry_is_a_miss(upstream: str) -> None:
    """What another version or another program stored does no harm."""
    async with running_hub(upstream) as hub:
        await hub.post("/api/chat", NATIVE)
        store = caching_of(hub).store
        for key in list(store._cache):
            await store.set(key, Item(3))
            assert state(await hub.post("/api/chat", NATIVE)) == "miss"


def caching_of(hub: RunningHub) -> Caching:
    return next(layer for layer in hub.hub.dispatcher.middleware if isinstance(layer, Caching))


# --- the key --------------------------------------------------------------------------------------------------------

SAME = [
    (
        (
            "/api/chat",
            {"model": "m", "messages": MESSAGES, "options": {"temperature": 0, "num_predict": 5, "stop": ["x"]}},
        ),
        (
            "/v1/chat/completions",
            {"model": "M:latest", "messages": MESSAGES, "temperature": 0.0, "max_tokens": 5, "stop": "x"},
        ),
    ),
    (
        ("/api/generate", {"model": "m", "prompt": "hi", "options": {"seed": 1}}),
        ("/v1/completions", {"model": "m", "prompt": "hi", "seed": 1, "stream": True}),
    ),
    (
        ("/api/embed", {"model": "m", "input": "hi"}),
        ("/v1/embeddings", {"model": "m", "input": ["hi"], "encoding_format": "base64"}),
    ),
    (
        ("/api/chat", {"model": "m", "messages": MESSAGES, "format": "json", "think": False, "keep_alive": 5}),
        (
            "/v1/chat/completions",
            {
                "model": "m",
                "messages": MESSAGES,
                "response_format": {"type": "json_object"},
                "reasoning_effort": "none",
            },
        ),
    ),
]
OTHER: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "ho"}]},
    {"messages": [{"role": "system", "content": "hi"}]},
    {"messages": MESSAGES * 2},
    {"model": "n"},
    {"model": "m:7b"},
    {"options": {"temperature": 0.1}},
    {"options": {"temperature": 0, "num_ctx": 5}},
    {"format": "json"},
    {"think": True},
    {"tools": [{"type": "function", "function": {"name": "f"}}]},
    {"new_field": 1},
    {"messages": [{"role": "user", "content": "hi", "images": ["aGk="]}]},
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_question_has_the_same_key(one: tuple[str, Any], other: tuple[str, Any]) -> None:
    """Whatever the dialect, its spelling of options, and how the answer is to be sent."""
    assert key(*one) == key(*other)


@pytest.mark.parametrize("change", OTHER)
def test_another_question_has_another_key(change: dict[str, Any]) -> None:
    """Whatever may change the answer changes the key."""
    base = {"model": "m", "messages": MESSAGES, "options": {"temperature": 0}}
    assert key("/api/chat", base) != key("/api/chat", base | change)


def key(path: str, body: dict[str, Any]) -> str:
    import json

    request: Request = (OLLAMA | OPENAI)[path].parse_request(json.dumps(body).encode())
    return make_key(request, request.model)


# --- the store ------------------------------------------------------------------------------------------------------


@attrs.frozen
class Item:
    size_bytes: int


async def test_the_store_is_bounded_and_forgets_the_least_recently_used() -> None:
    """Keys and values together stay below max_bytes."""
    store = BoundedMemoryCache(max_bytes=30)
    for name in "abc":
        await store.set(name, Item(9))
    assert await store.get("a") == Item(9)
    await store.set("d", Item(9))
    assert [await store.get(name) is None for name in "abcd"] == [False, True, False, False]
    assert store.size_bytes == 30
    await store.set("e", Item(30))
    assert await store.get("e") is None
    assert len(store) == 3


@given(st.lists(st.tuples(st.sampled_from(["set", "get", "delete"]), st.sampled_from("abcdef"), st.integers(0, 12))))
def test_the_stores_size_is_the_sum_of_what_it_holds(steps: list[tuple[str, str, int]]) -> None:
    """Whatever was set, read and deleted."""
    import asyncio

    async def run() -> None:
        store = BoundedMemoryCache(max_bytes=40)
        for action, name, value in steps:
            await (store.set(name, Item(value)) if action == "set" else getattr(store, action)(name))
            held = sum(len(name) + entry[0].size_bytes for name, entry in store._cache.items())
            assert store.size_bytes == held <= 40

    asyncio.run(run())


def test_what_only_the_same_dialect_carries_is_part_of_the_key() -> None:
    """Names of messages have no canonical place, but an OpenAI upstream sees them: no answer crosses between them."""
    keys = {
        key("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "hi", "name": name}]})
        for name in ("Ada", "Bob")
    }
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"format": {"properties": {"a": {}, "b": {}}}}, {"format": {"properties": {"b": {}, "a": {}}}}),
        (
            {"messages": [*CALLS, {"role": "tool", "tool_call_id": "x", "content": "1"}]},
            {"messages": [*CALLS, {"role": "tool", "tool_call_id": "y", "content": "1"}]},
        ),
    ],
    ids=["schema", "results"],
)
def test_order_that_matters_is_part_of_the_key(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Properties of a schema are answered in their order; a result belongs to its call."""
    base = {"model": "m", "messages": MESSAGES}
    assert key("/api/chat", base | one) != key("/api/chat", base | other)


def test_the_order_of_text_and_image_is_part_of_the_key() -> None:
    """An OpenAI upstream sees the parts as they stand; Ollama's own form has no order: it is that with text first."""
    text, image = {"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "data:;base64,aGk="}}
    keys = [
        key("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": content}]})
        for content in ([text, image], [image, text])
    ]
    assert keys[0] != keys[1]
    message = {"role": "user", "content": "hi", "images": ["aGk="]}
    assert key("/api/chat", {"model": "m", "messages": [message]}) == keys[0]


async def test_answers_do_not_cross_between_keys_of_the_upstream(upstream: str, standin: Standin) -> None:
    """Where the client's own key goes upstream, an answer for one is not served to another."""
    backends = {"ollama": BackendSettings(url=upstream, forward_authorization=True)}
    async with running_hub(backends) as hub:
        assert state(await hub.post("/api/chat", NATIVE, Authorization="Bearer good")) == "miss"
        assert state(await hub.post("/api/chat", NATIVE, Authorization="Bearer good")) == "hit"
        standin.script(Fault.answer(401, "bad key"))
        assert (await hub.post("/api/chat", NATIVE, Authorization="Bearer bad")).status == 401


async def test_answers_of_pinned_backends_stay_with_their_alias(upstream: str) -> None:
    """Two aliases of one target on different backends do not share answers."""
    async with running(Standin(text="other")) as second:
        backends = {"one": BackendSettings(url=upstream), "two": BackendSettings(url=second)}
        models = {name: ModelSettings(target="standin", backends=(name,)) for name in ("one", "two")}
        async with running_hub(backends, models=models) as hub:
            answers = [await hub.post("/api/chat", NATIVE | {"model": name}) for name in ("one", "two")]
            assert [state(answer) for answer in answers] == ["miss", "miss"]
            assert answers[1].json()["message"]["content"] == "other"


async def test_a_model_that_was_replaced_answers_anew() -> None:
    """What is created under the name of another is another model: its answers are not those that were kept."""
    async with running(Standin(models=("standin", "made"))) as upstream, running_hub(upstream) as hub:
        body = {"model": "made", "messages": [{"role": "user", "content": "hi"}], "options": {"temperature": 0}}
        states = [(await hub.post("/api/chat", body)).headers["X-AgentHub-Cache"] for _ in range(2)]
        await hub.post("/api/create", {"model": "made", "from": "standin", "system": "Be brief."})
        states += [(await hub.post("/api/chat", body)).headers["X-AgentHub-Cache"] for _ in range(2)]
        assert states == ["miss", "hit", "miss", "hit"]


async def test_what_a_hit_is_rendered_from_is_what_was_stored(upstream: str) -> None:
    """It is assembled once for all who want the whole answer, and each gets all of it."""
    async with running_hub(upstream) as hub:
        body = {"model": "standin", "messages": [{"role": "user", "content": "once"}], "options": {"temperature": 0}}
        answers = [await hub.post("/api/chat", body | {"stream": False}) for _ in range(3)]
        assert [answer.headers["X-AgentHub-Cache"] for answer in answers] == ["miss", "hit", "hit"]
        assert len({answer.json()["message"]["content"] for answer in answers}) == 1
        other = await hub.post("/v1/chat/completions", {**body, "temperature": 0, "stream": False})
        assert other.headers["X-AgentHub-Cache"] == "hit"
        assert other.json()["choices"][0]["message"]["content"] == answers[0].json()["message"]["content"]
