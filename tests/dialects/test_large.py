"""Large bodies: cut into pieces that are bounded, and read as a short body is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from agenthub.canonical import JSON, Request
from agenthub.dialects import body as bodies
from agenthub.dialects import ends, jsontext, names, ollama, openai, scan, sizes
from agenthub.dialects.body import _first_value, _parse
from agenthub.dialects.ends import end_of_value
from agenthub.dialects.groups import MANY, grouped
from agenthub.dialects.large import read_members
from agenthub.dialects.ledger import FIELDS
from agenthub.dialects.nameless import nameless_tools
from agenthub.errors import InvalidRequest

PARSERS: dict[str, Callable[[bytes], Request]] = {
    "chat": ollama.chat.parse_request,
    "generate": ollama.generate.parse_request,
    "embed": ollama.embed.parse_request,
    "embeddings": ollama.embed.parse_legacy_request,
    "v1/chat": openai.chat.parse_request,
    "v1/completions": openai.completions.parse_request,
    "v1/embeddings": openai.embeddings.parse_request,
}
MESSAGE = {"role": "user", "content": 'say "}],{[" \\ ok', "more": [1, {"x": [[]]}, None]}
TEXTS = st.text(alphabet='aé"\\{}[],: \n\ud800', max_size=6)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.sampled_from([0.5, -1e300]) | TEXTS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXTS, inner, max_size=6),
    max_leaves=40,
)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut short texts as large ones are cut."""
    monkeypatch.setattr(scan, "PIECE_BYTES", 24)
    monkeypatch.setattr(ends, "PIECE_BYTES", 24)


def outcome(read: Callable[[], JSON]) -> tuple[str, JSON]:
    try:
        return "value", read()
    except InvalidRequest as error:
        return "refused", str(error)


@given(VALUES, st.sampled_from([None, 1]), st.booleans())
@settings(max_examples=600, deadline=None)
def test_pieces_come_to_the_same_value(value: Any, indent: int | None, ascii_only: bool) -> None:
    """As all at once, whatever its nesting, spacing and escapes."""
    text = json.dumps({"a": value, "tool_calls": [value], "z": 1}, indent=indent, ensure_ascii=ascii_only)
    body = text.encode("utf-8", "surrogatepass")
    assert outcome(lambda: read_members(body, _first_value, None)) == outcome(lambda: _parse(body))


@given(st.text(alphabet='{}[]",:1a\\ ', max_size=40), st.sampled_from(["{", '{"a":[', '{"a":[{"b":1},', "["]))
@settings(max_examples=2000, deadline=None)
def test_broken_text_gets_the_same_words(rest: str, start: str) -> None:
    """The same 400 as in a short body, wherever the fault stands."""
    body = (start + rest).encode()
    expected, found = outcome(lambda: _parse(body)), outcome(lambda: read_members(body, _first_value, None))
    if expected[0] == "value" and isinstance(expected[1], list):
        expected = ("value", [])  # a list is refused, whatever is in it
    assert found == expected


LONG_TEXT = '"' + "x" * 100 + '"'


@pytest.mark.parametrize(
    "text",
    [
        '{"a":[1,2,]}',
        '{"a":1,}',
        '{"a":[[1],[2],}',
        '{"a":{"b":[1,2,3,4,5,6,7,8,9,10,11,12,13,14]]}',
        '{"a":[' + "1," * 50 + "}",
        '{"a":[' + "1," * 50,
        '{"a":' + LONG_TEXT + " 1}",
        '{"a":' + LONG_TEXT + ",}",
        '{"a":[' + LONG_TEXT + ",]}",
        '{"a":[' + LONG_TEXT + ",,1]}",
        '{"a":"' + "x" * 100,
        '{"a":[' + "[1]," * 20 + "[1}]}",
        '{"a" [' + "1," * 50 + "1]}",
        '{"a":[' + "1," * 50 + "1] 2}",
        "[" * 2000,
        '{"a":' + "[" * 600 + "]" * 600 + "}",
        '{"a":[' + "1," * 50 + "1]} trailing",
        '{"a":[' + "1," * 50 + "1e999]}",
        '{"a":[' + "1," * 50 + '"\\x"]}',
        '{"a":[' + "1," * 50 + '"\n"]}',
    ],
)
def test_faults_at_the_seams(text: str) -> None:
    """Where one piece ends and another begins."""
    body = text.encode()
    assert outcome(lambda: read_members(body, _first_value, None)) == outcome(lambda: _parse(body))


@pytest.mark.parametrize("brackets", ["[" * 600, '{"a":' * 600, "[" * 600 + "]" * 600 + ",,", '[["]]",' * 501])
def test_what_is_too_deep_and_broken(brackets: str) -> None:
    """Is too deep on each version of Python, however deep its own parser goes."""
    body = f'{{"a":{brackets}'.encode()
    assert outcome(lambda: _parse(body)) == ("refused", "exceeded max depth")
    assert outcome(lambda: read_members(body, _first_value, None)) == ("refused", "exceeded max depth")


@pytest.mark.parametrize("text", ["[" * 400, '{"a":"' + "[" * 600, '{"\\"[":' + '"[{",' * 600])
def test_what_is_broken_and_not_too_deep(text: str) -> None:
    """Brackets within texts do not count."""
    assert "depth" not in outcome(lambda: _parse(text.encode()))[1]


@pytest.mark.parametrize("levels", [490, *range(495, 506)])
@pytest.mark.parametrize("inner", ["1", "[[[1]]]", "[" * 14 + "1" + "]" * 14, "1," * 40 + "[[1]]," * 5 + "[[[1]]]"])
def test_the_depth_is_counted_across_pieces(levels: int, inner: str) -> None:
    """Wherever the deepest item is, and whether a pattern took it or not."""
    body = ('{"a":' + "[" * (levels - 15) + inner + "]" * (levels - 15) + "}").encode()
    assert outcome(lambda: read_members(body, _first_value, None)) == outcome(lambda: _parse(body))
    body = ('{"a":' + "[" * levels + inner + "]" * levels + "}").encode()
    assert outcome(lambda: read_members(body, _first_value, None)) == outcome(lambda: _parse(body))


@pytest.mark.parametrize(
    "body", [b'{"a":["' + b"x" * 100 + b'\xff"],,}', b'{"a":[' + b"1," * 50 + b'1],,"b":"\xe9t\xe9"}']
)
def test_bytes_that_are_no_text(body: bytes) -> None:
    """Are named, before any other fault."""
    assert outcome(lambda: read_members(body, _first_value, None)) == outcome(lambda: _parse(body))


@pytest.mark.parametrize("name", ["tool\u017f", "TOOLS", "Tool\u017f"])
def test_a_name_in_another_spelling_hides_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large tools without a name are found, and stay found behind thousands of fields that nobody knows."""
    monkeypatch.setattr(bodies, "LARGE_BYTES", 0)
    unknown = {f"x{number}": 1 for number in range(2000)}
    text = json.dumps({"model": "m", **unknown, name: [{"type": "custom"}] * 99, "messages": [MESSAGE]})
    assert nameless_tools(ollama.chat.parse_request(text.encode()))


@given(VALUES)
@settings(max_examples=300, deadline=None)
def test_pieces_are_bounded(value: Any) -> None:
    """But for a text by itself: the parser gets no more than a piece at a time."""
    body = json.dumps([value, [value], {"a": value}]).encode("utf-8", "surrogatepass")
    for part in scan.cut(body):
        if isinstance(part, scan.Run):
            assert len(part.text) <= 3 * scan.PIECE_BYTES


@given(VALUES, st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_where_a_value_ends(value: Any, spaces: int) -> None:
    """In a larger text."""
    text = json.dumps(value)
    assert end_of_value(" " * spaces + text + ",]} x", spaces) == spaces + len(text)


@given(VALUES, st.booleans())
@settings(max_examples=300, deadline=None)
def test_names_and_twins(value: Any, is_twin: bool) -> None:
    """Are found across pieces as they are in a short text."""
    text = json.dumps({"a": value, "bB": [1] * 20, "c": 2})
    if is_twin:
        text = text[:-1] + ',"Bb":3}'
    body = text.encode()
    assert list(names._names(body)) == list(names.top_level_names(body))
    try:
        found = names._has_twins_in_pieces(body)
    except names._Twins:
        found = True
    assert found == names.has_twins(body)


@pytest.mark.parametrize("huge_bytes", [0, 2**22], ids=["huge", "large"])
@pytest.mark.parametrize("endpoint", PARSERS)
def test_a_large_request_is_the_same_request(endpoint: str, huge_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a short one, but for members that nobody here reads: these stay text."""
    body: dict[str, Any] = {
        "model": "m",
        "messages": [MESSAGE, {"role": "assistant", "content": "x", "tool_calls": [CALL]}] * 20,
        "prompt": "p" * 100,
        "input": ["a", "b"] * 40,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}] * 9,
        "options": {"stop": ["a"] * 50, "temperature": 1},
        "metadata": {"a": [1] * 50},
        "unknown": {"deep": [[[1] * 50]]},
        "other": 1,
    }
    if endpoint == "v1/completions":
        body["prompt"] = ["p", "q"] * 40
    text = json.dumps(body).encode()
    parse = PARSERS[endpoint]
    expected = parse(text)
    monkeypatch.setattr(bodies, "LARGE_BYTES", 0)
    monkeypatch.setattr(sizes, "HUGE_BYTES", huge_bytes)
    found = parse(text)
    unread = {name: value for name, value in found.extras.items() if isinstance(value, jsontext.Passage)}
    assert {name: json.loads(value.json) for name, value in unread.items()} == {
        name: expected.extras[name] for name in unread
    }
    assert "unknown" in unread
    plain = {name: value for name, value in found.extras.items() if name not in unread}
    assert plain == {name: value for name, value in expected.extras.items() if name not in unread}
    for name in ("messages", "tools", "options", "prompt", "inputs", "unmapped", "more_prompts", "model", "stream"):
        assert getattr(found, name, None) == getattr(expected, name, None)


CALL = {"id": "1", "function": {"name": "f", "arguments": {"n": 12345678901234567890123}}}


@pytest.mark.parametrize("endpoint", PARSERS)
def test_every_field_that_is_read_is_known(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would stay text in a large body."""
    taken: set[str] = set()

    class Seen(dict[str, Any]):
        def pop(self, name: str, *default: Any) -> Any:
            taken.add(name)
            return super().pop(name, *default)

        def get(self, name: str, *default: Any) -> Any:  # type: ignore[override]
            taken.add(name)
            return super().get(name, *default)

    plain = bodies.Fields
    monkeypatch.setattr(bodies, "Fields", lambda struct, values: plain(struct, Seen(values)))
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "input": "x", "tools": [], "extra": 1}
    PARSERS[endpoint](json.dumps(body).encode())
    assert taken
    assert taken <= FIELDS


def test_of_very_many_unknown_fields_the_first_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that they take no memory; those that are known count wherever they stand, and the rest is one field."""
    monkeypatch.setattr(bodies, "LARGE_BYTES", 0)
    fields = {f"x{number}": number for number in range(5000)}
    text = json.dumps({"model": "m", **fields, "user": "u", "messages": [MESSAGE], "temperature": 0.5}).encode()
    request = openai.chat.parse_request(text)
    assert request.options == {"temperature": 0.5}
    assert request.extras["user"] == "u"
    assert [name for name in request.extras if name.startswith("x")] == list(fields)[:1024]
    assert request.extras["..."] == jsontext.Passage(text, 0, len(text))


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_groups_render_the_same(value: Any) -> None:
    """As all at once."""
    assert jsontext.loads(jsontext.dumps(grouped(value))) == jsontext.loads(jsontext.dumps(value))


def test_long_lists_and_objects_are_grouped() -> None:
    """At the top and within."""
    value = {"a": [{"b": 1}] * (2 * MANY + 1), "c": {str(number): number for number in range(MANY + 1)}}
    assert isinstance(grouped(value)["a"], jsontext.Fragment)
    assert isinstance(grouped(value)["c"], jsontext.Fragment)
    assert jsontext.dumps(grouped(value)) == jsontext.dumps(value)
