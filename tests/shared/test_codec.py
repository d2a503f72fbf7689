"""Answers as bytes: what goes in comes out, and what was never put in is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agenthub.canonical import (
    ChatRequest,
    ChoiceStarted,
    Embeddings,
    Event,
    Finished,
    LogprobsDelta,
    RawFrames,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    Timings,
    ToolCallDelta,
    Usage,
)
from agenthub.dialects import jsontext, ollama, openai
from agenthub.errors import AgentHubError
from agenthub.middleware.cache_entry import Entry, size_of
from agenthub.middleware.cache_shared import dump_entry, load_entry
from agenthub.shared.codec import LARGEST_BYTES, LONGEST_S, VERSION, Unreadable, decode, encode

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
counts = st.integers(0, 2**63 - 1)


def is_parsed(text: str) -> bool:
    """True for what a JSON parser may give: it joins two surrogates that make a pair."""
    return text == text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


texts = st.text(st.characters(codec="utf-8") | st.characters(categories=["Cs"]), max_size=6).filter(is_parsed)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
logprobs: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"token": texts, "logprob": numbers | st.none()},
    optional={
        "bytes": st.lists(st.integers(0, 255), max_size=3),
        "top_logprobs": st.lists(st.fixed_dictionaries({"token": texts, "logprob": numbers}), max_size=2),
        "x": json_values,
    },
)


def tuples(inner: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(inner, min_size=least, max_size=3).map(tuple)


seconds = st.floats(0, 1e9)
offsets = st.floats(0, LONGEST_S)
finishes = st.builds(
    Finished,
    texts,
    st.none() | st.builds(Usage, st.none() | counts, st.none() | counts, st.none() | counts),
    st.none() | st.builds(Timings, *[st.none() | seconds] * 4),
    tuples(counts),
    tuples(texts),
    aside=st.dictionaries(texts, json_values, max_size=3),
)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(TextDelta, texts),
    st.builds(RefusalDelta, texts),
    st.builds(ReasoningDelta, texts),
    st.builds(ToolCallDelta, counts, texts, texts, texts),
    st.builds(LogprobsDelta, tuples(logprobs)),
    st.builds(Embeddings, tuples(st.lists(numbers, max_size=4))),
    st.builds(ChoiceStarted, st.integers(0, 4095)),
    finishes,
    st.just(Started()),
)
batches = tuples(tuples(events, 1))


@given(batches, st.data(), counts, st.booleans())
def test_what_goes_in_comes_out(read: Any, data: st.DataObject, size_bytes: int, is_counted: bool) -> None:
    """Every event, with its kind, its floats to the last bit, what stands aside, and lone surrogates."""
    came = tuple(sorted(data.draw(st.lists(offsets, min_size=len(read), max_size=len(read)))))
    found, found_offsets, found_bytes, found_counted = decode(encode(read, came, size_bytes, is_counted))
    assert (found, found_offsets, found_bytes, found_counted) == (read, came, size_bytes, is_counted)
    assert repr(found) == repr(read)  # a refusal is no text, and 1 is no 1.0
    assert asides(found) == asides(read)


def asides(read: Any) -> list[Any]:
    """What events hold that does not count when they are compared."""
    return [event.aside for batch in read for event in batch if isinstance(event, Finished)]


@given(tuples(tuples(events.filter(lambda event: type(event) not in (Started, Finished)), 1)), finishes, offsets)
def test_an_entry_comes_back_equal(read: Any, finished: Finished, offset: float) -> None:
    """The law of the cache: load(dump(entry)) == entry."""
    batches = ((Started(),), *read, (finished,))
    size_bytes = sum(map(size_of, batches))
    entry = Entry(batches, (offset,) * (len(read) + 2), size_bytes, finished.usage is not None)
    assert load_entry(dump_entry(entry)) == entry


END = ["finished", "stop", [1, 2, None], None, [], [], {}]
GOOD: list[Any] = [VERSION, True, 9, [0.0], [[["started"], ["text", "hi"], END]]]


def changed(path: list[int], value: Any) -> Any:
    copied = jsontext.loads(jsontext.dumps(GOOD))
    at = copied
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return copied


def test_the_good_one_is_good() -> None:
    """What the next tests spoil is an answer."""
    entry = load_entry(jsontext.dumps(GOOD))
    batch = (Started(), TextDelta("hi"), Finished(usage=Usage(1, 2)))
    assert entry == Entry((batch,), (0.0,), size_of(batch), True)


@pytest.mark.parametrize(
    "spoiled",
    [
        changed([0], VERSION + 1),
        changed([0], True),
        changed([1], 1),
        changed([2], 9.0),
        changed([2], "9"),
        changed([2], -(10**12)),
        changed([2], 10**30),
        changed([3], [-1.0]),
        changed([3], [1e300]),
        changed([3], [LONGEST_S + 1]),
        changed([3], []),
        changed([3], ["0"]),
        changed([4], []),
        changed([4, 0], []),
        changed([4, 0, 0], ["text", "no start"]),
        changed([4, 0, 1], ["text", 1]),
        changed([4, 0, 1], ["text"]),
        changed([4, 0, 1], ["text", "a", "b"]),
        changed([4, 0, 1], ["raw", "a"]),
        changed([4, 0, 1], {"text": "a"}),
        changed([4, 0, 1], ["started"]),
        changed([4, 0, 1], ["call", "0", "", "", ""]),
        changed([4, 0, 1], ["call", True, "", "", ""]),
        changed([4, 0, 1], ["call", -1, "", "", ""]),
        changed([4, 0, 1], ["choice", -1]),
        changed([4, 0, 1], ["choice", 10**6]),
        changed([4, 0, 1], ["logprobs", {"token": "a"}]),
        changed([4, 0, 1], ["logprobs", {"token": "a", "logprob": 1, "bytes": 5}]),
        changed([4, 0, 1], ["logprobs", {"token": "a", "logprob": 1, "bytes": [-1]}]),
        changed([4, 0, 1], ["logprobs", {"logprob": 1}]),
        changed([4, 0, 1], ["logprobs", {"token": "a", "logprob": "b"}]),
        changed([4, 0, 1], ["logprobs", {"token": "a", "top_logprobs": [1]}]),
        changed([4, 0, 1], ["logprobs", {"token": "a", "top_logprobs": {"a": 1}}]),
        changed([4, 0, 1], ["vectors", 1]),
        changed([4, 0, 1], ["vectors", [None]]),
        changed([4, 0, 2], ["text", "no end"]),
        changed([4, 0, 2, 1], None),
        changed([4, 0, 2, 2], [1, 2]),
        changed([4, 0, 2, 2], [1, 2, "3"]),
        changed([4, 0, 2, 2], [-1, 2, None]),
        changed([4, 0, 2, 2], [1, 2**63, None]),
        changed([4, 0, 2, 3], [-1.0, 0, 0, 0]),
        changed([4, 0, 2, 3], [1e300, 0, 0, 0]),
        changed([4, 0, 2, 4], [-1]),
        changed([4, 0, 2, 5], ["stop"] * 5000),
        changed([4, 0, 2, 3], [1, 2, 3]),
        changed([4, 0, 2, 4], ["1"]),
        changed([4, 0, 2, 5], [1]),
        changed([4, 0, 2, 6], []),
        {},
        None,
        "text",
        5,
    ],
    ids=str,
)
def test_anything_else_is_refused(spoiled: Any) -> None:
    """Another version, a wrong type, an answer without its beginning or its end: never an entry."""
    assert repr(spoiled) != repr(GOOD)
    with pytest.raises(Unreadable):
        load_entry(jsontext.dumps(spoiled))


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    """Bytes that somebody else wrote."""
    with pytest.raises(Unreadable):
        load_entry(data)


@given(st.data())
def test_a_broken_answer_is_refused_or_whole(data: st.DataObject) -> None:
    """One byte of it changed: still an answer in the same form, or refused."""
    good = jsontext.dumps(GOOD)
    at = data.draw(st.integers(0, len(good) - 1))
    broken = good[:at] + data.draw(st.binary(min_size=1, max_size=1)) + good[at + 1 :]
    assume(broken != good)
    keeps_the_laws(broken)


def keeps_the_laws(data: bytes) -> None:
    """Bytes are refused, or an entry that the memory cache, a replay and every renderer can take."""
    try:
        entry = load_entry(data)
    except Unreadable:
        return
    assert load_entry(dump_entry(entry)) == entry
    assert entry.size_bytes == sum(map(size_of, entry.batches)) > 0
    assert len(entry.offsets_s) == len(entry.batches)
    assert list(entry.offsets_s) == sorted(entry.offsets_s)
    assert 0 <= entry.offsets_s[0] <= entry.offsets_s[-1] <= LONGEST_S
    finished = entry.batch[-1]
    assert isinstance(finished, Finished)
    assert entry.is_counted == (finished.usage is not None)
    for codec in (ollama.chat.CODEC, openai.chat.CODEC):
        request = ChatRequest(model="m", stream=True, include_usage=True, sidecar=True)
        with suppress(AgentHubError):  # arguments of a call that are no JSON have no place in Ollama's dialect
            codec.render_whole(request, entry.answer)
            codec.make_renderer(request).render(entry.batch)


strange: st.SearchStrategy[Any] = st.one_of(
    json_values,
    st.sampled_from(
        [-1, 0, 2**63, 2**64, 10**300, -(10**12), 1e300, -1e300, 1e-300, True, None, "", [], {}, "finished"]
    ),
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """Return an answer in the form of Redis, in which one value, at any depth, is another."""
    read = draw(tuples(tuples(events.filter(lambda event: type(event) not in (Started, Finished)), 1)))
    value = jsontext.loads(encode(((Started(),), *read, (draw(finishes),)), (0.0,) * (len(read) + 2), 9, True))
    at: Any = value
    while True:
        key = draw(st.sampled_from(list(at) if isinstance(at, dict) else range(len(at))))
        if isinstance(at[key], list | dict) and at[key] and draw(st.integers(0, 3)):
            at = at[key]
            continue
        at[key] = draw(strange)
        return value


@settings(max_examples=500)
@given(mutated())
def test_a_mutated_answer_keeps_the_laws_or_is_refused(value: Any) -> None:
    """Each of its values replaced by one of another kind."""
    keeps_the_laws(jsontext.dumps(value))


def test_what_it_takes_in_memory_is_found_out() -> None:
    """Neither the size that stands there counts, nor is anything in it too small to be counted."""
    large = "x" * 10_000
    for event in (
        ["text", large],
        ["call", 0, large, "", ""],
        ["call", 0, "", large, ""],
        ["logprobs", {"token": large, "logprob": 0}],
        ["logprobs", {"token": "a", "logprob": 0, "x": [[], large]}],
        ["logprobs", {"token": "a", "logprob": 0, "top_logprobs": [{"token": "b", "logprob": 0, "x": {large: 1}}]}],
        ["logprobs", {"token": "a", "logprob": 0, "bytes": [1] * 10_000}],
        ["vectors", [0.5] * 10_000],
    ):
        assert load_entry(jsontext.dumps(changed([4, 0, 1], event))).size_bytes > 10_000
    for at, value in ((6, {"a": large}), (6, {"a": [[]] * 10_000}), (5, ["stop"] * 4000), (4, [1] * 10_000)):
        assert load_entry(jsontext.dumps(changed([4, 0, 2, at], value))).size_bytes > 10_000


def test_what_took_too_long_is_not_shared() -> None:
    """No replica would believe it."""
    batches = ((Started(),), (Finished(),))
    with pytest.raises(ValueError, match="too long"):
        encode(batches, (0.0, LONGEST_S + 1), 1, False)


def test_what_is_too_large_or_belongs_to_a_connection_is_not_shared() -> None:
    """It is not written, and where it stands all the same it is not read."""
    large = ((Started(), TextDelta("x" * LARGEST_BYTES), Finished()),)
    with pytest.raises(ValueError, match="too large"):
        encode(large, (0.0,), 1, True)
    with pytest.raises(ValueError, match="too large"):
        decode(b"[" + b" " * LARGEST_BYTES + b"]")
    for event in (RawFrames(b"x"), Started(streamed=True), Started(headers={"a": "b"})):
        with pytest.raises(ValueError, match="connection"):
            encode(((event,),), (0.0,), 1, True)


def test_numbers_without_a_place_in_json_are_not_believed() -> None:
    """An infinite number cannot be written in JSON: the other replicas ask anew."""
    entry = Entry(((Started(), Embeddings(([float("inf")],)), Finished()),), (0.0,), 1, True)
    with pytest.raises(Unreadable, match="form"):
        load_entry(dump_entry(entry))


def test_what_is_nested_deeply_is_refused() -> None:
    """However deep, it is a ValueError and no overflow of the stack."""
    nested = b'{"token":"","top_logprobs":[' * 20_000 + b"]}" * 20_000
    good = b'[1,true,9,[0.0],[[["started"],["logprobs",' + nested + b'],["finished","stop",null,null,[],[],{}]]]]'
    with pytest.raises(Unreadable):
        load_entry(good)
