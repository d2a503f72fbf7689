"""Changing one top-level value of JSON text leaves every other byte as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenthub.dialects import jsontext, names
from tests.dialects import strategies

spaces = st.text(" \t\r\n", max_size=3)
keys = st.sampled_from(["model", "Model", "MODEL", "models", "", "a", "{", '"', "\\", "modeé"]) | strategies.texts
values = strategies.json_values | st.just({"model": {"model": ["model"]}}) | st.sampled_from(['","model":"x"', "}"])


@st.composite
def literals(draw: st.DrawFn, drawn: st.SearchStrategy[Any]) -> str:
    """JSON text of a value, its characters spelled out or escaped, its numbers in odd ways."""
    value = draw(drawn)
    if value == 1 and draw(st.booleans()):
        return draw(st.sampled_from(["1.0", "1e0", "10E-1", "-0", "12345678901234567890123"]))
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.none() | st.just(1)))
    # An escape where none is needed; a backslash before the letter would make it another text.
    return text.replace("m", "\\u006d") if "\\" not in text and draw(st.booleans()) else text


@st.composite
def objects(draw: st.DrawFn) -> list[tuple[str, str, str, str]]:
    """Members of an object as text: what stands before the value, the key, the value, what stands behind it."""
    members = []
    for key in draw(st.lists(keys, max_size=5)):
        literal = draw(literals(st.just(key)))
        before = draw(spaces) + literal + draw(spaces) + ":" + draw(spaces)
        members.append((before, json.loads(literal), draw(literals(values)), draw(spaces)))
    return members


def written(members: list[tuple[str, str, str, str]], around: tuple[str, str] = ("", "")) -> bytes:
    inside = ",".join(before + value + behind for before, _, value, behind in members)
    return (around[0] + "{" + inside + "}" + around[1]).encode()


@settings(max_examples=200)
@given(objects(), st.tuples(spaces, st.sampled_from(["", " \n", " trailing words", "{}"])), strategies.json_values)
def test_replacing_keeps_every_other_byte(
    members: list[tuple[str, str, str, str]], around: tuple[str, str], value: Any
) -> None:
    """Each top-level key of the name, in any case and any spelling, gets the value; all else keeps its bytes."""
    literal = orjson.dumps(value).decode()
    expected = [(b, key, literal if key.lower() == "model" else old, a) for b, key, old, a in members]
    assert jsontext.replace_top_level(written(members, around), "model", value) == written(expected, around)


@settings(max_examples=200)
@given(objects(), strategies.json_values)
def test_setting_adds_what_was_absent(members: list[tuple[str, str, str, str]], value: Any) -> None:
    """A key that is there is replaced; one that is not comes last; the result parses to the object one expects."""
    data = written(members)
    result = jsontext.set_top_level(data, {"model": value})
    known = {key: json.loads(old) for _, key, old, _ in members}
    if any(key.lower() == "model" for key in known):
        assert result == jsontext.replace_top_level(data, "model", value)
        assert all(json.loads(result)[key] == value for key in known if key.lower() == "model")
    else:
        assert json.loads(result) == {**known, "model": value}
        assert list(json.loads(result))[-1] == "model"
        member = b'"model":' + orjson.dumps(value)
        assert result.replace(b"," + member if members else member, b"", 1) == data


@pytest.mark.parametrize(
    "change", [jsontext.replace_top_level, lambda data, key, v: jsontext.set_top_level(data, {key: v})]
)
@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b'"model"', b"\xef\xbb\xbf{}", b"\xff", b'{"a":', b'{"a":' + b"[" * 5000, b'{"a" 1']
)
def test_what_is_no_object(change: Callable[[bytes, str, Any], bytes], data: bytes) -> None:
    """Anything but a JSON object is a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        change(data, "model", "x")


@pytest.mark.parametrize(
    "data",
    [b"", b"nul", b"NaN", b"1e999", b"-Infinity", b"1" * 5000, b"{} x", b"\xff", b"\xef\xbb\xbf{}", b"[" * 10**5],
)
def test_what_is_no_json(data: bytes) -> None:
    """Numbers beyond a float, a byte order mark, other encodings and bottomless nesting are a ValueError too."""
    with pytest.raises(ValueError, match=r"."):
        jsontext.loads(data)
    if not data.endswith(b"x") and data != b"\xff":
        with pytest.raises(ValueError, match=r"."):
            jsontext.loads_first(data.decode())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**70, b"1180591620717411303424"),
        ("\ud800", b'"\\ud800"'),
        ({"b": 1, "a": 2**64}, b'{"b":1,"a":18446744073709551616}'),
        ([jsontext.fragment('{"x":1.0}'), 2**64], b'[{"x":1.0},18446744073709551616]'),
        (jsontext.fragment('{"x": 1e2}'), b'{"x": 1e2}'),
        ("☕", '"☕"'.encode()),
    ],
)
def test_what_dumps_takes(value: Any, text: bytes) -> None:
    """Large integers, lone surrogates and embedded text render as well; compact, in UTF-8, in their order."""
    assert jsontext.dumps(value) == text


def test_nesting() -> None:
    """Three hundred levels render; what no Python can render is a ValueError."""
    value: list[Any] = []
    for _ in range(300):
        value = [value]
    assert jsontext.dumps(value) == b"[" * 301 + b"]" * 301
    assert (jsontext.is_deeper(value, 301), jsontext.is_deeper(value, 300)) == (False, True)
    assert not jsontext.is_deeper({"a": {"b": 1}}, 2)
    for _ in range(10**5):
        value = [value]
    with pytest.raises(ValueError, match="exceeded max depth"):
        jsontext.dumps(value)
    assert jsontext.is_deeper(value, 5000)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": 1, "B" : {"b": 2.50}, "c":[]}', b'{"b": 2.50}'),
        (b'{"b":1,"B":"2"} trailing', b'"2"'),
        (b'{"a":{"b":1}}', b""),
        (b"{}", b""),
    ],
)
def test_the_text_of_a_member(data: bytes, value: bytes) -> None:
    """As it is spelled, of the last one that Go would read; empty where there is none."""
    assert jsontext.get_top_level(data, "b") == value


@pytest.mark.parametrize(
    ("data", "twins"),
    [
        (b'{"a":1,"b":{"a":2},"c":[{"a":1},{"a":2}]}', False),
        (b"[]", False),
        (b"5", False),
        (b' {"a":1,"a":2}', True),
        (b'{"a":1,"A":2}', True),
        (b'{"a":1,"\\u0061":2}', True),
        ('{"source":1,"\u017fource":2}'.encode(), True),
        (b'{"x":[{"y":{"a":1,"a":2}}]}', True),
        (b'{"a":1} {"a":1,"a":2}', False),
        (b'{"n":' + b"9" * 9000 + b"}", False),
    ],
)
def test_twins(data: bytes, twins: bool) -> None:
    """Two members of one name, at any depth, in any case and spelling; what follows the first value is not read."""
    assert names.has_twins(data) is twins


def test_names_at_the_top() -> None:
    """In their order, each as often as it is there, without what stands deeper."""
    assert names.top_level_names(b' { "b" : {"c":1}, "a":[{"d":1}],"\\u0062":null} x') == ["b", "a", "b"]
    assert names.top_level_names(b"{}") == []
