"""Tool results and the calls that they answer: by id, by name, by order, and across dialects."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.canonical import ChatRequest, Message, ToolCall
from agenthub.dialects import ollama, openai
from agenthub.dialects.losses import losses_to_openai
from agenthub.dialects.tool_results import make_ids, pair_results, with_names
from tests.hubs import running_hub
from tests.upstreams import answering, serving

NATIVE, OPENAI = ollama.chat.CODEC, openai.chat.CODEC
USER = Message("user", "and?")


def calls(*names: str) -> Message:
    """One message of the assistant; ``name#id`` is a call with an id."""
    return Message("assistant", tool_calls=tuple(ToolCall(*_named(name)) for name in names))


def _named(text: str) -> tuple[str, str, str]:
    name, _, call_id = text.partition("#")
    return name, "{}", call_id


def result(text: str = "") -> Message:
    """The result of a tool; ``name#id`` says which."""
    name, _, call_id = text.partition("#")
    return Message("tool", "x", tool_name=name, tool_call_id=call_id)


@pytest.mark.parametrize(
    ("history", "pairs"),
    [
        pytest.param([calls("f"), calls("g"), result(), result()], {2: (0, 0), 3: (1, 0)}, id="two messages, by order"),
        pytest.param([calls("f"), calls("g"), result("g"), result("f")], {2: (1, 0), 3: (0, 0)}, id="by name"),
        pytest.param([calls("f#a"), calls("g#b"), result("#b"), result("#a")], {2: (1, 0), 3: (0, 0)}, id="by id"),
        pytest.param([calls("f", "f"), result("f"), result("f")], {1: (0, 0), 2: (0, 1)}, id="one name, by order"),
        pytest.param([calls("f#a", "f#b"), result("f#b"), result("f#a")], {1: (0, 1), 2: (0, 0)}, id="one name, by id"),
        pytest.param([calls("f", "g"), result(), result("f")], {1: (0, 1), 2: (0, 0)}, id="a name goes before order"),
        pytest.param([calls("f", "g"), result("h"), result("f")], {1: (0, 1), 2: (0, 0)}, id="a name of no call"),
        pytest.param([calls("f#a", "g#b"), result(), result("#a")], {1: (0, 1), 2: (0, 0)}, id="an id goes before all"),
        pytest.param(
            [calls("f#0", "g#1"), result("#1"), result("#0"), USER, calls("f#0"), result("#0")],
            {1: (0, 1), 2: (0, 0), 5: (4, 0)},
            id="ids numbered again in each turn",
        ),
        pytest.param([calls("f#0"), USER, calls("g#0"), result("#0")], {3: (2, 0)}, id="the last turn goes first"),
        pytest.param([calls("f"), USER, calls("g"), result()], {3: (2, 0)}, id="a call that was left open"),
        pytest.param([calls("f"), USER, result()], {2: (0, 0)}, id="a user who speaks in between"),
        pytest.param([calls("f", "g"), result("g"), calls("h"), result()], {1: (0, 1), 3: (2, 0)}, id="a call more"),
        pytest.param([calls("f#0"), calls("g#0"), result("g#0"), result("f#0")], {2: (1, 0), 3: (0, 0)}, id="id twice"),
        pytest.param([calls("f"), result("f#mine")], {1: (0, 0)}, id="an id of the client's own"),
        pytest.param([calls("f#a"), result("f#b")], {}, id="an id of another call"),
        pytest.param([calls("f#a", "g"), result("#a"), result("#a")], {1: (0, 0)}, id="a second result of one call"),
        pytest.param([result("f"), calls("f"), result("f")], {2: (1, 0)}, id="a result before its call"),
        pytest.param([calls("f", "g"), result("f")], {1: (0, 0)}, id="a result that is missing"),
        pytest.param([result(), USER], {}, id="no call at all"),
        pytest.param([USER, Message("user", "x", tool_name="f"), calls("f")], {}, id="only tools give results"),
    ],
)
def test_pairs(history: list[Message], pairs: dict[int, Any]) -> None:
    """What says most decides; a result never takes a call that another one names better."""
    assert pair_results(history) == pairs


@st.composite
def told_apart(draw: st.DrawFn) -> tuple[list[Message], dict[int, tuple[int, int]]]:
    """A history in which each result says by its id, or by a name of its own, whose it is, and the pairs."""
    by_id = draw(st.booleans())
    history: list[Message] = []
    waiting: list[tuple[int, int]] = []
    pairs: dict[int, tuple[int, int]] = {}
    for step in draw(st.lists(st.sampled_from(["call", "result", "user"]), max_size=12)):
        if step == "call":
            number, count = len(history), draw(st.integers(1, 3))
            names = [
                f"{draw(st.sampled_from('fg'))}#id{number}_{i}" if by_id else f"t{number}_{i}" for i in range(count)
            ]
            history.append(calls(*names))
            waiting += [(number, i) for i in range(count)]
        elif step == "result" and waiting:
            place = waiting.pop(draw(st.integers(0, len(waiting) - 1)))
            call = history[place[0]].tool_calls[place[1]]
            pairs[len(history)] = place
            history.append(result(f"#{call.id}" if by_id else call.name))
        else:
            history.append(USER)
    return history, pairs


@given(told_apart())
def test_any_order_is_told_apart(given_history: tuple[list[Message], dict[int, tuple[int, int]]]) -> None:
    """However calls and results are mixed, they are paired as their ids or names say, across dialects and back."""
    history, pairs = given_history
    assert pair_results(history) == pairs
    request = ChatRequest(model="m", messages=(*history, USER))
    there = OPENAI.parse_request(OPENAI.render_request(request, "m"))
    assert isinstance(there, ChatRequest)
    assert pair_results(there.messages) == pairs
    for number, (calling, index) in pairs.items():
        assert there.messages[number].tool_call_id == there.messages[calling].tool_calls[index].id != ""
    back = NATIVE.parse_request(NATIVE.render_request(there, "m"))
    assert isinstance(back, ChatRequest)
    assert pair_results(back.messages).keys() == pairs.keys()
    assert _contents(back.messages, pair_results(back.messages)) == _contents(there.messages, pairs)


def _contents(messages: Any, pairs: Any) -> list[Any]:
    return sorted((place, messages[number].tool_call_id, messages[number].tool_name) for number, place in pairs.items())


async def test_two_messages_with_a_call_each() -> None:
    """A client that keeps each line of a stream as a message leaves calls in two, and both results find theirs."""
    history = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "g", "arguments": {}}}]},
        {"role": "tool", "tool_name": "f", "content": "1"},
        {"role": "tool", "tool_name": "g", "content": "2"},
    ]
    async with serving(answering()) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        answer = await hub.post("/api/chat", {"model": "m", "messages": history, "stream": False})
        assert (answer.status, "X-AgentHub-Dropped" in answer.headers) == (200, False)
        messages = upstream.asked[0]["messages"]
        ids = [message["tool_calls"][0]["id"] for message in messages[1:3]]
        assert [message["tool_call_id"] for message in messages[3:]] == ids
        assert len(set(ids)) == 2


@pytest.mark.parametrize("word", ["name", "tool_name", "NAME"])
async def test_the_older_word_for_the_tool(word: str) -> None:
    """A tool's ``name``, as clients say that are older than ``tool_name``, pairs results that are out of order."""
    both: list[Any] = [{"function": {"name": name, "arguments": {}}} for name in ("f", "g")]
    history = [
        {"role": "assistant", "content": "", "tool_calls": both},
        {"role": "tool", word: "g", "content": "of g"},
        {"role": "tool", word: "f", "content": "of f"},
    ]
    async with serving(answering()) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        answer = await hub.post(
            "/api/chat", {"model": "m", "messages": history, "stream": False}, X_AgentHub_Strict="1"
        )
        assert answer.status == 200
        said, *results = upstream.asked[0]["messages"]
        ids = {call["function"]["name"]: call["id"] for call in said["tool_calls"]}
        assert [(one["content"], one["tool_call_id"]) for one in results] == [("of g", ids["g"]), ("of f", ids["f"])]


async def test_a_name_that_no_call_has() -> None:
    """A result with another name goes to the call that is left, and the name is noted; strict clients are refused."""
    history = [
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
        {"role": "tool", "tool_name": "functions.f", "content": "1"},
    ]
    body = {"model": "m", "messages": history, "stream": False}
    async with serving(answering()) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        answer = await hub.post("/api/chat", body)
        assert (answer.status, answer.headers["X-AgentHub-Dropped"]) == (200, "messages.tool_name")
        assert (await hub.post("/api/chat", body, X_AgentHub_Strict="true")).status == 400
        assert len(upstream.asked) == 1
        orphan = {**body, "messages": history[1:]}
        refused = await hub.post("/api/chat", orphan)
        assert (refused.status, "messages[0]: a tool message answers no call" in refused.json()["error"]) == (400, True)
        assert len(upstream.asked) == 1


def test_a_name_is_no_loss_where_it_fits() -> None:
    """Only a name that was passed over is noted."""
    for history in ([calls("f"), result("f")], [calls("f#a"), result("g#a")], [calls("f"), result()], [result("f")]):
        request = ChatRequest(model="m", messages=tuple(history))
        assert "messages.tool_name" not in [loss.field for loss in losses_to_openai(request)]


async def test_results_of_one_tool_reach_ollama_in_order() -> None:
    """Ollama has only the order for two calls of one tool: results that OpenAI's client tells by id are put into it."""
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    history = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a", **call}, {"id": "b", **call}]},
        {"role": "tool", "tool_call_id": "b", "content": "of b"},
        {"role": "tool", "tool_call_id": "a", "content": "of a"},
    ]
    async with serving(answering()) as upstream, running_hub(upstream.url) as hub:
        assert (await hub.post("/v1/chat/completions", {"model": "m", "messages": history})).status == 200
        assert upstream.asked[0]["messages"][2:] == [
            {"role": "tool", "content": "of a", "tool_name": "f", "tool_call_id": "a"},
            {"role": "tool", "content": "of b", "tool_name": "f", "tool_call_id": "b"},
        ]


async def test_ids_numbered_again_in_each_turn() -> None:
    """``call_0`` of one turn is not that of another: each result has the name of its own turn's tool."""
    history: list[Any] = []
    for name in ("f", "g"):
        call = {"id": "call_0", "type": "function", "function": {"name": name, "arguments": "{}"}}
        history += [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
        history += [{"role": "tool", "tool_call_id": "call_0", "content": name}]
    async with serving(answering()) as upstream, running_hub(upstream.url) as hub:
        assert (await hub.post("/v1/chat/completions", {"model": "m", "messages": history})).status == 200
        assert [one["tool_name"] for one in upstream.asked[0]["messages"] if one["role"] == "tool"] == ["f", "g"]


def test_a_second_result_has_the_name_too() -> None:
    """One more result of a call is a result of its tool all the same; of an id that no call has there is no name."""
    assert with_names([calls("f#a"), *[result("#a")] * 2, result("#b")])[1:] == (
        *[result("f#a")] * 2,
        result("#b"),
    )


def test_ids_that_the_hub_makes() -> None:
    """They never meet a client's own, and two calls of one turn have two, whatever the client called them."""
    history = [calls("f#call_00000002", "g"), result("f"), result("g"), USER, calls("f#0"), calls("g#0"), result("g#0")]
    ids = make_ids(history, pair_results(history))
    assert ids[0, 0] == "call_00000002" != ids[0, 1]
    assert (ids[4, 0], len(set(ids.values()))) == ("0", 4)
    messages = json.loads(OPENAI.render_request(ChatRequest(model="m", messages=tuple(history)), "m"))["messages"]
    assert messages[6]["tool_call_id"] == messages[5]["tool_calls"][0]["id"] == ids[5, 0]


def test_missing_results_pass() -> None:
    """A call without a result goes on as it is: the server says whether it minds."""
    request = ChatRequest(model="m", messages=(calls("f", "g"), result("g"), USER))
    messages = json.loads(OPENAI.render_request(request, "m"))["messages"]
    assert [message["role"] for message in messages] == ["assistant", "tool", "user"]
    assert messages[1]["tool_call_id"] == messages[0]["tool_calls"][1]["id"]


def test_openai_gets_the_calls_of_a_turn_in_one_message() -> None:
    """OpenAI's own server refuses a call whose result does not follow at once; others get the messages as they are."""
    history = (calls("f"), Message("assistant", "hm", tool_calls=(ToolCall("g"),)), result("g"), result("f"))
    request = ChatRequest(model="m", messages=history)
    said, *results = json.loads(OPENAI.render_request(request, "m", "openai"))["messages"]
    ids = {call["function"]["name"]: call["id"] for call in said["tool_calls"]}
    assert (said["content"], [one["tool_call_id"] for one in results]) == ("hm", [ids["g"], ids["f"]])
    assert len(json.loads(OPENAI.render_request(request, "m"))["messages"]) == 4


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (calls("f"), result("g#x")),
        (calls("f#0"), result("g#0")),
        (calls("f"), result("f")),
        (calls("f#a"), result("#b")),
    ],
    ids=["ids of no call", "one id for all", "one name for all", "nothing fits"],
)
@pytest.mark.parametrize("gap", [[], [USER]], ids=["one turn", "many turns"])
def test_the_cost_is_that_of_the_length(call: Message, answer: Message, gap: list[Message]) -> None:
    """Four times the history costs four times the steps, whatever it holds."""

    def steps(count: int) -> int:
        history = [call, *gap] * count + [answer] * count
        return _steps(lambda: make_ids(history, pair_results(history)))

    assert steps(800) < 5 * steps(200)


def _steps(run: Callable[[], object]) -> int:
    """Return how many lines of Python are run."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count
