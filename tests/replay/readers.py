"""Reads what the hub answered, and holds it to the rules of its dialect's streams and whole answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from tests.replay.oracle import Call, Said, known, vector
from tests.replay.wire import Message

DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
_CHUNK_TYPES = {"/v1/chat/completions": "chat.completion.chunk", "/v1/completions": "text_completion"}
_WHOLE_TYPES = {"/v1/chat/completions": "chat.completion", "/v1/completions": "text_completion"}


def read(answer: Message, path: str, model: str, *, usage_wanted: bool = True) -> Said:
    """What an answer of ``path`` says; fails for one that breaks a rule of its dialect."""
    assert answer.complete
    dialect = "openai" if path.startswith("/v1") else "ollama"
    if answer.status >= 400:
        assert answer.content_type == "application/json"
        return read_error(json.loads(answer.body), dialect, answer.status)
    if answer.content_type == "application/json":
        return _WHOLE[path](json.loads(answer.body), path, model)
    if dialect == "openai":
        assert answer.content_type == "text/event-stream"
        return read_events(answer.body.decode(), path, model, usage_wanted)
    assert answer.content_type == "application/x-ndjson"
    return read_lines(answer.body.decode(), path, model)


def read_error(body: Any, dialect: str, status: int) -> Said:
    """Ollama's text or OpenAI's object with its four keys, and nothing beside it."""
    assert list(body) == ["error"]
    error = body["error"]
    if dialect == "ollama":
        assert isinstance(error, str)
        return Said(status, error=error)
    assert list(error) == ["message", "type", "param", "code"]
    return Said(status, error=error["message"], kind=error["type"], code=error["code"])


def read_lines(body: str, path: str, model: str) -> Said:
    """NDJSON: no blank line, ``done`` on the last line only, and none behind an error."""
    assert body.endswith("\n")
    *lines, last = [json.loads(line) for line in body.removesuffix("\n").split("\n")]
    for line in lines:
        assert (line["model"], line["done"]) == (model, False)
        assert _TIME.fullmatch(line["created_at"])
        assert not line.keys() & {*DURATIONS, "done_reason", "eval_count", "error"}
    said = read_error(last, "ollama", 200) if "error" in last else _native(last, path, model)
    parts = [_native_part(line, path) for line in (*lines, *([] if said.error else [last]))]
    return _joined(said, parts)


def _native(body: Any, path: str, model: str) -> Said:
    assert (body["model"], body["done"]) == (model, True)
    assert _TIME.fullmatch(body["created_at"])
    counted = "eval_count" in body or "prompt_eval_count" in body
    for name in DURATIONS:
        if counted or name in body:
            assert type(body[name]) is int, name
            assert body[name] > 0, name
    usage = (body["prompt_eval_count"], body["eval_count"], body.get("prompt_eval_cached_count")) if counted else None
    return Said(reason=body["done_reason"], usage=usage)


def _native_part(line: Any, path: str) -> Said:
    logprobs = tuple(known(entry) for entry in line.get("logprobs", ()))
    if path == "/api/generate":
        assert "message" not in line
        return Said(text=line["response"], reasoning=line.get("thinking", ""), logprobs=logprobs)
    message = line["message"]
    assert message["role"] == "assistant"
    calls = message.get("tool_calls", ())
    assert [call["function"]["index"] for call in calls] == list(range(len(calls)))
    return Said(
        text=message["content"],
        reasoning=message.get("thinking", ""),
        calls=tuple(_call(call["function"]["name"], call["function"]["arguments"], call["id"]) for call in calls),
        logprobs=logprobs,
    )


def _call(name: str, arguments: Any, call_id: str) -> Call:
    assert call_id
    assert isinstance(arguments, dict)
    return Call(name, json.dumps(arguments, ensure_ascii=False, separators=(",", ":")), call_id)


def _joined(said: Said, parts: list[Said]) -> Said:
    return Said(
        status=said.status,
        text="".join(part.text for part in parts),
        reasoning="".join(part.reasoning for part in parts),
        calls=tuple(call for part in parts for call in part.calls),
        reason=said.reason,
        usage=said.usage,
        logprobs=tuple(entry for part in parts for entry in part.logprobs),
        error=said.error,
        kind=said.kind,
        code=said.code,
    )


def _native_whole(body: Any, path: str, model: str) -> Said:
    return _joined(_native(body, path, model), [_native_part(body, path)])


def _embed_whole(body: Any, path: str, model: str) -> Said:
    assert body["model"] == model
    count = body.get("prompt_eval_count")
    usage = None if count is None else (count, 0, None)
    return Said(vectors=tuple(vector(row) for row in body["embeddings"]), usage=usage)


def _legacy_whole(body: Any, path: str, model: str) -> Said:
    assert list(body) == ["embedding"]
    return Said(vectors=(vector(body["embedding"]),) if body["embedding"] else ())


def read_events(body: str, path: str, model: str, usage_wanted: bool) -> Said:
    """Server-sent events: one id, the role once, one chunk with the reason, counts last if asked for, ``[DONE]``.

    A stream that broke ends with an error, without a reason and without ``[DONE]``.
    """
    assert body.endswith("\n\n")
    frames = body.removesuffix("\n\n").split("\n\n")
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    *chunks, last = [frame.removeprefix("data: ") for frame in frames]
    read_chunks = [json.loads(chunk) for chunk in chunks]
    if last != "[DONE]":
        said = read_error(json.loads(last), "openai", 200)
    else:
        said, read_chunks = _end(read_chunks, usage_wanted)
    assert len({(chunk["id"], chunk["created"], chunk["object"], chunk["model"]) for chunk in read_chunks}) < 2
    for chunk in read_chunks:
        assert (chunk["object"], chunk["model"], type(chunk["created"])) == (_CHUNK_TYPES[path], model, int)
        assert (chunk.get("usage", "absent")) == (None if usage_wanted else "absent")
        assert [choice["index"] for choice in chunk["choices"]] == [0]
    choices = [chunk["choices"][0] for chunk in read_chunks]
    reasons = [choice["finish_reason"] for choice in choices]
    assert reasons == [None] * (len(reasons) - (not said.error)) + ([] if said.error else [reasons[-1]])
    if path == "/v1/completions":
        return _joined(said, [Said(text=choice["text"]) for choice in choices])
    deltas = [choice["delta"] for choice in choices]
    assert [delta["role"] for delta in deltas if "role" in delta] == ["assistant"][: len(deltas)]
    assert "role" in deltas[0]
    assert said.error or deltas[-1] == {}
    return _joined(said, [*map(_delta, choices), Said(calls=_fragments(deltas))])


def _end(chunks: list[Any], usage_wanted: bool) -> tuple[Said, list[Any]]:
    usage = None
    if usage_wanted:
        *chunks, counts = chunks
        assert counts["choices"] == []
        usage = _openai_usage(counts["usage"])
    reason = chunks[-1]["choices"][0]["finish_reason"]
    assert reason in ("stop", "length", "tool_calls")
    return Said(reason=reason, usage=usage), chunks


def _openai_usage(counts: Any) -> tuple[int, int, int | None]:
    assert counts["total_tokens"] == counts["prompt_tokens"] + counts["completion_tokens"]
    cached = counts.get("prompt_tokens_details", {}).get("cached_tokens")
    return counts["prompt_tokens"], counts["completion_tokens"], cached


def _delta(choice: Any) -> Said:
    delta = choice["delta"]
    assert delta.get("reasoning") == delta.get("reasoning_content")
    entries = (choice["logprobs"] or {}).get("content") or ()
    return Said(
        text=delta.get("content") or "",
        reasoning=delta.get("reasoning") or "",
        logprobs=tuple(known(entry) for entry in entries),
    )


def _fragments(deltas: list[Any]) -> tuple[Call, ...]:
    """Calls put together as the openai package does it: by index, id and name on the first fragment only."""
    calls: list[dict[str, str]] = []
    for fragment in (fragment for delta in deltas for fragment in delta.get("tool_calls", ())):
        if fragment["index"] == len(calls):
            assert fragment["type"] == "function"
            assert fragment["id"]
            calls.append({"id": fragment["id"], "name": fragment["function"]["name"], "arguments": ""})
        else:
            assert "id" not in fragment
            assert fragment["index"] == len(calls) - 1
        calls[-1]["arguments"] += fragment["function"]["arguments"]
    return tuple(Call(**call) for call in calls)


def _chat_whole(body: Any, path: str, model: str) -> Said:
    choice = _openai_whole(body, path, model)
    message = choice["message"]
    calls = message.get("tool_calls", ())
    assert (message["role"], message["refusal"]) == ("assistant", None)
    assert (message["content"] is None) == (bool(calls) and not message["content"])
    assert all(call["type"] == "function" for call in calls)
    found = [Call(call["function"]["name"], call["function"]["arguments"], call["id"]) for call in calls]
    said = _delta({"delta": message, "logprobs": choice["logprobs"]})
    reason = choice["finish_reason"]
    return _joined(Said(reason=reason, usage=_openai_usage(body["usage"])), [said, Said(calls=tuple(found))])


def _completion_whole(body: Any, path: str, model: str) -> Said:
    choice = _openai_whole(body, path, model)
    return Said(text=choice["text"], reason=choice["finish_reason"], usage=_openai_usage(body["usage"]))


def _openai_whole(body: Any, path: str, model: str) -> Any:
    assert (body["object"], body["model"], type(body["created"])) == (_WHOLE_TYPES[path], model, int)
    assert body["id"]
    (choice,) = body["choices"]
    assert choice["index"] == 0
    return choice


def _embeddings_whole(body: Any, path: str, model: str) -> Said:
    assert (body["object"], body["model"]) == ("list", model)
    rows, usage = body["data"], body["usage"]
    assert [(row["object"], row["index"]) for row in rows] == [("embedding", index) for index in range(len(rows))]
    assert usage == {"prompt_tokens": usage["prompt_tokens"], "total_tokens": usage["prompt_tokens"]}
    return Said(vectors=tuple(vector(row["embedding"]) for row in rows), usage=(usage["prompt_tokens"], 0, None))


_WHOLE: dict[str, Callable[[Any, str, str], Said]] = {
    "/api/chat": _native_whole,
    "/api/generate": _native_whole,
    "/api/embed": _embed_whole,
    "/api/embeddings": _legacy_whole,
    "/v1/chat/completions": _chat_whole,
    "/v1/completions": _completion_whole,
    "/v1/embeddings": _embeddings_whole,
}
