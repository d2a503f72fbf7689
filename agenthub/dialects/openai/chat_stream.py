"""POST /v1/chat/completions, streamed. Source: API reference "The chat completion chunk object"."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

import attrs

from agenthub.canonical import (
    JSON,
    Batch,
    ChatRequest,
    Embeddings,
    Event,
    Finished,
    LogprobsDelta,
    RawFrames,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from agenthub.dialects import jsontext, typed
from agenthub.dialects.openai import fields as common
from agenthub.dialects.openai.choices import ChoiceParser
from agenthub.dialects.toolcalls import make_call_id


@attrs.define
class ChatParser(ChoiceParser):
    """Chunks of a stream. Calls are renumbered: some servers start a new call on an index that is taken."""

    _calls: int = 0
    _open: dict[int, tuple[int, str]] = attrs.field(factory=dict)

    def parse_choice(self, choice: JSON, events: list[Event]) -> None:
        delta = choice.get("delta") or {}
        if reasoning := delta.get("reasoning") or delta.get("reasoning_content"):
            events.append(ReasoningDelta(typed.text(reasoning)))
        if text := delta.get("content") or delta.get("refusal"):
            events.append(TextDelta(typed.text(text)))
        if fragments := delta.get("tool_calls"):
            events.extend(self._call(fragment) for fragment in typed.items(fragments))
        if logprobs := choice.get("logprobs"):
            events.extend(parse_logprobs(logprobs))

    def _call(self, fragment: JSON) -> ToolCallDelta:
        theirs, call_id = typed.count(fragment.get("index")), typed.text(fragment.get("id"))
        function = fragment.get("function") or {}
        arguments = typed.text(function.get("arguments"))
        known = self._open.get(theirs)
        if known is not None and call_id in ("", known[1]):
            return ToolCallDelta(known[0], arguments=arguments)
        index, self._calls = self._calls, self._calls + 1
        self._open[theirs] = (index, call_id or make_call_id())
        return ToolCallDelta(index, self._open[theirs][1], typed.text(function.get("name")), arguments)


def parse_logprobs(value: JSON) -> list[LogprobsDelta]:
    """Return the log-probabilities of a choice, if there are any."""
    items = typed.logprobs(value.get("content"))
    return [LogprobsDelta(items)] if items else []


def render_logprobs(items: Sequence[JSON]) -> dict[str, JSON]:
    """Return OpenAI's ``logprobs`` object, in which each item has ``bytes`` and ``top_logprobs``."""
    return {"content": [_logprob(item) | {"top_logprobs": _tops(item)} for item in items], "refusal": None}


def _tops(item: JSON) -> list[JSON]:
    return [_logprob(top) for top in item.get("top_logprobs") or ()]


def _logprob(item: JSON) -> dict[str, JSON]:
    token, spelled = item["token"], item.get("bytes")
    if spelled is None:
        spelled = list(token.encode("utf-8", "replace"))
    return {"token": token, "logprob": item["logprob"], "bytes": spelled}


@attrs.define
class ChunkTemplate:
    """The bytes that all chunks of one stream share, so that a chunk costs one ``dumps`` of its text."""

    head: bytes
    tail: bytes
    before_text: bytes = attrs.field(init=False)
    after_text: bytes = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.before_text = self.head + b'{"index":0,"delta":{"content":'
        self.after_text = b'},"logprobs":null,"finish_reason":null}' + self.tail

    @classmethod
    def make(cls, request: ChatRequest) -> ChunkTemplate:
        shared = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": request.model,
            "system_fingerprint": common.FINGERPRINT,
        }
        head = b"data: " + jsontext.dumps(shared)[:-1] + b',"choices":['
        return cls(head, b'],"usage":null}\n\n' if request.include_usage else b"]}\n\n")

    def chunk(self, delta: bytes, logprobs: bytes = b"null", reason: bytes = b"null") -> bytes:
        middle = b'{"index":0,"delta":' + delta + b',"logprobs":' + logprobs + b',"finish_reason":' + reason + b"}"
        return self.head + middle + self.tail

    def usage(self, usage: Usage | None) -> bytes:
        return self.head + b'],"usage":' + jsontext.dumps(common.render_usage(usage)) + b"}\n\n"


@attrs.define
class ChatRenderer:
    """Chunks of a stream: the role on the first only, one chunk with the reason, counts if asked for, ``[DONE]``."""

    request: ChatRequest
    _template: ChunkTemplate = attrs.field(init=False)
    _role: bytes = b'"role":"assistant",'
    _called: bool = False

    def __attrs_post_init__(self) -> None:
        self._template = ChunkTemplate.make(self.request)

    def render(self, batch: Batch) -> bytes:
        frames: list[bytes] = []
        before, after = self._template.before_text, self._template.after_text
        for event in batch:
            if type(event) is TextDelta and not self._role:
                frames.append(before + jsontext.dumps(event.text) + after)
                continue
            match event:
                case TextDelta():
                    frames.append(self._chunk(b'"content":' + jsontext.dumps(event.text)))
                case ReasoningDelta():
                    text = jsontext.dumps(event.text)
                    frames.append(self._chunk(b'"reasoning":' + text + b',"reasoning_content":' + text))
                case ToolCallDelta():
                    self._called = True
                    frames.append(self._chunk(b'"tool_calls":[' + jsontext.dumps(_fragment(event)) + b"]"))
                case LogprobsDelta():
                    frames.append(self._chunk(b'"content":""', jsontext.dumps(render_logprobs(event.items))))
                case Finished():
                    frames += self._finish(event)
                case Started() | RawFrames() | Embeddings():
                    pass
        return b"".join(frames)

    def _chunk(self, members: bytes, logprobs: bytes = b"null") -> bytes:
        role, self._role = self._role, b""
        return self._template.chunk(b"{" + role + members + b"}", logprobs)

    def _finish(self, finished: Finished) -> list[bytes]:
        frames = [self._chunk(b'"content":""')] if self._role else []
        reason = common.render_reason(finished.reason, self._called).encode()
        frames.append(self._template.chunk(b"{}", reason=b'"' + reason + b'"'))
        if self.request.include_usage:
            frames.append(self._template.usage(finished.usage))
        return [*frames, common.DONE]


def _fragment(event: ToolCallDelta) -> dict[str, JSON]:
    function: dict[str, JSON] = {"arguments": event.arguments}
    if not event.id:
        return {"index": event.index, "function": function}
    named = {"name": event.name} | function
    return {"index": event.index, "id": event.id, "type": "function", "function": named}
