"""There and back again: what a request loses on its way through the other dialect is what the ledger lists, no more.

native -> canonical -> openai -> canonical -> native, and the other way round, for each operation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agenthub.canonical import ChatRequest, EmbedRequest, GenerateRequest, Loss, Message, Request, ToolCall
from agenthub.dialects import Codec
from agenthub.dialects.losses import losses_to_native, losses_to_openai
from agenthub.dialects.tool_results import in_order
from tests.dialects import strategies
from tests.dialects.recorded import CODECS

words, texts, json_objects = strategies.words, strategies.texts, strategies.json_objects
SAMPLING = ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty", "num_predict", "stop")
NUMBERS = st.integers(-5, 5) | st.floats(-2, 2)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": NUMBERS,
        "top_p": st.floats(0, 1),
        "seed": st.integers(-1, 2**40),
        "frequency_penalty": NUMBERS,
        "presence_penalty": NUMBERS,
        "num_predict": st.integers(-2, 9),
        "stop": st.lists(words, max_size=4),
        "num_ctx": st.integers(1, 9999),
        "top_k": st.integers(1, 99),
        "min_p": st.floats(0, 1),
        "repeat_penalty": st.floats(0.5, 2),
        "mirostat": st.integers(0, 2),
        "num_gpu": st.none() | st.integers(0, 9),
    },
)
NATIVE_SHARED: dict[str, st.SearchStrategy[Any]] = {
    "options": OPTIONS,
    "stream": st.booleans(),
    "keep_alive": strategies.keep_alives,
    "format": st.none() | st.just("json") | json_objects.filter(bool),
    "think": st.none() | st.booleans() | strategies.levels,
    "logprobs": st.booleans(),
    "truncate": st.booleans(),
    "shift": st.booleans(),
    "invented": st.none() | st.integers(0, 9),
}
TOOLS = st.lists(st.fixed_dictionaries({"function": json_objects}, optional={"type": st.just("function")}), max_size=2)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A history in Ollama's words, in which every answer of a tool says which call it answers, by its name at least."""
    messages: list[dict[str, Any]] = []
    for number, role in enumerate(draw(st.lists(st.sampled_from(["system", "user", "call", "control"]), max_size=4))):
        if role != "call":
            shared = {"images": draw(st.lists(strategies.media, max_size=2))} if role == "user" else {}
            messages.append({"role": role, "content": draw(texts), **shared})
            continue
        names = draw(st.lists(words, min_size=1, max_size=3, unique=True))
        calls = [{"function": {"name": name, "arguments": draw(json_objects)}} for name in names]
        if with_ids := draw(st.booleans()):
            calls = [{"id": f"call_{number}_{index}", **call} for index, call in enumerate(calls)]
        messages.append({"role": "assistant", "content": draw(texts), "thinking": draw(texts), "tool_calls": calls})
        for index in draw(st.permutations(range(len(names)))):
            answered = {"tool_call_id": f"call_{number}_{index}"} if with_ids else {}
            messages.append({"role": "tool", "content": draw(texts), "tool_name": names[index], **answered})
    return [*messages, {"role": "user", "content": "hi"}]


CHATS = st.fixed_dictionaries({"model": words, "messages": conversations()}, optional={**NATIVE_SHARED, "tools": TOOLS})
RAW_PROMPTS = st.fixed_dictionaries(
    {"model": words, "prompt": words, "raw": st.just(True)},
    optional={name: NATIVE_SHARED[name] for name in NATIVE_SHARED if name != "format"} | {"suffix": texts},
)
EMBEDS = st.fixed_dictionaries(
    {"model": words, "input": words | st.lists(texts, min_size=1, max_size=3)},
    optional={
        **{name: NATIVE_SHARED[name] for name in ("keep_alive", "truncate", "invented")},
        "dimensions": st.integers(1, 99),
        "options": OPTIONS.map(lambda drawn: {name: drawn[name] for name in drawn if name not in SAMPLING}),
    },
)
OPENAI_SHARED: dict[str, st.SearchStrategy[Any]] = {
    "stream": st.booleans(),
    "temperature": NUMBERS,
    "top_p": st.floats(0, 1),
    "seed": st.integers(0, 2**40),
    "stop": words | st.lists(words, max_size=4),
    "max_tokens": st.integers(1, 99),
    "frequency_penalty": NUMBERS,
    "user": words,
    "metadata": json_objects,
    "n": st.just(1),
    "logit_bias": st.just({}),
    "store": st.booleans(),
    "invented": st.none() | st.integers(0, 9),
}
CHAT_COMPLETIONS = st.fixed_dictionaries(
    {"model": words},
    optional={
        **OPENAI_SHARED,
        "max_completion_tokens": st.integers(1, 99),
        "tools": TOOLS,
        "tool_choice": st.sampled_from(["auto", "none"]),
        "parallel_tool_calls": st.booleans(),
        "response_format": st.sampled_from([{"type": "text"}, {"type": "json_object"}])
        | json_objects.map(lambda schema: {"type": "json_schema", "json_schema": {"name": "schema", "schema": schema}}),
        "reasoning_effort": st.sampled_from(["none", "low", "medium", "high", "max"]),
        "logprobs": st.booleans(),
        "verbosity": st.just("low"),
        "service_tier": st.just("auto"),
    },
)
COMPLETIONS = st.fixed_dictionaries(
    {"model": words, "prompt": words},
    optional={name: OPENAI_SHARED[name] for name in OPENAI_SHARED if name != "store"}
    | {"logprobs": st.integers(0, 5), "suffix": texts},
)
EMBEDDINGS = st.fixed_dictionaries(
    {"model": words, "input": words | st.lists(texts, min_size=1, max_size=3)},
    optional={"dimensions": st.integers(1, 99), "user": words, "invented": st.integers(0, 9)},
)
FROM_NATIVE = [
    ("/api/chat", "/v1/chat/completions", CHATS),
    ("/api/generate", "/v1/completions", RAW_PROMPTS),
    ("/api/embed", "/v1/embeddings", EMBEDS),
]
FROM_OPENAI = [
    ("/v1/chat/completions", "/api/chat", CHAT_COMPLETIONS),
    ("/v1/completions", "/api/generate", COMPLETIONS),
    ("/v1/embeddings", "/api/embed", EMBEDDINGS),
]
_UNTOLD = {"source", "authorization", "defaults", "unmapped", "include_usage", "encoding", "upstream_model", "extras"}
_UNTOLD |= {"raw"}  # which the endpoint says: the legacy one takes raw prompts


def there_and_back(
    request: Request, own: Codec, other: Codec, losses: Callable[[Request], Sequence[Loss]]
) -> tuple[Request, set[str]]:
    """Return what is left of a request after both crossings, and the names of the losses on the way there."""
    noted = losses(request)
    assume(not any(loss.rejected for loss in noted))
    crossed = other.parse_request(other.render_request(request, request.model))
    back = own.parse_request(own.render_request(crossed, request.model))
    return back, {loss.field for loss in noted}


def asked_for(request: Request) -> dict[str, Any]:
    """Each thing that a request asks for under the ledger's name for it; what asks for nothing is left out."""
    told = {name: value for name, value in attrs.asdict(request, recurse=False).items() if name not in _UNTOLD}
    options = dict(told.pop("options"))
    told |= {f"options.{name}": value for name, value in options.items()}
    if isinstance(request, ChatRequest):
        told["parallel_tool_calls"] = not told.pop("one_call")
        # Results of one tool that follow one another may change places: their ids say which call each answers.
        told["messages"] = numbered(in_order(request.messages))
        told["tools"] = [{"type": "function", **tool} for tool in request.tools]
        if request.tool_choice == "none":
            # That is what it means to Ollama, which knows no choice.
            told |= {"tools": [], "tool_choice": None}
    asks_nothing = {
        "options.seed": -1,
        "options.num_predict": -1 if options.get("num_predict") != -2 else -2,
        "tool_choice": "auto",
        "n": 1,
        "store": False,
        "parallel_tool_calls": True,
        "truncate": True,
        "shift": True,
        "logit_bias": {},
        "service_tier": "auto",
    }
    if isinstance(request, EmbedRequest):
        del asks_nothing["truncate"]  # no OpenAI-compatible server promises it
    if isinstance(request, GenerateRequest):
        asks_nothing["think"] = False  # a prompt without a template does not make a model think
    if not told.get("logprobs"):
        told.pop("top_logprobs", None)
    told = {name: value for name, value in told.items() if value is False or value == 0 or value} | dict(request.extras)
    return {name: value for name, value in told.items() if name not in asks_nothing or value != asks_nothing[name]}


def numbered(messages: Sequence[Message]) -> list[Message]:
    """A history in which calls are named by their number: ids may be made up on the way, but must fit."""
    ids: dict[str, str] = {}
    open_calls: list[tuple[str, ToolCall]] = []
    found = []
    for message in messages:
        if message.tool_calls:
            open_calls = [(f"{len(ids) + n}", call) for n, call in enumerate(message.tool_calls)]
            ids |= {call.id or number: number for number, call in open_calls}
        calls = tuple(attrs.evolve(call, id=number) for number, call in open_calls) if message.tool_calls else ()
        by_name = next((number for number, call in open_calls if call.name == message.tool_name), "")
        answers = (ids.get(message.tool_call_id) or by_name) if message.role == "tool" else ""
        found.append(attrs.evolve(message, tool_calls=calls, tool_call_id=answers))
    return found


def changed(before: Request, after: Request) -> set[str]:
    """The names of what the two do not ask alike."""
    asked, left = asked_for(before), asked_for(after)
    return {name for name in asked | left if asked.get(name) != left.get(name)}


@pytest.mark.parametrize(("own", "other", "bodies"), FROM_NATIVE, ids=["chat", "generate", "embed"])
@settings(max_examples=60)
@given(data=st.data())
def test_from_native_and_back(own: str, other: str, bodies: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """What changed is what the ledger lists, neither more nor less."""
    request = CODECS[own].parse_request(json.dumps(data.draw(bodies)).encode())
    back, losses = there_and_back(request, CODECS[own], CODECS[other], losses_to_openai)
    assert changed(request, back) == losses


@pytest.mark.parametrize(("own", "other", "bodies"), FROM_OPENAI, ids=["chat", "completions", "embeddings"])
@settings(max_examples=60)
@given(data=st.data())
def test_from_openai_and_back(own: str, other: str, bodies: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """The same the other way round; a history as well, with several calls and their answers in any order."""
    body = data.draw(bodies)
    if own == "/v1/chat/completions":
        conversation = ChatRequest(model="m", messages=data.draw(strategies.openai_conversations()))
        body["messages"] = json.loads(CODECS[own].render_request(conversation, "m"))["messages"]
    request = CODECS[own].parse_request(json.dumps(body).encode())
    back, losses = there_and_back(request, CODECS[own], CODECS[other], losses_to_native)
    assert changed(request, back) == losses


def test_sampling_options_of_an_embedding_are_noted() -> None:
    """/v1/embeddings has no place for any option, so all are noted."""
    body = {"model": "m", "input": "hi", "options": {"temperature": 0.5, "num_ctx": 9, "seed": 1}}
    losses = losses_to_openai(CODECS["/api/embed"].parse_request(json.dumps(body).encode()))
    assert [loss.field for loss in losses] == ["options.temperature", "options.num_ctx", "options.seed"]


STRICT = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}}


@pytest.mark.parametrize(
    ("fields", "lost"),
    [
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": STRICT}, "response_format.json_schema.strict"),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, "reasoning.summary"),
    ],
    ids=["an unknown format", "a strict schema", "a summary"],
)
def test_what_stands_inside_is_noted(fields: dict[str, Any], lost: str) -> None:
    """Nothing goes in silence: what Ollama has no place for is noted by its path."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    losses = losses_to_native(CODECS["/v1/chat/completions"].parse_request(json.dumps(body).encode()))
    assert [loss.field for loss in losses] == [lost]
