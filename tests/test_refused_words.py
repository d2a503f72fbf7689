"""A server that refuses a word of a translated request is asked without it; of the client's own words it reads so."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from agenthub.dialects.openai.refusals import FIELDS, MADE, Refusal
from agenthub.settings import BackendSettings, CircuitBreakerSettings
from agenthub_adapter_openai.words import RefusedWords
from tests.hubs import ONCE, Clock, running_hub
from tests.upstreams import HI, PATHS, Reply, answering, serving

STUDIO = {"error": "'response_format.type' must be 'json_schema' or 'text'"}
ANY_OBJECT = {"type": "json_schema", "json_schema": {"name": "object", "schema": {"type": "object"}}}


def of_openai(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def unknown(member: str) -> Any:
    message = f"Unsupported parameter: '{member}' is not supported with this model."
    return of_openai(message, member, "unsupported_parameter")


def strict(*refused: str, status: int = 400) -> Callable[[str, Any], Reply]:
    """Answer, but refuse the first of these members that a request has."""

    def reply(path: str, body: Any) -> Reply:
        for member in refused:
            if member in (body or {}):
                return Reply(unknown(member), status=status)
        return answering()(path, body)

    return reply


def refusing(error: Any, is_refused: Callable[[Any], bool]) -> Callable[[str, Any], Reply]:
    return lambda path, body: Reply(error, status=400) if is_refused(body) else answering()(path, body)


ASKED = {"/api/chat": {"messages": HI}, "/api/generate": {"prompt": "hi"}}


def native(stream: bool = False, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": HI, "stream": stream} | more


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("asked", "member", "lost"),
    [
        ({"think": False}, "reasoning_effort", "think"),
        ({"think": "high"}, "reasoning_effort", "think"),
        ({"options": {"temperature": 0.2}}, "temperature", "options.temperature"),
        ({"options": {"seed": 3}}, "seed", "options.seed"),
        ({"logprobs": True}, "logprobs", "logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "logit_bias"),
    ],
)
async def test_left_out(asked: dict[str, Any], member: str, lost: str, streamed: bool, status: int) -> None:
    """It is asked again without the word, once; the loss is named from then on, and a strict client refused."""
    async with (
        serving(strict(member, status=status)) as upstream,
        running_hub(upstream.url, api_mode="openai", retries=ONCE) as hub,
    ):
        for sent in ([True, False], [False]):
            upstream.asked.clear()
            answer = await hub.post("/api/chat", native(streamed, **asked))
            assert (answer.status, answer.headers["X-AgentHub-Dropped"]) == (200, lost)
            assert [member in body for body in upstream.asked] == sent
        refused = await hub.post("/api/chat", native(streamed, **asked), X_AgentHub_Strict="true")
        assert (refused.status, lost in refused.text, len(upstream.asked)) == (400, True, 1)
        other = await hub.post("/api/chat", native(streamed))
        assert (other.status, "X-AgentHub-Dropped" in other.headers) == (200, False)


@pytest.mark.parametrize("streamed", [False, True])
async def test_strict_from_the_start(streamed: bool) -> None:
    """A strict client reads what the first refusal shows to be lost; what can be said otherwise is no loss."""
    asked = native(streamed, think=False, options={"num_predict": 5})
    async with (
        serving(strict("max_tokens", "reasoning_effort")) as upstream,
        running_hub(upstream.url, api_mode="openai", strict=True) as hub,
    ):
        refused = await hub.post("/api/chat", asked)
        assert (refused.status, "think" in refused.text) == (400, True)
        assert [("max_tokens" in body, "reasoning_effort" in body) for body in upstream.asked] == [
            (True, True),
            (False, True),
        ]
        del asked["think"]
        answer = await hub.post("/api/chat", asked)
        assert (answer.status, "X-AgentHub-Dropped" in answer.headers) == (200, False)


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_limits(path: str) -> None:
    """A limit goes under its other name, and nothing is lost; where neither is taken, the client reads the refusal."""
    asked = {"model": "m", "stream": False, "options": {"num_predict": 5}} | ASKED[path]
    async with serving(strict("max_tokens")) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        for count in (2, 3):
            answer = await hub.post(path, asked)
            assert (answer.status, "X-AgentHub-Dropped" in answer.headers) == (200, False)
            assert (upstream.asked[-1]["max_completion_tokens"], len(upstream.asked)) == (5, count)
    neither = strict("max_tokens", "max_completion_tokens")
    async with serving(neither) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        answer = await hub.post(path, asked)
        assert (answer.status, "max_completion_tokens" in answer.text, len(upstream.asked)) == (400, True, 2)


async def test_json() -> None:
    """A server that takes schemas only is given the one of any object; one that takes neither is asked without."""
    async with (
        serving(refusing(STUDIO, lambda body: body.get("response_format") == {"type": "json_object"})) as upstream,
        running_hub(upstream.url, api_mode="openai") as hub,
    ):
        for path, asked in ASKED.items():
            answer = await hub.post(path, {"model": "m", "stream": False, "format": "json"} | asked)
            assert (answer.status, "X-AgentHub-Dropped" in answer.headers) == (200, False)
            assert upstream.asked[-1]["response_format"] == ANY_OBJECT
        assert len(upstream.asked) == 3
    async with (
        serving(refusing(STUDIO, lambda body: "response_format" in body)) as upstream,
        running_hub(upstream.url, api_mode="openai") as hub,
    ):
        answer = await hub.post("/api/chat", native(format="json"))
        assert (answer.status, answer.headers["X-AgentHub-Dropped"], len(upstream.asked)) == (200, "format", 3)
        schema = {"type": "object", "properties": {"a": {"type": "string"}}}
        refused = await hub.post("/api/chat", native(format=schema))
        assert (refused.status, "response_format" in refused.text) == (400, True)


async def test_what_hangs_on_the_prompt() -> None:
    """OpenAI wants the word JSON in a message: that is said of this prompt, and the next is asked as before."""
    message = "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."

    def is_refused(body: Any) -> bool:
        return body["response_format"] == {"type": "json_object"} and "json" not in body["messages"][0]["content"]

    async with (
        serving(refusing(of_openai(message, "messages"), is_refused)) as upstream,
        running_hub(upstream.url, api_mode="openai") as hub,
    ):
        assert (await hub.post("/api/chat", native(format="json"))).status == 200
        told = [{"role": "user", "content": "say hi in json"}]
        assert (await hub.post("/api/chat", native(format="json", messages=told))).status == 200
        formats = [body["response_format"]["type"] for body in upstream.asked]
        assert formats == ["json_object", "json_schema", "json_object"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_several_words(streamed: bool) -> None:
    """A server that names one at a time is asked as often as it names another; all of it is known from then on."""
    refused = ("stream_options", "max_tokens", "temperature", "reasoning_effort")
    asked = native(streamed, think=False, options={"temperature": 0.2, "num_predict": 5})
    async with serving(strict(*refused)) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        for count in (5 if streamed else 4, 1):
            upstream.asked.clear()
            answer = await hub.post("/api/chat", asked)
            assert (answer.status, len(upstream.asked)) == (200, count)
            assert answer.headers["X-AgentHub-Dropped"] in ("options.temperature,think", "think,options.temperature")
        assert upstream.asked[0]["max_completion_tokens"] == 5


async def test_a_value_of_an_effort() -> None:
    """Where only the value is refused, others of the same field are sent as they are."""
    message = "Unsupported value: 'reasoning_effort' does not support 'none' with this model."
    error = of_openai(message, "reasoning_effort", "unsupported_value")
    async with (
        serving(refusing(error, lambda body: body.get("reasoning_effort") == "none")) as upstream,
        running_hub(upstream.url, api_mode="openai") as hub,
    ):
        assert (await hub.post("/api/chat", native(think=False))).headers["X-AgentHub-Dropped"] == "think"
        assert "X-AgentHub-Dropped" not in (await hub.post("/api/chat", native(think="low"))).headers
        assert [body.get("reasoning_effort") for body in upstream.asked] == ["none", None, "low"]


async def test_other_models() -> None:
    """What one model refuses, another of the same backend is asked with."""
    async with serving(strict("reasoning_effort")) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        for model in ("m", "other", "m", "other"):
            assert (await hub.post("/api/chat", native(think=False, model=model))).status == 200
        sent = [(body["model"], "reasoning_effort" in body) for body in upstream.asked]
        both = [("m", True), ("m", False), ("other", True), ("other", False)]
        assert sent == [*both, ("m", False), ("other", False)]


@pytest.mark.parametrize("home", ["reasoning", "reasoning_content"])
async def test_thoughts_in_the_history(home: str) -> None:
    """A server that takes no thoughts in a history gets it without them."""
    flavour = "llamacpp" if home == "reasoning_content" else "generic"
    place = {"type": "extra_forbidden", "loc": ["body", "messages", 1, "assistant", home], "msg": "Extra inputs"}
    history = [*HI, {"role": "assistant", "content": "a", "thinking": "hm"}, *HI]
    async with serving(refusing({"detail": [place]}, lambda body: home in body["messages"][1])) as upstream:
        backend = BackendSettings(url=upstream.url, api_mode="openai", flavour=flavour)
        async with running_hub({"b": backend}) as hub:
            for count in (2, 3):
                answer = await hub.post("/api/chat", native(messages=history))
                assert (answer.status, answer.headers["X-AgentHub-Dropped"]) == (200, "messages.thinking")
                assert upstream.asked[-1]["messages"][1] == {"role": "assistant", "content": "a"}
                assert len(upstream.asked) == count


async def test_embeddings() -> None:
    """The format in which the hub asks for vectors is its own word; dimensions are the client's."""
    async with serving(strict("encoding_format")) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        answer = await hub.post("/api/embed", {"model": "m", "input": "hi"})
        assert (answer.status, answer.json()["embeddings"], len(upstream.asked)) == (200, [[0.6, 0.8]], 2)
    async with serving(strict("dimensions")) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        answer = await hub.post("/api/embed", {"model": "m", "input": "hi", "dimensions": 2})
        assert (answer.status, len(upstream.asked)) == (400, 1)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("member", ["reasoning_effort", "max_tokens", "temperature", "response_format"])
async def test_the_lane_that_passes(member: str, streamed: bool) -> None:
    """What a client wrote itself is passed on, and it reads the refusal in the server's own words."""
    values = {"reasoning_effort": "none", "max_tokens": 5, "temperature": 0.2, "response_format": {"type": "text"}}
    asked = {"model": "m", "messages": HI, "stream": streamed, member: values[member]}
    async with serving(strict(member)) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        answer = await hub.post(PATHS["openai"], asked)
        assert (answer.status, answer.json()) == (400, unknown(member))
        assert upstream.asked == [asked]
        await hub.post("/api/chat", native(think=False, format="json", options={"temperature": 0.2, "num_predict": 5}))
        count = len(upstream.asked)
        assert (await hub.post(PATHS["openai"], asked)).status == 400
        assert upstream.asked[count:] == [asked]


async def test_no_failure() -> None:
    """A refusal counts neither against the breaker nor as an attempt, and one line of the log says what was refused."""
    breaker = CircuitBreakerSettings(failure_threshold=1)
    async with (
        serving(strict("reasoning_effort")) as upstream,
        running_hub(upstream.url, api_mode="openai", retries=ONCE, circuit_breaker=breaker) as hub,
    ):
        for _ in range(3):
            assert (await hub.post("/api/chat", native(think=False))).status == 200
        lines = [line for line in hub.lines if line["event"] == "agenthub.words_refused"]
        assert [(line["backend"], line["model"], line["refused"]) for line in lines] == [
            ("ollama", "m", ["reasoning_effort"])
        ]
        assert not [line for line in hub.lines if line["event"] == "agenthub.breaker_changed"]
        assert [line["dropped"] for line in hub.dispatches()] == [["think"]] * 3


async def test_nothing_is_learned_of_a_request_that_fails_anyway() -> None:
    """What only a refusal said and no answer has borne out is not left out of the next request."""

    def reply(path: str, body: Any) -> Reply:
        if "hi" in body["messages"][0]["content"]:
            return Reply(unknown("temperature" if "temperature" in body else "messages"), status=400)
        return answering()(path, body)

    asked = native(options={"temperature": 0.2})
    async with serving(reply) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        refused = await hub.post("/api/chat", asked)
        assert (refused.status, "messages" in refused.text, len(upstream.asked)) == (400, True, 2)
        answer = await hub.post("/api/chat", asked | {"messages": [{"role": "user", "content": "other"}]})
        assert (answer.status, "X-AgentHub-Dropped" in answer.headers) == (200, False)
        assert upstream.asked[-1]["temperature"] == 0.2


async def test_a_server_that_refuses_all() -> None:
    """Each word is left out once, so that a server that refuses whatever comes is soon left alone."""

    def reply(path: str, body: Any) -> Reply:
        names = [
            name for name in ("temperature", "top_p", "seed", "reasoning_effort", "presence_penalty") if name in body
        ]
        return Reply(unknown(names[0] if names else "model"), status=400)

    options = {"temperature": 0.2, "top_p": 0.5, "seed": 1, "presence_penalty": 1}
    async with serving(reply) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        assert (await hub.post("/api/chat", native(think=False, options=options))).status == 400
        assert len(upstream.asked) == 6


async def test_a_stream_that_has_begun() -> None:
    """An error in the middle of an answer is the end of it, whatever it names."""
    chunk = {"choices": [{"index": 0, "delta": {"content": "hey"}, "finish_reason": None}]}
    error = {"error": unknown("reasoning_effort")["error"] | {"code": 400}}
    async with (
        serving(lambda path, body: Reply(frames=[chunk, error])) as upstream,
        running_hub(upstream.url, api_mode="openai") as hub,
    ):
        frames = (await hub.post("/api/chat", native(True, think=False))).frames()
        assert (frames[0]["message"]["content"], "error" in frames[-1], len(upstream.asked)) == ("hey", True, 1)


async def test_an_error_in_the_place_of_a_stream() -> None:
    """A refusal that comes as the first frame is one too."""
    error = {"error": unknown("reasoning_effort")["error"] | {"code": 400}}

    def reply(path: str, body: Any) -> Reply:
        return Reply(frames=[error]) if "reasoning_effort" in body else answering()(path, body)

    async with serving(reply) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        answer = await hub.post("/api/chat", native(True, think=False))
        assert (answer.status, answer.headers["X-AgentHub-Dropped"], len(upstream.asked)) == (200, "think", 2)


async def test_kept_answers() -> None:
    """The first answer is not kept, since its request seemed to lose nothing; the next is, under what it lost."""
    asked = native(think=False, options={"temperature": 0})
    async with serving(strict("reasoning_effort")) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        caches = []
        for _ in range(3):
            answer = await hub.post("/api/chat", asked)
            caches.append((answer.headers["X-AgentHub-Cache"], answer.headers["X-AgentHub-Dropped"]))
        assert caches == [("miss", "think"), ("miss", "think"), ("hit", "think")]
        assert len(upstream.asked) == 3


async def test_a_server_that_is_replaced() -> None:
    """Where a backend fails its check, another server may be there afterwards: what is known of the old one goes."""
    async with serving(strict("reasoning_effort")) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        assert (await hub.post("/api/chat", native(think=False))).headers["X-AgentHub-Dropped"] == "think"
        upstream.missing = ("/",)
        await hub.hub.dispatcher.router.refresh()
        upstream.missing, upstream.reply = (), answering()
        answer = await hub.post("/api/chat", native(think=False))
        assert "X-AgentHub-Dropped" not in answer.headers
        assert upstream.asked[-1]["reasoning_effort"] == "none"


@pytest.mark.parametrize("places", [1, 0])
async def test_requests_that_were_decided_before(places: int) -> None:
    """Those under way while another shows what is refused are answered too, and say what they lost all the same."""
    async with serving(strict("reasoning_effort")) as upstream:
        backend = BackendSettings(url=upstream.url, api_mode="openai", max_concurrency=places, queue_size=8)
        async with running_hub({"b": backend}) as hub:
            answers = await asyncio.gather(*(hub.post("/api/chat", native(think=False)) for _ in range(4)))
            assert [answer.headers.get("X-AgentHub-Dropped") for answer in answers] == ["think"] * 4
            assert not places or sum("reasoning_effort" in body for body in upstream.asked) == 1


@pytest.mark.parametrize("path", ASKED)
async def test_large_requests(path: str) -> None:
    """A body that is rendered in a thread is rendered again there, complete except for what was refused."""
    text = "a" * 600_000
    asked = {"messages": [{"role": "user", "content": text}]} if path == "/api/chat" else {"prompt": text}
    asked |= {"model": "m", "stream": False, "think": False, "options": {"seed": 3}}
    async with serving(strict("reasoning_effort")) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        for count in (2, 3):
            answer = await hub.post(path, asked)
            assert (answer.status, answer.headers["X-AgentHub-Dropped"], len(upstream.asked)) == (200, "think", count)
            assert upstream.asked[-1]["messages"] == [{"role": "user", "content": text}]
            assert upstream.asked[-1]["seed"] == 3


async def test_explained() -> None:
    """What is known to be refused is told beforehand too."""
    async with serving(strict("reasoning_effort")) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        await hub.post("/api/chat", native(think=False))
        told = (await hub.post("/hub/explain", {"path": "/api/chat", "body": native(think=False)})).json()
        assert [loss["field"] for loss in told["losses"]["openai"]] == ["think"]
        assert "reasoning_effort" not in told["upstream"]["requests"][0]["body"]
        assert len(upstream.asked) == 2


@pytest.mark.parametrize("flavour", ["vllm", "llamacpp"])
@pytest.mark.parametrize("think", [False, True])
async def test_templates(flavour: str, think: bool) -> None:
    """vLLM and llama.cpp are told by their template's word; one that refuses it is asked without."""
    async with serving(strict("chat_template_kwargs")) as upstream:
        backend = BackendSettings(url=upstream.url, api_mode="openai", flavour=flavour)
        async with running_hub({"b": backend}) as hub:
            answer = await hub.post("/api/chat", native(think=think))
            assert (answer.status, answer.headers["X-AgentHub-Dropped"]) == (200, "think")
            assert upstream.asked[0]["chat_template_kwargs"] == {"enable_thinking": think}
            assert "reasoning_effort" not in upstream.asked[0]


CHOICE: dict[str, Any] = {"type": "function", "function": {"name": "unsupported"}}


@pytest.mark.parametrize(
    ("wrong", "right", "member", "text"),
    [
        ({"tool_choice": CHOICE}, {"tool_choice": "required"}, "tool_choice", "Tool choice 'unsupported' not found."),
        ({"logit_bias": {"unknown": 1}}, {"logit_bias": {"5": 1}}, "logit_bias", "unknown is not a token id."),
        ({"options": {"temperature": 9}}, {"options": {"temperature": 0.5}}, "temperature", "above 2 is not allowed"),
        ({"options": {"num_predict": 500}}, {"options": {"num_predict": 5}}, "max_tokens", "more than 100 unsupported"),
        ({"options": {"seed": 999}}, {"options": {"seed": 9}}, "seed", "999 is not supported"),
    ],
)
@pytest.mark.parametrize("has_param", [False, True])
async def test_one_client_s_mistake(
    wrong: dict[str, Any], right: dict[str, Any], member: str, text: str, has_param: bool
) -> None:
    """It is answered with the server's error and asked once, and other clients of the model keep the member."""
    message = f"{member}: {text}"
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    asked = native(tools=tools) if member == "tool_choice" else native()
    async with (
        serving(lambda path, body: replies.pop(0) if replies else answering()(path, body)) as upstream,
        running_hub(upstream.url, api_mode="openai", retries=ONCE) as hub,
    ):
        replies = [Reply(of_openai(message, member if has_param else None), status=400)]
        refused = await hub.post("/api/chat", asked | wrong)
        assert (refused.status, message in refused.json()["error"], len(upstream.asked)) == (400, True, 1)
        answer = await hub.post("/api/chat", asked | right)
        assert (answer.status, "X-AgentHub-Dropped" in answer.headers) == (200, False)
        assert (member in upstream.asked[-1], len(upstream.asked)) == (True, 2)


async def test_words_alone_take_two_values() -> None:
    """Where only the words of an error refuse a member, that is believed of all values after two of them."""

    def reply(path: str, body: Any) -> Reply:
        if "temperature" in body:
            return Reply({"error": "temperature is not supported by this model"}, status=400)
        return answering()(path, body)

    async with serving(reply) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        for value, count in ((0.5, 2), (0.5, 2), (0.7, 2), (0.9, 1)):
            upstream.asked.clear()
            answer = await hub.post("/api/chat", native(options={"temperature": value}))
            assert (answer.status, answer.headers["X-AgentHub-Dropped"]) == (200, "options.temperature")
            assert len(upstream.asked) == count


async def test_what_is_remembered_expires() -> None:
    """After ten minutes the server is asked with the member again, and may take it."""
    clock = Clock()
    async with serving(strict("temperature", "seed")) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        adapter: Any = hub.hub.router.backends["ollama"].adapters["openai"]
        adapter.refused.clock = clock
        await hub.post("/api/chat", native(options={"temperature": 0.5}))
        clock.now += 599
        await hub.post("/api/chat", native(options={"temperature": 0.5, "seed": 1}))
        assert ["temperature" in body for body in upstream.asked] == [True, False, False, False]
        upstream.reply = answering()
        clock.now += 1
        answer = await hub.post("/api/chat", native(options={"temperature": 0.5, "seed": 1}))
        assert (answer.status, "X-AgentHub-Dropped" in answer.headers) == (200, False)
        assert (upstream.asked[-1]["temperature"], upstream.asked[-1]["seed"]) == (0.5, 1)
        assert not adapter.refused


def size_of(value: Any) -> int:
    """Return the bytes of all that a value holds."""
    if isinstance(value, dict):
        return sys.getsizeof(value) + sum(size_of(key) + size_of(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return sys.getsizeof(value) + sum(map(size_of, value))
    slots = [getattr(value, name) for name in getattr(type(value), "__slots__", ()) if name != "__weakref__"]
    return sys.getsizeof(value) + sum(size_of(one) for one in slots if not callable(one))


@pytest.mark.parametrize("is_sure", [False, True])
@pytest.mark.parametrize("is_any", [False, True])
@pytest.mark.parametrize(
    "value",
    [{str(n): 1 for n in range(1000)}, "a" * 10_000, 10**4000, [1] * 1000, {"a" * 9999: True}, {"a": "b" * 9999}],
    ids=["object", "text", "number", "list", "key", "member"],
)
def test_memory_is_bounded(value: Any, is_any: bool, is_sure: bool) -> None:
    """Of a client's long values nothing is kept, however many members and models there are."""
    memory = RefusedWords()
    for number in range(300):
        kept = {"value": None if is_any else value, "is_any": is_any, "is_sure": is_sure, "seen": value}
        memory.learn(f"m{number}", [Refusal(name, **kept) for name in FIELDS])
    assert size_of(memory) < 256 * 32 * 500
    assert bool(memory.of("m299")) == (is_any and is_sure)


def test_small_values_are_kept() -> None:
    """The hub's own objects are remembered as values."""
    memory = RefusedWords()
    values: list[Any] = [
        {"type": "json_object"},
        ANY_OBJECT,
        {"enable_thinking": False},
        {"include_usage": True},
        "none",
    ]
    refusals = [Refusal(name, value) for name, value in zip(sorted(MADE), values, strict=False)]
    memory.learn("m", refusals)
    assert memory.of("m") == tuple(refusals)
