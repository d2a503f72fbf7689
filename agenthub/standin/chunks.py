"""The bytes of /v1 answers: whole ones and Server-Sent Events, as Ollama writes them."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from .answers import JSON, SSE, Stream, Whole, dumps, quoted
from .reply import Ask, Reply

_NO_USAGE = b',"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'
_DONE = b"data: [DONE]\n\n"


@attrs.frozen(kw_only=True)
class Facts:
    """What every chunk of one answer repeats. ``old`` is Ollama 0.9.3, ``usage`` is ``include_usage``."""

    ask: Ask
    reply: Reply
    serial: int
    created: int
    old: bool
    usage: bool

    def head(self, kind: str, prefix: str) -> dict[str, Any]:
        """Return the keys that stand first, ``kind`` being the "object" and ``prefix`` that of the id."""
        return {"id": f"{prefix}-{self.serial % 999}", "object": kind, "created": self.created}


def chat(facts: Facts) -> Whole | Stream:
    """Return the answer of /v1/chat/completions."""
    if facts.ask.stream:
        head = _event(facts.head("chat.completion.chunk", "chatcmpl"))
        model = _chat_model(facts.ask.name)
        return Stream(
            SSE,
            _chat_deltas(facts, head + model),
            lambda: _chat_end(facts, head + model),
            lambda _message: head + _chat_model("") + _delta(facts.old, b'"content":""', b"null"),
        )
    reply = facts.reply
    message: dict[str, Any] = {"role": "assistant", "content": "".join(reply.tokens)}
    if reply.thinking:
        message["reasoning"] = "".join(reply.thinking)
    if reply.calls:
        message["tool_calls"] = _calls(reply)
    choice = {"index": 0, "message": message, "finish_reason": _finish_reason(reply)}
    return _whole(facts, facts.head("chat.completion", "chatcmpl"), choice)


def completion(facts: Facts) -> Whole | Stream:
    """Return the answer of /v1/completions."""
    head = facts.head("text_completion", "cmpl")
    if facts.ask.stream:
        start = _event(head)
        tail = _completion_tail(facts.ask.name) + (_NO_USAGE if facts.usage else b"") + b"}\n\n"
        return Stream(
            SSE,
            (start + _text(quoted(token), b"null") + tail for token in facts.reply.tokens),
            lambda: _completion_end(facts, start, tail),
            lambda _message: start + _text(b'""', b"null") + _completion_tail("") + b"}\n\n",
        )
    choice = {"text": "".join(facts.reply.tokens), "index": 0, "finish_reason": facts.reply.reason}
    return _whole(facts, head, choice)


def in_base64(vector: Sequence[float]) -> str:
    """Return the vector as base64 of little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _whole(facts: Facts, head: dict[str, Any], choice: Mapping[str, Any]) -> Whole:
    body = head | {
        "model": facts.ask.name,
        "system_fingerprint": "fp_ollama",
        "choices": [choice],
        "usage": _usage(facts.reply),
    }
    return Whole(dumps(body) + b"\n", content_type=JSON, tokens=facts.reply.eval_count)


def _usage(reply: Reply) -> dict[str, int]:
    total = reply.prompt_count + reply.eval_count
    return {"prompt_tokens": reply.prompt_count, "completion_tokens": reply.eval_count, "total_tokens": total}


def _event(head: Mapping[str, Any]) -> bytes:
    return b"data: " + dumps(head)[:-1]


def _chat_model(name: str) -> bytes:
    return b',"model":' + quoted(name) + b',"system_fingerprint":"fp_ollama"'


def _delta(role: bool, fields: bytes, reason: bytes) -> bytes:
    first = b'"role":"assistant",' if role else b""
    return b',"choices":[{"index":0,"delta":{' + first + fields + b'},"finish_reason":' + reason + b"}]}\n\n"


def _chat_deltas(facts: Facts, head: bytes) -> Iterator[bytes]:
    fields = _chat_fields(facts.reply)
    first = next(fields, None)
    if first is None:
        # Ollama 0.33 sends an empty answer as one chunk; 0.9.3 has only the finish chunk.
        if not facts.old:
            yield head + _delta(True, b'"content":""', b"null")
        return
    yield head + _delta(True, first, b"null")
    opening, closing = _delta(facts.old, b"\0", b"null").split(b"\0")
    opening = head + opening
    for field in fields:
        yield opening + field + closing


def _chat_fields(reply: Reply) -> Iterator[bytes]:
    for token in reply.thinking:
        yield b'"content":"","reasoning":' + quoted(token)
    for token in reply.tokens:
        yield b'"content":' + quoted(token)
    if reply.calls:
        yield b'"content":"","tool_calls":' + dumps(_calls(reply))


def _chat_end(facts: Facts, head: bytes) -> list[bytes]:
    reason = dumps(_finish_reason(facts.reply))
    frames = [head + _delta(facts.old, b'"content":""' if facts.old else b"", reason)]
    if facts.usage:
        frames.append(head + b',"choices":[],"usage":' + dumps(_usage(facts.reply)) + b"}\n\n")
    return [*frames, _DONE]


def _text(text: bytes, reason: bytes) -> bytes:
    return b',"choices":[{"text":' + text + b',"index":0,"finish_reason":' + reason + b"}]"


def _completion_tail(name: str) -> bytes:
    return b',"model":' + quoted(name) + b',"system_fingerprint":"fp_ollama"'


def _completion_end(facts: Facts, start: bytes, tail: bytes) -> list[bytes]:
    frames = [start + _text(b'""', dumps(facts.reply.reason)) + tail]
    if facts.usage:
        usage = b',"usage":' + dumps(_usage(facts.reply)) + b"}\n\n"
        frames.append(start + b',"choices":[]' + _completion_tail(facts.ask.name) + usage)
    return [*frames, _DONE]


def _finish_reason(reply: Reply) -> str:
    return "tool_calls" if reply.calls and reply.reason == "stop" else reply.reason


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {
            "id": call.id,
            "index": index,
            "type": "function",
            "function": {"name": call.name, "arguments": dumps(call.arguments).decode()},
        }
        for index, call in enumerate(reply.calls)
    ]
