"""Tool calls: ids, numbering, pieces, and arguments that are no JSON object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from agenthub.canonical import Answer, Batch, ChatRequest, Event, Finished, TextDelta, ToolCall, ToolCallDelta, assemble
from agenthub.dialects import StreamParser, ollama, openai, parse_whole
from agenthub.errors import InvalidRequest, UnreadableAnswer, UpstreamProtocol

NATIVE, OPENAI = ollama.chat.CODEC, openai.chat.CODEC
REQUEST = ChatRequest(model="m", stream=True)


def call(index: int | None, arguments: str | None = None, **fields: Any) -> dict[str, Any]:
    """One fragment as OpenAI-compatible servers send them."""
    function = {
        key: value for key, value in {"name": fields.pop("name", None), "arguments": arguments}.items() if value
    }
    return ({} if index is None else {"index": index}) | fields | {"function": function}


def from_openai(*fragments: dict[str, Any], reason: str = "tool_calls") -> Batch:
    """The events of a stream in which each fragment has a chunk of its own."""
    deltas = [{"tool_calls": [fragment]} for fragment in fragments]
    choices = [{"index": 0, "delta": delta} for delta in deltas] + [{"index": 0, "delta": {}, "finish_reason": reason}]
    frames = [b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n" for choice in choices]
    parser = StreamParser(OPENAI)
    events = parser.feed(b"".join(frames) + b"data: [DONE]\n\n")
    assert parser.error is None
    return events


def from_native(*lines: Sequence[dict[str, Any]]) -> Batch:
    """The events of a stream of Ollama's, each line with some calls, the last of them done."""
    messages = [{"role": "assistant", "content": "", "tool_calls": list(line)} for line in lines]
    done = [{"message": message, "done": number == len(messages)} for number, message in enumerate(messages, 1)]
    parser = StreamParser(NATIVE)
    events = parser.feed(b"".join(json.dumps(line).encode() + b"\n" for line in done))
    assert parser.error is None
    return events


def native_lines(events: Batch) -> list[Any]:
    return [json.loads(line) for line in NATIVE.make_renderer(REQUEST).render(events).splitlines()]


@pytest.mark.parametrize(
    ("fragments", "calls"),
    [
        pytest.param(
            [call(0, "", id="a", name="f"), call(0, '{"ci'), call(0, 'ty":"R'), call(0, 'iga"}')],
            [ToolCall("f", '{"city":"Riga"}', "a")],
            id="in pieces",
        ),
        pytest.param(
            [call(0, '{"x":1}', id="a", name="f"), call(1, '{"y":2}', id="b", name="g")],
            [ToolCall("f", '{"x":1}', "a"), ToolCall("g", '{"y":2}', "b")],
            id="two whole ones",
        ),
        pytest.param(
            [call(0, '{"x":', id="a", name="f"), call(1, '{"y":', id="b", name="g"), call(0, "1}"), call(1, "2}")],
            [ToolCall("f", '{"x":1}', "a"), ToolCall("g", '{"y":2}', "b")],
            id="interleaved",
        ),
        pytest.param(
            [call(0, '{"x":1}', id="a", name="f"), call(0, '{"y":2}', id="b", name="g")],
            [ToolCall("f", '{"x":1}', "a"), ToolCall("g", '{"y":2}', "b")],
            id="an index that is taken, with another id, starts a new call",
        ),
        pytest.param(
            [call(0, '{"x":', id="a", name="f"), call(0, "1}", id="a", name="f")],
            [ToolCall("f", '{"x":1}', "a")],
            id="id and name repeated",
        ),
        pytest.param(
            [call(None, "{}", id="a", name="f"), call(None, "{}", id="b", name="g")],
            [ToolCall("f", "{}", "a"), ToolCall("g", "{}", "b")],
            id="no index at all",
        ),
        pytest.param([call(3, "{}", id="a", name="f")], [ToolCall("f", "{}", "a")], id="numbered from three"),
        pytest.param([call(0, None, id="a", name="f")], [ToolCall("f", "{}", "a")], id="no arguments"),
        pytest.param([call(0, "", id="a", name="f")], [ToolCall("f", "{}", "a")], id="empty arguments"),
    ],
)
def test_pieces_become_calls(fragments: list[dict[str, Any]], calls: list[ToolCall]) -> None:
    """Pieces of OpenAI's make whole calls; Ollama's clients get them in one line, arguments as objects."""
    events = from_openai(*fragments)
    assert list(assemble(events).tool_calls) == calls
    assert sorted({event.index for event in events if isinstance(event, ToolCallDelta)}) == list(range(len(calls)))
    *lines, last = native_lines(events)
    assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "stop", "")
    (line,) = lines
    assert (line["done"], line["message"]["content"]) == (False, "")
    assert line["message"]["tool_calls"] == [
        {"id": c.id, "function": {"index": number, "name": c.name, "arguments": json.loads(c.arguments)}}
        for number, c in enumerate(calls)
    ]


def test_calls_of_ollama_are_numbered_over_the_whole_answer() -> None:
    """Ollama may call every call number 0, in one line or in several, also in the last; here they are counted."""
    one = {"function": {"index": 0, "name": "f", "arguments": {"x": 1}}}
    events = from_native([one, one], [one])
    calls = [event for event in events if isinstance(event, ToolCallDelta)]
    assert [event.index for event in calls] == [0, 1, 2]
    frames = OPENAI.make_renderer(REQUEST).render(events).decode().split("\n\n")
    deltas = [json.loads(frame[6:])["choices"][0] for frame in frames[:3]]
    assert [delta["delta"]["tool_calls"][0]["index"] for delta in deltas] == [0, 1, 2]
    assert all(delta["delta"]["tool_calls"][0]["function"]["arguments"] == '{"x":1}' for delta in deltas)
    assert json.loads(frames[3][6:])["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("extra", [{}, {"model": "m"}, {"model": "m", "created_at": "x"}, {"a": 1, "b": 2, "c": 3}])
@pytest.mark.parametrize("about", [{}, {"role": "assistant"}, {"content": ""}, {"content": "", "thinking": ""}])
def test_no_shape_of_a_line_hides_a_call(extra: dict[str, Any], about: dict[str, Any]) -> None:
    """Calls, thoughts and log-probabilities are seen however many members stand beside them."""
    one = {"function": {"name": "f", "arguments": {}}}
    shapes: list[tuple[dict[str, Any], dict[str, Any]]]
    shapes = [({"tool_calls": [one]}, {}), ({"thinking": "t"}, {}), ({}, {"logprobs": [{"token": "a", "logprob": 0}]})]
    for in_message, in_line in shapes:
        parser = StreamParser(NATIVE)
        line = extra | {"message": about | in_message, "done": False} | in_line
        assert len(parser.feed(json.dumps(line).encode() + b"\n")) == 1
        assert parser.error is None


def test_every_call_has_an_id_of_its_own() -> None:
    """Ids that an upstream leaves out are made, all different; its own are kept; whole answers alike."""
    bare = {"function": {"name": "f", "arguments": {}}}
    events = from_native([bare] * 50, [{"id": "mine", **bare}])
    ids = [event.id for event in events if isinstance(event, ToolCallDelta)]
    assert (len(set(ids)), ids[-1]) == (51, "mine")
    whole = {"choices": [{"message": {"tool_calls": [bare | {"function": {"name": "f"}}]}, "finish_reason": "stop"}]}
    (delta, _) = parse_whole(OPENAI, json.dumps(whole).encode())
    assert isinstance(delta, ToolCallDelta)
    assert (delta.id.startswith("call_"), delta.arguments) == (True, "{}")


@pytest.mark.parametrize("reason", ["stop", "length", "load", "content_filter"])
def test_reasons_beside_calls(reason: str) -> None:
    """A call makes tool_calls of a stop; an answer that was cut stays cut."""
    rendered = OPENAI.render_whole(REQUEST, Answer(tool_calls=(ToolCall("f", "{}", "a"),), finished=Finished(reason)))
    choice = json.loads(rendered)["choices"][0]
    assert choice["finish_reason"] == (reason if reason in ("length", "content_filter") else "tool_calls")
    assert choice["message"]["content"] is None


def test_text_beside_a_call_is_kept() -> None:
    """Content and calls in one line are both delivered, the content first."""
    line = {"message": {"content": "hm", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}, "done": True}
    events = parse_whole(NATIVE, json.dumps(line).encode())
    assert [type(event) for event in events] == [TextDelta, ToolCallDelta, Finished]
    message = json.loads(OPENAI.render_whole(REQUEST, assemble(events)))["choices"][0]["message"]
    assert (message["content"], len(message["tool_calls"])) == ("hm", 1)


@pytest.mark.parametrize(
    "arguments",
    ['{"a":1.0}', '{"a": 12345678901234567890123}', '{"é":"☕"}', '{\n "a":\t1\r\n}', '{"a":1,"a":2}', '{"a":"\\n"}'],
)
def test_arguments_keep_their_spelling(arguments: str) -> None:
    """Arguments reach Ollama's clients as they were written, on one line whatever the model's taste in layout."""
    events = (ToolCallDelta(0, "a", "f", arguments), Finished())
    data = NATIVE.make_renderer(REQUEST).render(events)
    assert arguments.replace("\n", " ").replace("\r", " ").encode() in data
    assert len(data.splitlines()) == 2
    assert native_lines(events)[0]["message"]["tool_calls"][0]["function"]["arguments"] == json.loads(arguments)
    assert len(NATIVE.render_whole(REQUEST, assemble(events)).splitlines()) == 1


BROKEN = ['{"a":', "[1]", "5", '"text"', "{'a':1}", '{"a":NaN}', "{} {}", '{"x":1}{"y":2}', '{"a":"\n"}']


@pytest.mark.parametrize("arguments", BROKEN)
def test_broken_arguments_never_reach_the_wire(arguments: str) -> None:
    """Arguments that are no JSON object break an answer in Ollama's dialect, whole and streamed."""
    events = (TextDelta("a"), ToolCallDelta(0, "c", "f", arguments), Finished())
    with pytest.raises(UpstreamProtocol, match="the upstream called f with arguments that are no JSON object"):
        NATIVE.make_renderer(REQUEST).render(events)
    with pytest.raises(UpstreamProtocol, match="no JSON object"):
        NATIVE.render_whole(REQUEST, assemble(events))


@pytest.mark.parametrize("arguments", BROKEN)
def test_a_call_that_was_cut_is_left_out(arguments: str) -> None:
    """When the length was the reason, a last call that cannot be parsed is left out; one before it is an error."""
    good, bad = ToolCallDelta(0, "c", "f", "{}"), ToolCallDelta(1, "d", "g", arguments)
    events: list[Event] = [good, bad, Finished("length")]
    calls = native_lines(tuple(events))[0]["message"]["tool_calls"]
    assert [one["function"]["name"] for one in calls] == ["f"]
    (line,) = native_lines((bad, Finished("length")))
    assert (line["done"], line["done_reason"], "tool_calls" in line["message"]) == (True, "length", False)
    assert "tool_calls" not in json.loads(NATIVE.render_whole(REQUEST, assemble((bad, Finished("length")))))["message"]
    with pytest.raises(UpstreamProtocol):
        native_lines((ToolCallDelta(0, "d", "g", arguments), ToolCallDelta(1, "c", "f", "{}"), Finished("length")))


@pytest.mark.parametrize("arguments", [[1], 5, True, "text", '{"a":'])
def test_broken_arguments_of_ollama(arguments: Any) -> None:
    """Arguments of an Ollama that are no object reach OpenAI's clients as the text they are, Ollama's not at all."""
    line = {"message": {"tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}, "done": True}
    events = parse_whole(NATIVE, json.dumps(line).encode())
    called = json.loads(OPENAI.render_whole(REQUEST, assemble(events)))["choices"][0]["message"]["tool_calls"][0]
    assert called["function"]["arguments"] == (arguments if isinstance(arguments, str) else json.dumps(arguments))
    with pytest.raises(UnreadableAnswer, match="the upstream called f with arguments that are no JSON object"):
        NATIVE.render_whole(REQUEST, assemble(events))


@pytest.mark.parametrize("arguments", [None, "", " ", "null", "[]", [], {}, "{}", {"a": 1}, '{"a":1}', '{"a": 1}'])
def test_arguments_of_the_history(arguments: Any) -> None:
    """Both dialects take the arguments of an earlier call as an object or as its text, or none at all."""
    function = {"name": "f"} | ({} if arguments is None else {"arguments": arguments})
    message = {"role": "assistant", "tool_calls": [{"id": "a", "function": function}]}
    body = json.dumps({"model": "m", "messages": [message]}).encode()
    meant = {"a": 1} if "a" in (arguments or "") else {}
    for codec in (NATIVE, OPENAI):
        request = codec.parse_request(body)
        native = json.loads(NATIVE.render_request(request, "m"))["messages"][0]["tool_calls"][0]["function"]
        assert native == {"name": "f", "arguments": meant}
        other = json.loads(OPENAI.render_request(request, "m"))["messages"][0]["tool_calls"][0]
        assert (other["id"], other["type"], json.loads(other["function"]["arguments"])) == ("a", "function", meant)
        assert isinstance(other["function"]["arguments"], str)


@pytest.mark.parametrize("arguments", ["[1]", '{"a":', 5, [1], "text", True])
def test_broken_arguments_of_the_history(arguments: Any) -> None:
    """An earlier call with arguments that are no object is refused in Ollama's words before an Ollama is asked.

    A server of OpenAI's API takes any text, so that a client of its own dialect may send it such a call.
    """
    message = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}
    body = json.dumps({"model": "m", "messages": [message]}).encode()
    with pytest.raises(InvalidRequest, match=r"^invalid tool call arguments$"):
        NATIVE.parse_request(body)
    request = OPENAI.parse_request(body)
    with pytest.raises(InvalidRequest, match=r"^invalid tool call arguments$"):
        NATIVE.render_request(request, "m")
    sent = json.loads(OPENAI.render_request(request, "m"))["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert sent == (arguments if isinstance(arguments, str) else json.dumps(arguments))
