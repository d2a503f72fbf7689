"""POST /v1/chat/completions, streamed. Source: API reference "The chat completion chunk object"."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence

import attrs

from agenthub.canonical import (
    JSON,
    Batch,
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
    ToolCallDelta,
    Usage,
)
from agenthub.dialects import jsontext, typed
from agenthub.dialects.openai import fields as common
from agenthub.dialects.openai.calls import CallParser
from agenthub.dialects.openai.choices import ChoiceParser
from agenthub.dialects.openai.logprobs import parse_logprobs, render_logprobs
from agenthub.dialects.toolcalls import read_calls


@attrs.define
class ChatParser(ChoiceParser):
    """Chunks of a stream."""

    _calls: dict[int, CallParser] = attrs.field(factory=dict)
    _beside: dict[str, list[JSON]] = attrs.field(factory=dict)
    _has_said: bool = False

    def parse_choice(self, choice: JSON, events: list[Event]) -> None:
        # Some servers that only seem to stream send the whole message.
        delta = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
        if len(delta) == 1 and type(text := delta.get("content")) is str and text:
            # Nearly every chunk.
            events.append(TextDelta(text))
            self._has_said = True
            if logprobs := choice.get("logprobs"):
                events.extend(parse_logprobs(logprobs))
            return
        known = len(events)
        parse_texts(delta, events)
        if not self._index and ("refusal" in delta or "annotations" in delta):
            for name, piece in common.parse_beside(delta).items():
                self._beside.setdefault(name, []).append(piece)
        fragments: JSON = delta.get("tool_calls")
        if not fragments and (function := delta.get("function_call")):
            fragments = {"index": 0, "function": function}
        if fragments:
            calls = self._calls.setdefault(self._index, CallParser())
            read_calls(fragments, calls.parse, events, has_said=self._has_said)
        self._has_said = self._has_said or len(events) > known
        if logprobs := choice.get("logprobs"):
            events.extend(parse_logprobs(logprobs))

    def _finish(self) -> Finished:
        self._aside |= {name: _together(pieces) for name, pieces in self._beside.items()}
        return super()._finish()


def _together(pieces: Sequence[JSON]) -> JSON:
    """Return what the pieces of a text or of a list come to."""
    if len(pieces) == 1:
        return pieces[0]
    if type(pieces[0]) is str:
        return "".join(pieces)
    return [item for piece in pieces for item in piece]


def message_of(choice: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """Return the message of a whole choice, by whichever name; raise LookupError for a choice without one."""
    for name in ("message", "delta", "text"):
        if found := choice.get(name):
            return found if type(found) is dict else {"content": found}
    if (found := choice["message"]) is None:
        raise LookupError("message")
    return typed.mapping(found)


def parse_texts(message: Mapping[str, JSON], events: list[Event]) -> None:
    """Append what a message or a delta thinks, says and refuses."""
    text, thoughts = message.get("content"), ""
    if type(text) is list:
        text, thoughts = _parse_parts(text)
    elif type(text) is not str:
        text = typed.text(text)
    if reasoning := parse_thinking(message) or thoughts:
        events.append(ReasoningDelta(reasoning))
    if text:
        events.append(TextDelta(text))
    if refusal := typed.words(message.get("refusal")):
        events.append(RefusalDelta(refusal))


_THINKING = ("reasoning", "reasoning_content", "reasoning_details")


def parse_thinking(message: Mapping[str, JSON]) -> str:
    """Return what a message or a delta says in any of the words that servers have for thinking aloud."""
    for name in _THINKING:
        if (said := message.get(name)) and (thinking := typed.words(said)):
            return thinking
    return ""


def _parse_parts(parts: Sequence[JSON]) -> tuple[str, str]:
    """Return the text and the thoughts of a content that is a list of parts."""
    text, thoughts = list[str](), list[str]()
    for part in parts:
        if type(part) is not dict:
            text.append(typed.text(part))
            continue
        match part.get("type"):
            case "refusal":
                text.append(typed.text(part.get("refusal")))
            case "text" | "output_text" | None:
                text.append(typed.text(part.get("text")))
            case "thinking":  # Mistral's: a text, or parts of text
                said = part.get("thinking")
                thoughts.append(typed.words(said))
    return "".join(text), "".join(thoughts)


@attrs.define
class ChunkTemplate:
    """The bytes that all chunks of one stream share, so that a chunk costs one ``dumps`` of its text."""

    head: bytes
    tail: bytes

    @classmethod
    def make(cls, request: ChatRequest) -> ChunkTemplate:
        shared = {
            "id": f"chatcmpl-{random.getrandbits(128):032x}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": request.model,
            "system_fingerprint": common.FINGERPRINT,
        }
        head = b"data: " + jsontext.dumps(shared)[:-1] + b',"choices":['
        return cls(head, b'],"usage":null}\n\n' if request.include_usage else b"]}\n\n")

    def around_text(self, index: int) -> tuple[bytes, bytes]:
        """Return what stands before and after the text of a chunk of nothing else."""
        before = b'%s{"index":%d,"delta":{"content":' % (self.head, index)
        return before, b'},"logprobs":null,"finish_reason":null}' + self.tail

    def chunk(self, index: int, delta: bytes, logprobs: bytes = b"null", reason: bytes = b"null") -> bytes:
        shape = b'%s{"index":%d,"delta":%s,"logprobs":%s,"finish_reason":%s}%s'
        return shape % (self.head, index, delta, logprobs, reason, self.tail)

    def usage(self, usage: Usage | None) -> bytes:
        return self.head + b'],"usage":' + jsontext.dumps(common.render_usage(usage)) + b"}\n\n"


@attrs.define
class ChatRenderer:
    """Chunks of a stream: the role on a choice's first only, one chunk with its reason, counts if asked, ``[DONE]``.

    ``_around_text`` is None until the choice has begun: then its texts need no more than a look at their type.
    """

    request: ChatRequest
    _template: ChunkTemplate = attrs.field(init=False)
    _around_text: tuple[bytes, bytes] | None = None
    _index: int = 0
    _begun: set[int] = attrs.field(factory=set)
    _called: set[int] = attrs.field(factory=set)

    def __attrs_post_init__(self) -> None:
        self._template = ChunkTemplate.make(self.request)

    def render(self, batch: Batch) -> bytes:
        frames: list[bytes] = []
        around = self._around_text
        for event in batch:
            if around is not None and type(event) is TextDelta:
                # Joined at once: orjson's bytes come in buffers that are dear to keep, and cheap to give back.
                frames.append(around[0] + jsontext.dump_text(event.text) + around[1])
                continue
            frames += self._render(event)
            around = self._around_text
        return b"".join(frames)

    def _render(self, event: Event) -> list[bytes]:
        match event:
            case RefusalDelta():
                return [self._chunk(b'"refusal":' + jsontext.dump_text(event.text))]
            case TextDelta():
                return [self._chunk(b'"content":' + jsontext.dump_text(event.text))]
            case ReasoningDelta():
                text = jsontext.dumps(event.text)
                return [self._chunk(b'"reasoning":' + text + b',"reasoning_content":' + text)]
            case ToolCallDelta():
                return self._call(event)
            case LogprobsDelta():
                return [self._chunk(b'"content":""', jsontext.dumps(render_logprobs(event.items)))]
            case ChoiceStarted():
                self._index = event.index
                begun = event.index in self._begun
                self._around_text = self._template.around_text(event.index) if begun else None
            case Finished():
                return self._finish(event)
            case Started() | RawFrames() | Embeddings():
                pass
        return []

    def _call(self, event: ToolCallDelta) -> list[bytes]:
        self._called.add(self._index)
        if not self.request.functions:
            return [self._chunk(b'"tool_calls":[' + jsontext.dumps(_fragment(event)) + b"]")]
        if event.index:
            return []  # there is but one function_call
        function = _fragment(event)["function"]
        return [self._chunk(b'"function_call":' + jsontext.dumps(function))]

    def _chunk(self, members: bytes, logprobs: bytes = b"null") -> bytes:
        role = b"" if self._index in self._begun else b'"role":"assistant",'
        self._begun.add(self._index)
        self._around_text = self._template.around_text(self._index)
        return self._template.chunk(self._index, b"{" + role + members + b"}", logprobs)

    def _finish(self, finished: Finished) -> list[bytes]:
        frames = []
        for index, reason in enumerate((finished.reason, *finished.more_reasons)):
            self._index = index
            if index not in self._begun:
                frames.append(self._chunk(b'"content":""'))
            said = common.render_reason(reason, index in self._called, self.request.functions).encode()
            frames.append(self._template.chunk(index, b"{}", reason=b'"' + said + b'"'))
        if self.request.include_usage:
            frames.append(self._template.usage(finished.usage))
        if sidecar := common.render_sidecar(self.request, finished):
            # Beside the reason: a chunk after the counts would take them away from the openai package's helper.
            member = b',"x_ollama":' + jsontext.dumps(sidecar["x_ollama"]) + b"}\n\n"
            place = -2 if self.request.include_usage else -1
            frames[place] = frames[place].removesuffix(b"}\n\n") + member
        return [*frames, common.DONE]


def _fragment(event: ToolCallDelta) -> dict[str, JSON]:
    function: dict[str, JSON] = {"arguments": event.arguments}
    if not event.id:
        return {"index": event.index, "function": function}
    named = {"name": event.name} | function
    return {"index": event.index, "id": event.id, "type": "function", "function": named}
