"""Answers of a real Ollama and a real llama.cpp server mean what they say, in every dialect."""

from __future__ import annotations

import json
from typing import Any

import attrs
import ollama as ollama_package
import openai.types
import openai.types.chat
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState

from agenthub.canonical import (
    Answer,
    ChatRequest,
    EmbedRequest,
    Finished,
    GenerateRequest,
    RawFrames,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    assemble,
)
from agenthub.dialects import StreamParser, ollama, parse_whole
from agenthub.dialects import openai as openai_dialect
from agenthub.errors import UpstreamError, UpstreamProtocol
from tests.dialects.recorded import CODECS, Recording, everything, load, parse

ALL = everything()
CUT = {
    "ollama-0.9.3/02-runner-killed-generate-stream": "an error was encountered while running the model: unexpected EOF",
    "ollama-0.9.3/04-runner-killed-chat-stream": "an error was encountered while running the model: unexpected EOF",
    "ollama-0.9.3/06-runner-killed-v1-chat-stream": "the upstream ended the stream without a finish reason",
    "ollama-0.9.3/08-runner-killed-v1-completions-stream": "the upstream ended the stream without a finish reason",
    "ollama-0.9.3/181-client-disconnect-midstream": "the upstream ended the stream without done",
}
ANSWERED = [r for r in ALL if r.status == 200 and r.path in CODECS and r.name not in CUT]
CHATS = [r for r in ANSWERED if "chat" in r.path]
GENERATED = [r for r in ANSWERED if r.path in ("/api/generate", "/v1/completions")]
EMBEDDED = [r for r in ANSWERED if "embed" in r.path]
SAID = (
    " Hello there this is a tiny model that was made on one small machine to test gateways."
    " It speaks naïve café ☕ text and stops here!"
)


def by_name(recording: Recording) -> str:
    return recording.name


def objects(recording: Recording) -> list[Any]:
    """The JSON objects of an answer, read without any of our code."""
    lines = [line.removeprefix("data: ") for line in recording.body.decode().split("\n") if line.strip()]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def oracle(recording: Recording) -> Answer:
    """What an answer says, told by a few lines that know nothing of streams."""
    text, reasoning, reason, usage = "", "", "", None
    calls: list[ToolCall] = []
    for item in objects(recording):
        native = recording.path.startswith("/api")
        choice = item if native else next(iter(item["choices"]), {})
        said = choice.get("message") or choice.get("delta") or choice
        text += said.get("content") or said.get("response") or said.get("text") or ""
        reasoning += said.get("thinking") or ""
        for call in said.get("tool_calls", ()):
            arguments = call["function"]["arguments"]
            spelled = arguments if isinstance(arguments, str) else json.dumps(arguments, separators=(",", ":"))
            calls.append(ToolCall(call["function"]["name"], spelled, call.get("id", "")))
        reason = choice.get("done_reason") or choice.get("finish_reason") or reason
        if "eval_count" in item:
            usage = Usage(item["prompt_eval_count"], item["eval_count"])
        if counts := item.get("usage"):
            cached = counts.get("prompt_tokens_details", {}).get("cached_tokens")
            usage = Usage(counts["prompt_tokens"], counts["completion_tokens"], cached)
    reason = "stop" if reason == "tool_calls" else reason
    return Answer(text, reasoning, tuple(calls), finished=Finished(reason, usage))


def essence(answer: Answer) -> Answer:
    """An answer without what only one dialect has: times, context, the ids that the hub gives, log-probabilities."""
    assert answer.finished is not None
    finished = Finished(answer.finished.reason, answer.finished.usage)
    calls = tuple(attrs.evolve(call, id="") for call in answer.tool_calls)
    return Answer(answer.text, answer.reasoning, calls, finished=finished)


@pytest.mark.parametrize("recording", CHATS + GENERATED, ids=by_name)
def test_every_recorded_answer_parses(recording: Recording) -> None:
    """Text, reasoning, calls, reason and counts of every recorded answer, whole and streamed, are those on the wire."""
    events, error = parse(recording)
    assert error is None
    assert isinstance(events[-1], Finished)
    assert essence(assemble(events)) == essence(oracle(recording))


@pytest.mark.parametrize(
    ("name", "text", "reason", "usage"),
    [
        ("ollama-0.9.3/21-generate-nonstream", SAID, "stop", Usage(11, 32)),
        ("ollama-0.9.3/22-generate-stream", SAID, "stop", Usage(11, 32)),
        ("ollama-0.9.3/57-chat-nonstream", SAID, "stop", Usage(11, 32)),
        ("ollama-0.9.3/58-chat-stream", SAID, "stop", Usage(11, 32)),
        ("ollama-0.9.3/102-v1-chat", SAID, "stop", Usage(11, 32)),
        ("ollama-0.9.3/103-v1-chat-stream", SAID, "stop", None),
        ("ollama-0.9.3/104-v1-chat-stream-usage", SAID, "stop", Usage(11, 32)),
        ("ollama-0.9.3/137-v1-completions-stream", SAID, "stop", None),
        ("ollama-0.9.3/138-v1-completions-stream-usage", SAID, "stop", Usage(11, 32)),
        ("ollama-0.9.3/140-v1-completions-empty-prompt", "", "load", Usage(0, 0)),
        ("ollama-0.9.3/16-unload", "", "unload", None),
        ("ollama-0.9.3/62-chat-no-messages", "", "load", None),
        ("ollama-0.9.3/54-generate-length-stream", " one two three four", "length", Usage(11, 4)),
        ("ollama-0.9.3/107-v1-chat-length-stream", " one two three", "length", None),
        ("llama-server-2026/12-v1-chat-stream", SAID, "stop", None),
        ("llama-server-2026/13-v1-chat-stream-usage", SAID, "stop", Usage(11, 32, 10)),
        ("llama-server-2026/43-v1-completions-stream", SAID, "stop", Usage(3, 32, 2)),
        ("llama-server-2026/18-v1-chat-length-stream", " Hello there this", "length", None),
    ],
)
def test_some_recorded_answers(name: str, text: str, reason: str, usage: Usage | None) -> None:
    """The same by hand, so that no mistake is made twice."""
    answer = assemble(parse(load(name))[0])
    assert answer.finished is not None
    assert (answer.text, answer.finished.reason, answer.finished.usage) == (text, reason, usage)


def test_what_only_ollama_tells() -> None:
    """Durations are nanoseconds on the wire and seconds here; generate brings its token memory."""
    finished = parse(load("ollama-0.9.3/54-generate-length-stream"))[0][-1]
    last = objects(load("ollama-0.9.3/54-generate-length-stream"))[-1]
    assert isinstance(finished, Finished)
    assert finished.timings is not None
    assert round(finished.timings.total_s * 1e9) == last["total_duration"]
    assert round(finished.timings.completion_s * 1e9) == last["eval_duration"]
    assert finished.context == tuple(last["context"])


@pytest.mark.parametrize("name", ["69-chat-think", "70-chat-think-stream", "55-generate-think-stream"])
def test_recorded_thinking(name: str) -> None:
    """What the model thinks aloud stands apart from what it says, and comes first."""
    events = parse(load(f"ollama-0.9.3/{name}"))[0]
    kinds = [type(event) for event in events]
    assert assemble(events).reasoning == "Let me ponder"
    assert assemble(events).text == "Forty-two."
    assert kinds == sorted(kinds, key=[ReasoningDelta, TextDelta, Finished].index)


@pytest.mark.parametrize(
    "name", ["66-chat-tools", "67-chat-tools-stream", "128-v1-chat-tools", "129-v1-chat-tools-stream"]
)
def test_recorded_calls(name: str) -> None:
    """A call has a name, arguments and an id, which is made up where Ollama gave none; the reason is a stop."""
    events = parse(load(f"ollama-0.9.3/{name}"))[0]
    (call,) = [event for event in events if isinstance(event, ToolCallDelta)]
    assert (call.index, call.name, call.arguments) == (0, "get_time", '{"city":"Oslo"}')
    assert call.id.startswith("call_")
    assert len(call.id) == 13
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "stop"


def test_recorded_log_probabilities() -> None:
    """llama.cpp's log-probabilities keep their tokens, bytes and alternatives."""
    answer = assemble(parse(load("llama-server-2026/32-v1-chat-logprobs"))[0])
    assert [item["token"] for item in answer.logprobs] == [" Hello", " there"]
    assert answer.logprobs[0]["bytes"] == list(b" Hello")
    assert len(answer.logprobs[0]["top_logprobs"]) == 2


@pytest.mark.parametrize("name", CUT)
def test_recorded_streams_that_were_cut(name: str) -> None:
    """A model that dies in the middle of a stream is an error after what it said, also where /v1 hides it."""
    recording = load(name)
    events, error = parse(recording)
    assert str(error) == CUT[name]
    assert isinstance(error, UpstreamError)
    assert isinstance(error, UpstreamProtocol) == ("model: unexpected EOF" not in CUT[name])
    assert {type(event) for event in events} == {TextDelta}
    assert assemble(events).text.startswith(" one two three")


@pytest.mark.parametrize("recording", [r for r in ALL if r.path in CODECS and r.status == 200], ids=by_name)
def test_recorded_bytes_pass_untouched(recording: Recording) -> None:
    """Raw frames, joined, are the answer as it was recorded."""
    if not recording.streamed:
        assert parse_whole(recording.codec, recording.body, raw=True)[0] == RawFrames(recording.body)
        return
    parser = StreamParser(recording.codec, raw=True)
    pieces = [recording.body[start : start + 100] for start in range(0, len(recording.body), 100)]
    events = [event for piece in pieces for event in parser.feed(piece)]
    raw = b"".join(event.data for event in events if isinstance(event, RawFrames))
    without_error = recording.body.partition(b'{"error"')[0]
    assert raw == without_error


# --- from one dialect to the other, as the SDKs see it


@pytest.mark.parametrize("recording", CHATS, ids=by_name)
def test_recorded_chats_as_whole_answers(recording: Recording) -> None:
    """Every recorded chat, rendered whole, is a ChatCompletion to openai and a ChatResponse to ollama."""
    answer = assemble(parse(recording)[0])
    reason = answer.finished.reason if answer.finished else ""
    request = ChatRequest(model="alias")

    body = openai_dialect.chat.CODEC.render_whole(request, answer)
    completion = openai.types.chat.ChatCompletion.model_validate_json(body)
    assert (completion.model, completion.choices[0].message.content or "") == ("alias", answer.text)
    assert completion.choices[0].finish_reason == (
        "tool_calls" if answer.tool_calls else "length" if reason == "length" else "stop"
    )
    assert len(completion.choices[0].message.tool_calls or ()) == len(answer.tool_calls)

    response = ollama_package.ChatResponse.model_validate_json(ollama.chat.CODEC.render_whole(request, answer))
    assert (response.model, response.message.content, response.done_reason) == ("alias", answer.text, reason)
    assert [call.function.name for call in response.message.tool_calls or ()] == [c.name for c in answer.tool_calls]


@pytest.mark.parametrize("recording", CHATS, ids=by_name)
def test_recorded_chats_as_streams(recording: Recording) -> None:
    """Every recorded chat, rendered as a stream, is read by both SDKs and ends up as the same answer."""
    events = parse(recording)[0]
    answer, request = assemble(events), ChatRequest(model="alias", stream=True)

    frames = openai_dialect.chat.CODEC.make_renderer(request).render(events).decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    chunks = [openai.types.chat.ChatCompletionChunk.model_validate_json(frame[6:]) for frame in frames[:-2]]
    state = ChatCompletionStreamState()
    for chunk in chunks:
        list(state.handle_chunk(chunk))
    message = state.current_completion_snapshot.choices[0].message
    assert (message.role, message.content or "") == ("assistant", answer.text)
    assert [call.function.arguments for call in message.tool_calls or ()] == [c.arguments for c in answer.tool_calls]
    usage = answer.finished.usage if answer.finished and answer.finished.usage else Usage()
    assert chunks[-1].usage is not None
    assert (chunks[-1].choices, chunks[-1].usage.prompt_tokens) == ([], usage.prompt)
    assert [chunk.choices[0].delta.role for chunk in chunks[:-1]] == ["assistant"] + [None] * (len(chunks) - 2)
    assert [bool(chunk.choices[0].finish_reason) for chunk in chunks[:-1]] == [False] * (len(chunks) - 2) + [True]
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1

    lines = ollama.chat.CODEC.make_renderer(request).render(events).decode().split("\n")
    responses = [ollama_package.ChatResponse.model_validate_json(line) for line in lines[:-1]]
    assert lines[-1] == ""
    assert "".join(response.message.content or "" for response in responses) == answer.text
    assert "".join(response.message.thinking or "" for response in responses) == answer.reasoning
    assert [response.done for response in responses] == [False] * (len(responses) - 1) + [True]


@pytest.mark.parametrize("recording", GENERATED, ids=by_name)
def test_recorded_completions(recording: Recording) -> None:
    """Every recorded completion is one to both SDKs, whole and streamed."""
    events = parse(recording)[0]
    answer, request = assemble(events), GenerateRequest(model="alias", prompt="hi", stream=True)

    whole = openai.types.Completion.model_validate_json(openai_dialect.completions.CODEC.render_whole(request, answer))
    assert (whole.choices[0].text, whole.model) == (answer.text, "alias")
    frames = openai_dialect.completions.CODEC.make_renderer(request).render(events).decode().split("\n\n")
    # Not validated, as in the SDK: its type forbids the null that OpenAI itself sends before the end.
    chunks = [openai.types.Completion.construct(**json.loads(frame[6:])) for frame in frames[:-2]]
    assert [choice.text for choice in whole.choices] == [answer.text, *(one.text for one in answer.more)]
    said = ["" for _ in whole.choices]
    for chunk in chunks[:-1]:
        said[chunk.choices[0].index] += chunk.choices[0].text or ""
    assert said == [choice.text for choice in whole.choices]
    assert chunks[-2].choices[0].finish_reason in ("stop", "length")

    native = ollama.generate.CODEC
    response = ollama_package.GenerateResponse.model_validate_json(native.render_whole(request, answer))
    lines = native.make_renderer(request).render(events).decode().splitlines()
    parts = [ollama_package.GenerateResponse.model_validate_json(line) for line in lines]
    assert (response.response, "".join(part.response or "" for part in parts)) == (answer.text, answer.text)
    assert (response.done_reason, response.context) == (parts[-1].done_reason, parts[-1].context)


@pytest.mark.parametrize("recording", EMBEDDED, ids=by_name)
def test_recorded_embeddings(recording: Recording) -> None:
    """Recorded vectors are the same in every endpoint for embeddings, and both SDKs read them."""
    (item,) = objects(recording)
    vectors = item.get("embeddings", [row["embedding"] for row in item.get("data", ())])
    vectors = [item["embedding"]] if item.get("embedding") else vectors
    answer = assemble(parse(recording)[0])
    assert list(answer.vectors) == vectors
    counts = item.get("prompt_eval_count", item.get("usage", {}).get("prompt_tokens", 0))

    native = ollama.embed.CODEC.render_whole(EmbedRequest(model="alias"), answer)
    assert ollama_package.EmbedResponse.model_validate_json(native).embeddings == vectors
    if vectors:
        legacy = ollama.embed.LEGACY_CODEC.render_whole(EmbedRequest(model="alias", normalised=False), answer)
        assert ollama_package.EmbeddingsResponse.model_validate_json(legacy).embedding == vectors[0]
    for encoding in ("float", "base64"):
        body = openai_dialect.embeddings.CODEC.render_whole(EmbedRequest(model="alias", encoding=encoding), answer)
        listed = json.loads(body)
        assert (listed["usage"]["prompt_tokens"], len(listed["data"])) == (counts, len(vectors))
        if encoding == "float":
            response = openai.types.CreateEmbeddingResponse.model_validate_json(body)
            assert [row.embedding for row in response.data] == vectors


# --- listing


def test_recorded_models() -> None:
    """Lists of models mean the same in both dialects; no models is an empty list, also where Ollama says null."""
    tags = ollama.listing.parse_tags(load("ollama-0.9.3/05-tags").body)
    models = openai_dialect.listing.parse_models(load("ollama-0.9.3/98-v1-models").body)
    assert sorted(model.name for model in tags) == sorted(model.name for model in models)
    assert json.loads(ollama.listing.render_tags(tags)) == json.loads(load("ollama-0.9.3/05-tags").body)
    rendered = json.loads(openai_dialect.listing.render_models(tags))["data"]
    by_id = {entry["id"]: entry for entry in json.loads(load("ollama-0.9.3/98-v1-models").body)["data"]}
    assert {entry["id"]: entry for entry in rendered} == by_id
    one = openai_dialect.listing.render_model(tags[-1], "tiny")
    assert json.loads(one)["id"] == "tiny"
    assert ollama.listing.parse_tags(load("ollama-0.9.3/01-tags-no-models").body) == []
    assert openai_dialect.listing.parse_models(load("ollama-0.9.3/02-v1-models-no-models").body) == []
    assert openai_dialect.listing.render_models([]) == b'{"object":"list","data":[]}'
    assert ollama.listing.render_tags([]) == b'{"models":[]}'


def test_a_recorded_model_of_llama_cpp() -> None:
    """A model that no Ollama described is still one to both SDKs, with what its server tells."""
    (model,) = openai_dialect.listing.parse_models(load("llama-server-2026/03-v1-models").body)
    listed = ollama_package.ListResponse.model_validate_json(ollama.listing.render_tags([model])).models[0]
    assert (listed.model, int(listed.size or 0)) == ("tiny", 3221504)
    shown = ollama_package.ShowResponse.model_validate_json(ollama.listing.render_show(model))
    assert shown.modelinfo == {"general.architecture": "llamacpp", "llamacpp.context_length": 2048}
    assert shown.capabilities == ["completion"]
    entry = openai_dialect.listing.render_entry(model)
    assert openai.types.Model.model_validate(entry).created == 1795338070


def test_recorded_ps_and_version() -> None:
    """What runs and which version answers are read as they stand."""
    running = ollama.listing.parse_running(load("ollama-0.9.3/19-ps").body)
    body = ollama.listing.render_running(running)
    assert ollama_package.ProcessResponse.model_validate_json(body).models[0].model == "tiny:latest"
    assert ollama.listing.parse_running(b'{"models":null}') == []
    assert ollama.listing.parse_version(load("ollama-0.9.3/03-version").body) == "0.9.3"
    assert ollama.listing.render_version("0.9.3") == load("ollama-0.9.3/03-version").body
