"""Bodies that are no JSON, or JSON of an odd kind: refused with a readable text or understood, never a crash."""

from __future__ import annotations

import json

import attrs
import pytest

from agenthub.canonical import ChatRequest
from agenthub.dialects import ollama, openai
from agenthub.dialects.lane import make_lane
from agenthub.errors import InvalidRequest
from tests.dialects.recorded import CODECS

NATIVE, OPENAI = ollama.chat.CODEC, openai.chat.CODEC


def nested(levels: int, inside: bytes = b"1") -> bytes:
    return b'{"a":' * levels + inside + b"}" * levels


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "unexpected EOF"),
        (b'{"model":', "unexpected EOF"),
        (b'{"model":"m', "unexpected EOF"),
        (b'{"model":"m"', "unexpected EOF"),
        (b'{"model":"m",', "unexpected EOF"),
        (b'{"model"', "unexpected EOF"),
        (b"[1, ", "unexpected EOF"),
        (b"{bad", "invalid character 'b' looking for beginning of object key string"),
        (b"{'a':1}", 'invalid character "\'" looking for beginning of object key string'),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":x}', "invalid character 'x' looking for beginning of value"),
        (b'{"a":1 "b":2}', "invalid character '\"' after object key:value pair or array element"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b"[1,]", "invalid character ']' looking for beginning of value"),
        (b'{"a":"\n"}', r"invalid character '\n' in string literal"),
        (b'{"a":"\\q"}', "invalid character 'q' in string escape code"),
        (b"<html>", "invalid character '<' looking for beginning of value"),
        (b"model=m", "invalid character 'm' looking for beginning of value"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":-Infinity}', "-Infinity is not JSON"),
        (b'{"a":1e999}', "json: cannot unmarshal number 1e999 into Go value of type float64"),
        (b'{"a":' + b"9" * 400 + b"}", f"json: cannot unmarshal number {'9' * 40} into Go value of type float64"),
        (b'{"a":' + b"9" * 9999 + b"}", f"json: cannot unmarshal number {'9' * 40} into Go value of type float64"),
        (b'\xef\xbb\xbf{"model":"m"}', r"invalid character '\ufeff' looking for beginning of value"),
        ('{"model":"m"}'.encode("utf-16"), "the body is not UTF-8: invalid byte 0xff"),
        (b'{"model":"\xe9"}', "the body is not UTF-8: invalid byte 0xe9"),
        (b'{"model":"\xed\xa0\xbd"}', "the body is not UTF-8: invalid byte 0xed"),
        (b"\xa0{}", "the body is not UTF-8: invalid byte 0xa0"),
        ('\u00a0{"model":"m"}'.encode(), r"invalid character '\xa0' looking for beginning of value"),
        (b'\x0c{"model":"m"}', r"invalid character '\x0c' looking for beginning of value"),
        (b'{"format":' + nested(501) + b"}", "exceeded max depth"),
        (b'{"format":' + nested(990) + b"}", "exceeded max depth"),
        (b'{"format":' + nested(1020) + b"}", "exceeded max depth"),
        (b'{"format":' + nested(1020, rb'"\ud800"') + b"}", "exceeded max depth"),
        (b'{"format":' + nested(980, rb'"\ud800"') + b"}", "exceeded max depth"),
        (b'{"format":' + b'{"a":' * 10**5, "exceeded max depth"),
        (b"[" * 10**5, "exceeded max depth"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_body(body: bytes, text: str) -> None:
    """The text says where the JSON breaks, as Go does where clients may look for it; all endpoints alike."""
    for path, codec in CODECS.items():
        with pytest.raises(InvalidRequest) as caught:
            codec.parse_request(body)
        assert (str(caught.value), caught.value.status) == (text, 400), path


@pytest.mark.parametrize(
    ("body", "what"), [(b"null", "null"), (b"5", "number"), (b"1.5", "number"), (b'"m"', "string"), (b"true", "bool")]
)
def test_what_is_no_object(body: bytes, what: str) -> None:
    """Another kind of JSON is refused under Go's name for it and for what was wanted."""
    for codec, struct in ((NATIVE, "api.ChatRequest"), (OPENAI, "openai.ChatCompletionRequest")):
        with pytest.raises(InvalidRequest) as caught:
            codec.parse_request(body)
        assert str(caught.value) == f"json: cannot unmarshal {what} into Go value of type {struct}"


@pytest.mark.parametrize("body", [b"", b" \n", b"\t"])
def test_no_body_at_all(body: bytes) -> None:
    """Nothing is refused in each dialect's own words."""
    for path, codec in CODECS.items():
        with pytest.raises(InvalidRequest) as caught:
            codec.parse_request(body)
        assert str(caught.value) == ("EOF" if path.startswith("/v1") else "missing request body")


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"m"}', "m"),
        (b' \r\n\t{"model":"m"} \n', "m"),
        (b'{"model":"m"} trailing words', "m"),
        (b'{"model":"m"}{"model":"n"}', "m"),
        (b'{"model":"a","model":"m"}', "m"),
        (b'{"model":"a","Model":"m"}', "m"),
        (b'{"MODEL":"m"}', "m"),
        (rb'{"mod\u0065l":"\u006d"}', "m"),
        (rb'{"model":"\ud83d\ude00"}', "😀"),
        (rb'{"model":"\ud83d!"}', "\ufffd!"),
        (rb'{"model":"m","x":"\udc00"}', "m"),
        (b'{"model":"m","x":12345678901234567890123}', "m"),
        (b'{"model":"m","x":1e-999}', "m"),
        (b'{"model":"m","format":' + nested(499) + b"}", "m"),
        (b'{"model":"m","options":{"model":"n"}}', "m"),
        (b'{"model":"m","x":"' + b"[{" * 999 + b'"}', "m"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_odd_but_understood(body: bytes, model: str) -> None:
    """What Go understands is understood; it can be sent under an alias, and rendered for the other API."""
    request = NATIVE.parse_request(body)
    assert isinstance(request, ChatRequest)
    assert request.model == model
    lane = make_lane(attrs.evolve(request, upstream_model="up"), {NATIVE.path: NATIVE}, NATIVE)
    assert NATIVE.parse_request(lane.body) == attrs.evolve(request, model="up")
    assert json.loads(OPENAI.render_request(request, "up"))["model"] == "up"


def test_half_a_character_in_a_request() -> None:
    """Half of a surrogate pair is read as U+FFFD, as Go reads it, in texts and keys at any depth."""
    body = rb'{"model":"m","messages":[{"role":"user","content":"a\ud83d"}],"options":{"\ud83d":["\ude00"]}}'
    request = NATIVE.parse_request(body)
    assert isinstance(request, ChatRequest)
    assert (request.messages[0].content, dict(request.options)) == ("a\ufffd", {"\ufffd": ["\ufffd"]})
    assert request.source is not None
    assert request.source.body == body


def test_integers_of_more_than_64_bits() -> None:
    """Where Go wants an integer, one that it cannot hold is refused."""
    for number in (2**63, 2**64, -(2**63) - 1, -(10**30)):
        with pytest.raises(InvalidRequest, match="cannot unmarshal number into Go struct field"):
            NATIVE.parse_request(b'{"model":"m","top_logprobs":%d}' % number)
    with pytest.raises(InvalidRequest, match="top_logprobs must be between 0 and 20"):
        NATIVE.parse_request(b'{"model":"m","top_logprobs":%d}' % (2**63 - 1))
