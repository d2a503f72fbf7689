"""POST /v1/chat/completions, streamed. Source: API reference "The chat completion chunk object"."""

from __future__ import annotations

import time
import uuid
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

    _calls: dict[int, int] = attrs.field(factory=dict)
    _open: dict[tuple[int, int], tuple[int, str]] = attrs.field(factory=dict)

    def parse_choice(self, choice: JSON, events: list[Event]) -> None:
        delta = choice.get("delta") or {}
        if reasoning := parse_thinking(delta):
            events.append(ReasoningDelta(reasoning))
        content = delta.get("content")
        if text := (content if type(content) is str else parse_content(content)) or delta.get("refusal"):
            events.append(TextDelta(typed.text(text)))
        if fragments := delta.get("tool_calls"):
            events.extend([self._call(fragment) for fragment in typed.items(fragments)])
        elif function := delta.get("function_call"):
            events.append(self._call({"index": 0, "function": function}))
        if logprobs := choice.get("logprobs"):
            events.extend(parse_logprobs(logprobs))

    def _call(self, fragment: JSON) -> ToolCallDelta:
        theirs, call_id = typed.count(fragment.get("index")), typed.text(fragment.get("id"))
        function = fragment.get("function") or {}
        arguments = typed.text(function.get("arguments"))
        known = self._open.get((self._index, theirs))
        if known is not None and call_id in ("", known[1]):
            return ToolCallDelta(known[0], arguments=arguments)
        index = self._calls.get(self._index, 0)
        self._calls[self._index] = index + 1
        known = self._open[self._index, theirs] = (index, call_id or make_call_id())
        return ToolCallDelta(index, known[1], typed.text(function.get("name")), arguments)


def parse_thinking(message: Mapping[str, JSON]) -> str:
    """Return what a message or a delta says in any of the words that servers have for thinking aloud."""
    thinking = message.get("reasoning") or message.get("reasoning_content")
    if not thinking and (details := message.get("reasoning_details")):
        return "".join([typed.text(detail.get("text")) for detail in typed.items(details)])
    return typed.text(thinking)


def parse_content(value: JSON) -> str:
    """Return a content that is a text, null or a list of parts, of which those of text count."""
    if isinstance(value, list):
        return "".join([typed.required(part.get("text")) for part in value if part.get("type") == "text"])
    return typed.text(value)


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

    def around_text(self, index: int) -> tuple[bytes, bytes]:
        """Return what stands before and after the text of a chunk of nothing else."""
        before = b'%s{"index":%d,"delta":{"content":' % (self.head, index)
        return before, b'},"logprobs":null,"finish_reason":null}' + self.tail

    def chunk(self, index: int, delta: bytes, logprobs: bytes = b"null", reason: bytes = b"null") -> bytes:
        shape = b'%s{"index":%d,"delta":%s,"logprobs":%s,"finish_reason":%s}%s'
        return shape % (self.head, index, delta, logprobs, reason, self.tail)

    def usage(self, usage: Usage | None) -> bytes:
        return self.head + b'],"usage":' + jsontext.dumps(common.render_usage(usage)) + b"}\n\n"


_TEXTS = {TextDelta}


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
        if self._around_text is not None and set(map(type, batch)) == _TEXTS:
            before, after = self._around_text
            # Nearly every batch, in one go.
            return before + (after + before).join([jsontext.dump_text(event.text) for event in batch]) + after  # type: ignore[union-attr]
        frames: list[bytes] = []
        for event in batch:
            frames += self._render(event)
        return b"".join(frames)

    def _render(self, event: Event) -> list[bytes]:
        match event:
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
