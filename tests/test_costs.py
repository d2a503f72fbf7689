"""Whatever is parsed, searched or put together costs no more than in proportion to its size."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agenthub.abilities import lacks_by_show
from agenthub.api.access.clients import _token
from agenthub.api.access.pages import Pages
from agenthub.api.described import describe, parse_description
from agenthub.api.openapi.options import KEEP_ALIVE
from agenthub.canonical import (
    LogprobsDelta,
    Message,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    assemble,
)
from agenthub.dialects import jsontext, names, ollama, openai
from agenthub.dialects.codec import StreamParser
from agenthub.dialects.framing import EventFramer, Framer, LineFramer
from agenthub.dialects.losses import losses_to_native, losses_to_openai
from agenthub.dialects.ollama.fields import parse_format, parse_keep_alive, parse_think
from agenthub.dialects.openai.calls import CallParser
from agenthub.dialects.openai.chat_stream import ChatParser
from agenthub.dialects.prompts import NoPrompt, find_prompt
from agenthub.dialects.tool_choice import parse_call
from agenthub.dialects.tool_results import in_one_message
from agenthub.enhancement.cleaning import Settling, clean
from agenthub.enhancement.kinds import fill
from agenthub.errors import AgentHubError, InvalidRequest, UpstreamError
from agenthub.log import _dumps
from agenthub.log_console import printable
from agenthub.middleware.cache_key import make_key
from agenthub.patterns import fits
from agenthub.rights import Rights
from agenthub.settings import BackendSettings
from agenthub.shared.codec import decode, encode
from agenthub.standin.body import unloads
from agenthub.standin.reply import pieces
from agenthub.standin.schemas import Clues
from agenthub.upstream.errors import make_status_error
from agenthub.upstream.hiding import Hiding
from tests.costs import assert_linear

NATIVE, OPENAI = ollama.chat.parse_request, openai.chat.parse_request


def tolerant(call: Callable[..., object]) -> Callable[..., None]:
    """Return the call for inputs that it may refuse."""

    def tried(value: Any) -> None:
        try:
            call(value)
        except (AgentHubError, NoPrompt, ValueError):
            pass
        except Exception as error:
            if type(error).__name__ != "Refusal":  # the stand-in's
                raise

    return tried


DURATIONS: dict[str, Callable[[int], str]] = {
    "digits": lambda n: "1" * n,
    "digits and a point": lambda n: "1" * n + ".",
    "digits behind a point": lambda n: "." + "1" * n,
    "digits on both sides": lambda n: "1" * n + "." + "1" * n,
    "points": lambda n: "1." * n,
    "minutes and then none": lambda n: "1m" * n + "x",
    "milliseconds and then none": lambda n: "1ms" * n + "1",
    "signs": lambda n: "-" * n,
    "good": lambda n: "1.5h" * n,
}


@pytest.mark.parametrize("made", DURATIONS)
@pytest.mark.parametrize(
    "parse", [parse_keep_alive, lambda text: unloads({"keep_alive": text})], ids=["hub", "standin"]
)
def test_durations(made: str, parse: Callable[[str], object]) -> None:
    """Of the hub, and of the stand-in that reads them as Ollama does."""
    assert_linear(DURATIONS[made], tolerant(parse), 10_000)


@pytest.mark.parametrize("made", DURATIONS)
def test_the_published_pattern_of_durations(made: str) -> None:
    """What clients may check by means the same, and is as quick to refuse."""
    pattern = re.compile(next(kind["pattern"] for kind in KEEP_ALIVE["anyOf"] if "pattern" in kind))
    # Short texts: of long ones the memory for the groups, given page by page, costs more than the rest.
    assert_linear(DURATIONS[made], pattern.search, 2_000)


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        *(
            (text, True)
            for text in ("1s", "1.s", ".5s", "1.5h", "1h30m", "-1.5h30m5s", "+1h", "1ns2us3µs4μs5ms", "1m1ms")
        ),
        *((text, False) for text in ("s", ".s", "1", "1.", "-", "1ss", "1 s", "1..5s", "1.5.5s", "1s-1s", "1S", "")),
    ],
)
def test_durations_are_read_as_go_reads_them(text: str, is_good: bool) -> None:
    """The hub's pattern, the published one and the stand-in's agree."""
    published = next(kind["pattern"] for kind in KEEP_ALIVE["anyOf"] if "pattern" in kind)
    assert (re.search(published, text) is not None) is is_good
    if is_good:
        assert parse_keep_alive(text) == text
        assert not unloads({"keep_alive": text})
    elif not text.isdigit():  # a number, which the hub takes for seconds
        with pytest.raises(InvalidRequest, match="time: invalid duration"):
            parse_keep_alive(text)


def members(made: Callable[[int], str], n: int) -> bytes:
    return ("{" + ",".join(made(number) for number in range(n)) + "}").encode()


OBJECTS: dict[str, Callable[[int], bytes]] = {
    "many members": partial(members, lambda number: f'"k{number}": 1'),
    "many of one name": partial(members, lambda number: '"model":"a"'),
    "many of one name in two cases": partial(members, lambda number: '"MODEL":"a"' if number % 2 else '"model":"a"'),
    "long text": lambda n: b'{"model":"' + b"a" * n * 10 + b'"}',
    "many escapes": lambda n: b'{"model":"' + rb"\u0061" * n + b'"}',
    "many surrogates": lambda n: b'{"model":"' + rb"\ud800" * n + b'"}',
    "many digits": lambda n: b'{"model":' + b"1" * n * 10 + b"}",
    "many decimals": lambda n: b'{"model":0.' + b"1" * n * 10 + b"}",
    "many long numbers": lambda n: b'{"model":[' + b",".join([b"12345678901234567890123"] * n) + b"]}",
    "deep lists": lambda n: b'{"model":' + b"[" * n + b"]" * n + b"}",
    "deep objects": lambda n: b'{"model":' + b'{"a":' * n + b"1" + b"}" * n + b"}",
    "white space": lambda n: b" " * n * 10 + b'{"model":' + b" " * n * 10 + b"1}",
    "broken at its end": lambda n: b'{"model":[' + b"1," * n + b"]}",
    "broken after many lists": lambda n: b'{"model":[' + b"[]," * n + b"]}",
    "broken after brackets in texts": lambda n: b'{"model":["' + rb'["\"' * n + b'",,]}',
    "text without end": lambda n: b'{"model":"' + b"a" * n * 10,
    "much behind it": lambda n: b'{"model":"a"}' + b"}" * n * 10,
}
ON_TEXT: dict[str, Callable[[bytes], object]] = {
    "loads": jsontext.loads,
    "loads_exactly": jsontext.loads_exactly,
    "replace": lambda data: jsontext.replace_top_level(data, "model", "another"),
    "set": lambda data: jsontext.set_top_level(data, {"model": "another", "new": 1}),
    "get": lambda data: jsontext.get_top_level(data, "model"),
    "has_twins": names.has_twins,
    "items": lambda data: jsontext.items(data.decode()[9:]),
    "rights": lambda data: Rights(models=("b",)).check(ollama.generate.parse_request(data)),
    "chat": NATIVE,
    "openai chat": OPENAI,
    "show": ollama.listing.parse_show_request,
    "description": lambda data: parse_description(data, "localhost"),
    "prompt": lambda data: find_prompt("/api/generate", data),
    "error of an upstream": lambda data: make_status_error(500, {}, data, lambda message: False),
    "redis": decode,
}


@pytest.mark.parametrize("made", OBJECTS)
@pytest.mark.parametrize("call", ON_TEXT)
def test_json(made: str, call: str) -> None:
    """Of whatever shape, read or changed by whichever part of the hub."""
    assert_linear(OBJECTS[made], tolerant(ON_TEXT[call]), 2000)


def chat(**message: Callable[[int], Any]) -> Callable[[int], bytes]:
    """Return what makes a chat whose one message has members of that size."""
    return lambda n: json.dumps(
        {"model": "a", "messages": [{"role": "user"} | {name: made(n) for name, made in message.items()}]}
    ).encode()


def calls(n: int) -> list[Any]:
    return [{"id": f"c{number}", "function": {"name": f"f{number}", "arguments": "{}"}} for number in range(n)]


def answered(n: int, **answer: Callable[[int], Any]) -> bytes:
    """Return a chat of n calls in one message and n answers to them, the last call first."""
    answers = [
        {"role": "tool", "content": "x"} | {name: made(number) for name, made in answer.items()}
        for number in reversed(range(n))
    ]
    return json.dumps({"model": "a", "messages": [{"role": "assistant", "tool_calls": calls(n)}, *answers]}).encode()


CHATS: dict[str, Callable[[int], bytes]] = {
    "members nobody knows": lambda n: chat(**{f"k{number}": lambda n: 1 for number in range(n)})(n),
    "parts": chat(content=lambda n: [{"type": "text", "text": "a"}] * n),
    "parts of many kinds": chat(content=lambda n: [{"type": f"t{number}"} for number in range(n)]),
    "members of parts": chat(content=lambda n: [{"type": "text", "text": "a", f"k{i}": 1} for i in range(n)]),
    "images": chat(content=lambda n: [{"type": "image_url", "image_url": "data:image/png;base64,iVBO"}] * n),
    "a long image": chat(content=lambda n: [{"type": "image_url", "image_url": "data:" + "," * n}]),
    "thoughts": chat(reasoning_details=lambda n: [{"text": "a"}] * n),
    "calls": chat(tool_calls=calls),
    "members of calls": chat(tool_calls=lambda n: [{**call, f"k{i}": 1} for i, call in enumerate(calls(n))]),
    "long arguments": chat(tool_calls=lambda n: [{"function": {"name": "f", "arguments": "[" * n}}]),
    "answers by id": partial(answered, tool_call_id=lambda number: f"c{number}"),
    "answers by one id": partial(answered, tool_call_id=lambda number: "c0"),
    "answers by name": partial(answered, tool_name=lambda number: f"f{number}", name=lambda number: f"f{number}"),
    "answers by neither": partial(answered),
    "messages": lambda n: json.dumps({"model": "a", "messages": [{"role": "user", "content": "a"}] * n}).encode(),
    "tools": lambda n: json.dumps(
        {
            "model": "a",
            "messages": [{"role": "user", "content": "a"}],
            "tools": [{"type": "function", "function": {"name": f"f{number}"}} for number in range(n)],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"function": {"name": f"f{i}"}} for i in range(n)]},
            },
        }
    ).encode(),
}


def passed_on(body: bytes, parse: Callable[[bytes], Any]) -> None:
    """Do with a chat all that the hub does before it is sent, in each lane."""
    request = parse(body)
    losses_to_native(request), losses_to_openai(request)
    make_key(request, "m")
    tolerant(lambda request: ollama.chat.render_request(request, "m"))(request)
    tolerant(lambda request: openai.chat.render_request(request, "m"))(request)
    tolerant(lambda body: find_prompt("/api/chat", body))(body)


@pytest.mark.parametrize("made", CHATS)
@pytest.mark.parametrize("parse", [NATIVE, OPENAI], ids=["ollama", "openai"])
def test_chats(made: str, parse: Callable[[bytes], Any]) -> None:
    """Parsed, held against the ledger, named for the cache, and rendered for both kinds of upstream."""
    assert_linear(CHATS[made], tolerant(lambda body: passed_on(body, parse)), 500)


def test_the_calls_that_answers_belong_to() -> None:
    """Each answer has the id of its call: by its own id, by its tool's name, else that of the first still open."""
    body = {
        "model": "a",
        "messages": [
            {"role": "assistant", "tool_calls": [{"function": {"name": name}} for name in ("f", "g", "f", "h", "i")]},
            *({"role": "tool", "content": "x", "tool_name": name} for name in ("f", "g", "f", "other", "f")),
        ],
    }
    rendered = json.loads(openai.chat.render_request(NATIVE(json.dumps(body).encode()), "m"))["messages"]
    ids = [call["id"] for call in rendered[0]["tool_calls"]]
    assert [message["tool_call_id"] for message in rendered[1:]] == [ids[0], ids[1], ids[2], ids[3], ids[4]]


def fragments(n: int, pieces: Callable[[int], str]) -> list[dict[str, Any]]:
    """Return n fragments of a call as servers send them that give each an id of its own."""
    return [
        {"index": 0, "id": f"c{number}", "function": {"name": "f", "arguments": pieces(number)}} for number in range(n)
    ]


@pytest.mark.parametrize(
    "piece",
    [
        lambda number: "abcdefgh" if number else '{"a": "',
        lambda number: '\\"' if number else '"',
        lambda number: "}" if number else '{"a": "',
        lambda number: "}",
        lambda number: "x",
        lambda number: " " if number else "-",
        lambda number: " ",
        lambda number: "",
        lambda number: "{",
        lambda number: "{}" if number else "{} x",
    ],
)
def test_fragments_of_calls(piece: Callable[[int], str]) -> None:
    """Whether a call is whole is asked with each fragment, and costs what the fragment costs."""

    def parse(sent: list[dict[str, Any]]) -> None:
        parser = CallParser()
        for fragment in sent:
            parser.parse(fragment)

    assert_linear(lambda n: fragments(n, piece), parse, 2000)


CUT = st.lists(st.sampled_from([*'{}[]":, \\1-ea', '\\"', "{}", '"a"', "null", "", "\\\\", '{"a": "}'])).map(tuple)


@settings(max_examples=500)
@given(CUT)
@example(('{"a": "', "}", '\\"', '"}', "{}"))
@example(("12", "3", "[", "]", "[]"))
def test_a_call_ends_where_its_arguments_are_whole(cut: tuple[str, ...]) -> None:
    """However they are cut: the next fragment begins another call where what came is JSON, and only there."""
    parser = CallParser()
    indexes = [parser.parse(fragment).index for fragment in fragments(len(cut), cut.__getitem__)]
    number, said, expected = -1, "", []
    for piece in cut:
        if not said or _is_json(said):
            number, said = number + 1, ""
        said += piece
        expected.append(number)
    assert indexes == expected


def _is_json(text: str) -> bool:
    try:
        jsontext.loads(text.encode())
    except ValueError:
        return False
    return True


def chunk(**delta: Any) -> bytes:
    return json.dumps({"choices": [{"delta": delta}]}).encode()


STREAMS: dict[str, bytes] = {
    "refusals": chunk(refusal="no, " * 20),
    "annotations": chunk(annotations=[{"type": "url_citation"}]),
    "texts": chunk(content="a"),
    "parts": chunk(content=[{"type": "text", "text": "a"}]),
    "calls": chunk(tool_calls=[{"index": 0, "function": {"arguments": "a"}}]),
}


@pytest.mark.parametrize("made", STREAMS)
def test_streams(made: str) -> None:
    """What an answer says beside its text is gathered from all of its chunks."""

    def parse(n: int) -> None:
        parser, events = ChatParser(), list[Any]()
        for _ in range(n):
            parser.parse(STREAMS[made], events)
        parser.parse(b"[DONE]", events)
        assemble(events)

    assert_linear(lambda n: n, parse, 4000)


def test_what_is_gathered_is_all_of_it() -> None:
    """A refusal is its pieces, joined; annotations are those of all chunks."""
    parser, events = ChatParser(), list[Any]()
    for sent in (chunk(refusal="I "), chunk(refusal="will "), chunk(refusal="not."), chunk(annotations=[1])):
        parser.parse(sent, events)
    parser.parse(chunk(annotations=[2, 3]), events)
    parser.parse(b"[DONE]", events)
    assert events[-1].aside == {"refusal": "I will not.", "annotations": [1, 2, 3]}


@pytest.mark.parametrize(
    "event",
    [
        TextDelta("a" * 50),
        RefusalDelta("a" * 50),
        ReasoningDelta("a" * 50),
        LogprobsDelta(({"token": "a", "logprob": 0.0},)),
        ToolCallDelta(0, "c", "f", "a" * 50),
    ],
    ids=lambda event: type(event).__name__,
)
def test_assembling(event: Any) -> None:
    """Any number of events of a kind."""
    assert_linear(lambda n: [RefusalDelta("no"), *[event] * n], assemble, 10_000)


@pytest.mark.parametrize("framer", [LineFramer, EventFramer])
@pytest.mark.parametrize("piece", [b"a", b"a\r", b"\r", b"data: a\n", b"a" * 100, b"\n", b"\r\n", b"data: a\n\n"])
def test_framing(framer: Callable[[], Framer], piece: bytes) -> None:
    """A frame that comes in small pieces, or many small frames."""

    def feed(n: int) -> None:
        one = framer()
        for _ in range(n):
            for frame in one.feed(piece):
                one.payload(frame)
        for frame in one.close():
            one.payload(frame)

    assert_linear(lambda n: n, feed, 20_000)


def test_renaming_in_a_stream() -> None:
    """A long frame in which the model gets another name."""

    def feed(data: bytes) -> None:
        StreamParser(openai.CODECS[openai.chat.PATH], True, "another").feed(data)

    assert_linear(lambda n: b"data: " + members(lambda _: '"model":"a"', n) + b"\n\n", tolerant(feed), 2000)


ANSWERS: dict[str, Callable[[int], str]] = {
    "thoughts": lambda n: "<think></think>" * n + "a",
    "thoughts that end": lambda n: "a</think>" * n + "a",
    "thoughts that begin": lambda n: "<think>" * n + "a",
    "preambles": lambda n: "Improved prompt: " * n + "a",
    "preamble and blanks": lambda n: "sure here is " + "prompt " * 8 + " " * n + "x",
    "stars": lambda n: "*" * n,
    "fences": lambda n: "```a\n" * n + "a\n" + "```\n" * n,
    "fences that change": lambda n: "\n".join([("```", "~~~")[i % 2] for i in range(n)]) * 2,
    "quotes": lambda n: "“«" * n + "a" + "»”" * n,
    "blanks": lambda n: "a" + " " * n,
    "words": lambda n: "word " * n,
}


@pytest.mark.parametrize("made", ANSWERS)
def test_cleaning(made: str) -> None:
    """An answer that is no end of wrappings; so for a prompt that looks like one."""
    assert_linear(ANSWERS[made], lambda text: clean(text, "original"), 2000)
    assert_linear(ANSWERS[made], lambda text: clean("a", text), 2000)


@pytest.mark.parametrize("made", ANSWERS)
def test_settling(made: str) -> None:
    """The same answers, as they come: a character at a time, behind a beginning that is settled."""

    def feed(text: str) -> None:
        settling = Settling("original")
        settling.feed("Write a poem about it now. " * 20)
        for piece in text:
            settling.feed(piece)
        settling.close()

    assert_linear(ANSWERS[made], feed, 1000)


@pytest.mark.parametrize("piece", ["```{", "```json {", "```", "``` ", "```{}```", "{", "``````{}"])
def test_calls_in_fences(piece: str) -> None:
    """A model that must call a tool answers with the beginnings of many fences."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    body = {"model": "m", "messages": [], "tools": tools, "tool_choice": "required"}
    request = ollama.chat.parse_request(json.dumps(body).encode())
    assert_linear(lambda n: "so: " + piece * n, lambda text: parse_call(request, text), 4000)


def test_calls_of_one_turn() -> None:
    """Each in a message of its own, of which each has a text."""

    def history(n: int) -> list[Message]:
        call = ToolCall("f", "{}", "c")
        return [Message("assistant", "aa", tool_calls=(call,), reasoning="b" * 100) for _ in range(n)]

    assert_linear(history, in_one_message, 4000)
    joined = in_one_message([*history(2), Message("user", "u"), *history(3)])
    assert [(message.role, message.content, len(message.tool_calls)) for message in joined] == [
        ("assistant", "aa\naa", 2),
        ("user", "u", 0),
        ("assistant", "aa\naa\naa", 3),
    ]


ANYTHING: dict[str, tuple[Callable[[int], Any], Callable[[Any], object]]] = {
    "format": (lambda n: ['"'] * n, parse_format),
    "think": (lambda n: '"' * n, parse_think),
    "patterns of models": (lambda n: "a" * n, lambda name: fits(name, ("*a*a*a*b", "[!b]*?*:latest"))),
    "origin": (lambda n: "https://" + "a." * n, lambda origin: Pages(("https://*.b",))._judge(origin, "")),
    "authorization": (lambda n: "Bearer" + " " * n, _token),
    "path": (lambda n: "/" + "a/../" * n, lambda path: describe("POST", path, {}, b"").path),
    "path of controls": (lambda n: "/" + "\n" * n, lambda path: describe("POST", path, {}, b"").path),
    "header": (lambda n: {"a": ["b"] * n}, lambda headers: describe("POST", "/", headers, b"")),
    "headers": (lambda n: {f"a{i}": "b" for i in range(n)}, lambda headers: describe("POST", "/", headers, b"")),
    "version": (lambda n: "1." * n, lambda version: lacks_by_show(b"{}", version)),
    "secrets": (lambda n: b"secret-" * n, Hiding.of(BackendSettings(url="http://a", api_key="secret-secret")).hidden),
    "template": (lambda n: "{client}{{}}" * n, lambda template: fill(template, "a")),
    "log": (lambda n: {"error": "\x9b" * n}, _dumps),
    "console": (lambda n: "\x9b" * n, printable),
    "shared": (lambda n: ([[TextDelta("a")]] * n, [0.0] * n), lambda kept: decode(encode(*kept, 1, True))),
    "pieces of the stand-in": (lambda n: " " * n, lambda text: pieces.__wrapped__(text)),
    "clues of the stand-in": (lambda n: " 'a" * n + " " + "1" * n, Clues),
    "datetime": (lambda n: "2026-01-01T00:00:00." + "1" * n, openai.listing._seconds),
}


@pytest.mark.parametrize("what", ANYTHING)
def test_anything_else(what: str) -> None:
    """Headers, names, texts of logs and whatever else somebody outside the process decides the length of."""
    make, call = ANYTHING[what]
    assert_linear(make, tolerant(call), 4000)


@pytest.mark.parametrize("error", [InvalidRequest, UpstreamError])
def test_an_error_quotes_no_more_than_helps(error: type[AgentHubError]) -> None:
    """Its middle is left out; what is wrong with what was quoted stands at the end."""
    text = str(error("the value '" + "a" * 10**6 + "' is not known"))
    assert len(text) <= 4096
    assert text.startswith("the value 'aaaa")
    assert text.endswith("a' is not known")
