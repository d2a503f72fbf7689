"""Canonical requests and events as hypothesis draws them, each within what one dialect can carry."""

from __future__ import annotations

import base64
from typing import Any

import orjson
from hypothesis import strategies as st

from agenthub.canonical import (
    ChatRequest,
    EmbedRequest,
    Event,
    Finished,
    GenerateRequest,
    LogprobsDelta,
    Message,
    ReasoningDelta,
    TextDelta,
    Timings,
    ToolCall,
    ToolCallDelta,
    Usage,
)

texts = st.text(max_size=12)
words = st.text(min_size=1, max_size=12)
integers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | integers | floats | texts
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
json_objects = st.dictionaries(texts, json_values, max_size=3)
arguments = json_objects.map(lambda value: orjson.dumps(value).decode())
levels = st.sampled_from(["low", "medium", "high", "max"])
formats = st.none() | st.just("json") | json_objects


def tuples(inner: st.SearchStrategy[Any], least: int = 0, most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    """Tuples of any length within bounds."""
    return st.lists(inner, min_size=least, max_size=most).map(tuple)


# --- requests in Ollama's dialect

native_options = st.dictionaries(words, json_values.filter(lambda value: value is not None), max_size=3)
keep_alives = st.none() | st.integers(-1, 900) | st.just(1.5) | st.sampled_from(["5m", "1h30m", "-1m"])
native_shared: dict[str, st.SearchStrategy[Any]] = {
    "model": words,
    "stream": st.booleans(),
    "options": native_options,
    "keep_alive": keep_alives,
    "format": formats,
    "think": st.none() | st.booleans() | levels,
    "logprobs": st.booleans(),
    "top_logprobs": st.integers(0, 20),
}
native_messages = st.builds(
    Message,
    role=st.sampled_from(["system", "user", "assistant", "tool", "control"]),
    content=texts,
    images=tuples(texts),
    reasoning=texts,
    tool_calls=tuples(st.builds(ToolCall, name=texts, arguments=arguments, id=texts)),
    tool_call_id=texts,
    tool_name=texts,
)
native_chats = st.builds(
    ChatRequest, **native_shared, messages=tuples(native_messages), tools=tuples(json_objects, most=2)
)
native_generates = st.builds(
    GenerateRequest,
    **native_shared,
    prompt=texts,
    system=st.none() | words,
    suffix=texts,
    template=st.none() | words,
    context=tuples(st.integers(0, 99)),
    images=tuples(texts),
) | st.builds(GenerateRequest, **native_shared, prompt=texts, suffix=texts, images=tuples(texts), raw=st.just(True))
native_embeds = st.builds(
    EmbedRequest,
    model=words,
    inputs=tuples(texts),
    dimensions=st.none() | st.integers(1, 4096),
    truncate=st.none() | st.booleans(),
    options=native_options,
    keep_alive=keep_alives,
)
legacy_embeds = st.builds(
    EmbedRequest,
    model=words,
    inputs=tuples(words, most=1),
    options=native_options,
    keep_alive=keep_alives,
    normalised=st.just(False),
)

# --- requests in OpenAI's dialect

openai_options = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "seed": integers.filter(lambda seed: seed != -1),
        "frequency_penalty": st.floats(-2, 2),
        "presence_penalty": st.floats(-2, 2),
        "num_predict": st.integers(1, 2**31),
        "stop": st.lists(words, min_size=1, max_size=4),
    },
)
heads = st.sampled_from([b"\x89PNG", b"\xff\xd8\xff", b"GIF89a", b"RIFF0000WEBP", b"RIFF0000WAVE", b"?"])
media = st.tuples(heads, st.binary(max_size=9)).map(lambda parts: base64.b64encode(b"".join(parts)).decode())


def _streaming(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    # The counts of a stream are always asked for.
    return st.fixed_dictionaries(fields).map(lambda drawn: {**drawn, "include_usage": drawn["stream"]})


@st.composite
def openai_conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """Conversations in which every call has its own id, and a tool's answer the name of the call it answers."""
    messages: list[Message] = []
    known: dict[str, str] = {}
    for role in draw(st.lists(st.sampled_from(["system", "user", "assistant", "tool"]), min_size=1, max_size=5)):
        shared: dict[str, Any] = {"role": role, "content": draw(texts)}
        if role == "user":
            shared["images"] = draw(tuples(media, most=2))
        if role == "assistant":
            names = draw(tuples(words, most=2))
            ids = [f"call_{len(known) + number}" for number in range(len(names))]
            known |= dict(zip(ids, names, strict=True))
            calls = [ToolCall(name, draw(arguments), call_id) for call_id, name in zip(ids, names, strict=True)]
            shared |= {"tool_calls": tuple(calls), "reasoning": draw(texts)}
        if role == "tool":
            call_id = draw(st.sampled_from([*known, "call_unknown"]))
            shared |= {"tool_call_id": call_id, "tool_name": known.get(call_id, "")}
        messages.append(Message(**shared))
    return tuple(messages)


openai_chats = _streaming(
    {
        "model": words,
        "stream": st.booleans(),
        "options": openai_options,
        "messages": openai_conversations(),
        "tools": tuples(json_objects.map(lambda tool: {**tool, "type": "function"}), most=2),
        "tool_choice": st.none() | st.sampled_from(["auto", "none", "required"]) | json_objects,
        "format": formats,
        "think": st.none() | st.just(False) | levels,
        "logprobs": st.just(True),
        "top_logprobs": st.integers(0, 20),
    }
).map(lambda drawn: ChatRequest(**drawn))
completions = _streaming(
    {
        "model": words,
        "stream": st.booleans(),
        "options": openai_options,
        "prompt": texts,
        "suffix": texts,
        "logprobs": st.just(True),
        "top_logprobs": st.integers(0, 5),
    }
).map(lambda drawn: GenerateRequest(**drawn))
openai_embeds = st.builds(
    EmbedRequest, model=words, inputs=tuples(texts, least=1), dimensions=st.none() | st.integers(1, 4096)
)

# --- events

tokens: dict[str, st.SearchStrategy[Any]] = {"token": words, "logprob": st.floats(-20, 0)}
spelled = {**tokens, "bytes": st.lists(st.integers(0, 255), max_size=4)}
full_logprobs = st.fixed_dictionaries(
    {**spelled, "top_logprobs": st.lists(st.fixed_dictionaries(spelled), max_size=2)}
).map(lambda item: LogprobsDelta((item,)))
legacy_logprobs = st.fixed_dictionaries(
    {**tokens, "top_logprobs": st.lists(st.fixed_dictionaries(tokens), max_size=2, unique_by=lambda top: top["token"])}
).map(lambda item: LogprobsDelta((item,)))
usages = st.builds(Usage, prompt=st.integers(0, 9999), completion=st.integers(0, 9999), cached=st.none())
cached_usages = usages | st.builds(Usage, prompt=st.just(9), completion=st.just(3), cached=st.integers(0, 9))
nanoseconds = st.integers(1, 10**15).map(lambda count: count / 1e9)
timings = st.builds(Timings, total_s=nanoseconds, load_s=nanoseconds, prompt_s=nanoseconds, completion_s=nanoseconds)
native_ends = st.builds(
    Finished,
    reason=words,
    usage=st.none() | cached_usages,
    timings=st.none() | timings,
    context=tuples(st.integers(0, 99)),
)
openai_ends = st.builds(
    Finished, reason=st.sampled_from(["stop", "length", "content_filter"]), usage=cached_usages, timings=st.none()
)
pieces = st.builds(TextDelta, words) | st.builds(ReasoningDelta, words) | full_logprobs


@st.composite
def calls(draw: st.DrawFn, *, cut: bool = False) -> list[ToolCallDelta]:
    """Calls numbered by their first appearance, whole or, with ``cut``, in pieces."""
    found: list[ToolCallDelta] = []
    for index, text in enumerate(draw(st.lists(arguments, max_size=3))):
        at = draw(st.integers(0, len(text))) if cut else len(text)
        found.append(ToolCallDelta(index, f"call_{index}", draw(words), text[:at]))
        if cut:
            found.append(ToolCallDelta(index, arguments=text[at:]))
    return found


@st.composite
def native_chat_streams(draw: st.DrawFn) -> list[Event]:
    """Streams of /api/chat, which brings its calls whole and last."""
    return [*draw(st.lists(pieces, max_size=6)), *draw(calls()), draw(native_ends)]


@st.composite
def generate_streams(draw: st.DrawFn) -> list[Event]:
    """Streams of /api/generate, which calls nothing."""
    return [*draw(st.lists(pieces, max_size=6)), draw(native_ends)]


@st.composite
def openai_chat_streams(draw: st.DrawFn) -> list[Event]:
    """Streams of chat completions, with calls in pieces anywhere."""
    return [*draw(st.lists(pieces, max_size=4)), *draw(calls(cut=True)), draw(openai_ends)]


@st.composite
def completion_streams(draw: st.DrawFn) -> list[Event]:
    """Streams of the legacy completions: text and its log-probabilities."""
    return [*draw(st.lists(st.builds(TextDelta, words) | legacy_logprobs, max_size=6)), draw(openai_ends)]
