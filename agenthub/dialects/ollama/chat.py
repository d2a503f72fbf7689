"""POST /api/chat. Source: Ollama docs/api.md "Generate a chat completion"."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from agenthub.canonical import (
    JSON,
    Answer,
    Batch,
    ChatRequest,
    ChoiceStarted,
    Embeddings,
    Event,
    Finished,
    LogprobsDelta,
    RawFrames,
    ReasoningDelta,
    Source,
    Started,
    TextDelta,
    ToolCallDelta,
    assemble,
)
from agenthub.dialects import answerjson, jsontext, typed
from agenthub.dialects.body import parse_fields
from agenthub.dialects.groups import MANY, dump_body, listed
from agenthub.dialects.ledger import FIELDS, TO_OPENAI, Noted
from agenthub.dialects.ollama import fields as common
from agenthub.dialects.ollama.ending import EndParser
from agenthub.dialects.ollama.messages import (
    parse_message,
    parse_plain,
    read_arguments,
    render_answer_calls,
    render_message,
)
from agenthub.dialects.tool_choice import is_forced, offered_tools
from agenthub.dialects.tool_results import in_order
from agenthub.dialects.toolcalls import make_call_id, read_calls
from agenthub.errors import InvalidRequest

DIALECT = "ollama"
PATH = "/api/chat"
_USUAL = {"model", "messages", "stream", "options"}
"""What most requests consist of; they need not be searched for the rest."""


def parse_request(body: bytes) -> ChatRequest:
    """Return the canonical request; raises InvalidRequest in Ollama's words."""
    fields = parse_fields(body, "ChatRequest", known=FIELDS)
    is_usual = fields.values.keys() <= _USUAL
    shared = common.parse_usual(fields) if is_usual else common.parse_common(fields)
    if not shared["model"]:
        raise InvalidRequest("model is required", param="model")
    noted = Noted(TO_OPENAI)
    messages = fields.stream("messages", "api.Message")
    shared["messages"] = tuple([parse_plain(message) or parse_message(message, noted) for message in messages])
    shared["unmapped"] = tuple(noted.losses)
    if is_usual:
        return ChatRequest(**shared, source=Source(DIALECT, PATH, body))
    return ChatRequest(
        **shared,
        tools=fields.objects("tools", "api.Tool"),
        tool_choice=fields.take("tool_choice"),
        one_call=fields.choice("parallel_tool_calls") is False,
        extras=fields.rest(),
        source=Source(DIALECT, PATH, body),
    )


def render_request(request: ChatRequest, model: str) -> bytes:
    """Return the body for an Ollama upstream."""
    body = common.render_common(request, model)
    rendered = (render_message(message) for message in in_order(request.messages))
    body["messages"] = list(rendered) if len(request.messages) <= MANY else listed(rendered)
    if tools := offered_tools(request):
        body["tools"] = tools
    elif is_forced(request):
        raise InvalidRequest("tool_choice needs a tool, and none of the tools is it", param="tool_choice")
    return dump_body(body, request.size_bytes)


@attrs.define
class ChatParser(EndParser):
    """Lines of a stream; calls are numbered over the whole answer, since upstreams repeat ``index`` 0.

    A line without a message may be the end; any other is of a kind that other versions know.
    """

    _calls: int = 0
    _has_said: bool = False

    def parse(self, payload: bytes, events: list[Event]) -> None:
        line = answerjson.loads(payload)
        message = line.get("message")
        if type(message) is not dict:
            self._parse_other(line, events)
            return
        content = message.get("content")
        if (
            len(line) == 4
            and type(content) is str
            and content
            and len(message) == 2
            and "role" in message
            and line.get("done") is False
        ):
            # Nearly every line: model, created_at, done, and of the message only a role and a text.
            events.append(TextDelta(content))
            self._has_said = True
            return
        if "error" in line:
            common.raise_error(line)
        if thinking := typed.words(message.get("thinking")):
            events.append(ReasoningDelta(thinking))
        if text := typed.text(content):
            events.append(TextDelta(text))
        if calls := message.get("tool_calls"):
            if jsontext.has_long_integers(payload):
                calls = answerjson.loads_exactly(payload)["message"]["tool_calls"]
            read_calls(calls, self._call, events, has_said=self._has_said)
        if logprobs := typed.logprobs(line.get("logprobs")):
            events.append(LogprobsDelta(logprobs))
        self.is_begun, self._has_said = True, self._has_said or bool(events)
        self.parse_end(line, events)

    def _parse_other(self, line: Mapping[str, JSON], events: list[Event]) -> None:
        common.raise_error(line)
        if "done" in line and (text := typed.text(line.get("message"))):
            events.append(TextDelta(text))  # of a server that has no object there
        self.parse_end(line, events)

    def _call(self, call: JSON) -> ToolCallDelta:
        function, index = call["function"], self._calls
        name, arguments = typed.required(function["name"]), read_arguments(function.get("arguments"))
        self._calls += 1
        return ToolCallDelta(index, typed.label(call.get("id")) or make_call_id(), name, arguments)


def parse_whole(body: bytes) -> list[Event]:
    """Return the events of an answer with ``stream: false``; raises UpstreamProtocol for one that was cut."""
    parser, events = ChatParser(), list[Event]()
    parser.parse(body, events)
    parser.close(events)
    return events


def render_whole(request: ChatRequest, answer: Answer) -> bytes:
    """Return the single object of an answer with ``stream: false``."""
    finished = answer.finished or Finished()
    message: dict[str, JSON] = {"role": "assistant", "content": answer.text}
    if answer.reasoning:
        message["thinking"] = answer.reasoning
    if calls := render_answer_calls(answer.tool_calls, finished.reason):
        message["tool_calls"] = calls
    body = {"model": request.model, "created_at": common.timestamp(), "message": message}
    if answer.logprobs:
        body["logprobs"] = list(answer.logprobs)
    return jsontext.dumps(body)[:-1] + b"," + common.dump_finished(finished, request)


@attrs.define
class ChatRenderer:
    """Lines of a stream. Calls are held back until they are whole, since this dialect has no fragments of calls."""

    request: ChatRequest
    _model: bytes = attrs.field(init=False)
    _calls: list[ToolCallDelta] = attrs.field(factory=list)
    _choice: int = 0

    def __attrs_post_init__(self) -> None:
        self._model = b'{"model":' + jsontext.dumps(self.request.model) + b',"created_at":"'

    def render(self, batch: Batch) -> bytes:
        head = self._model + common.timestamp().encode() + b'","message":{"role":"assistant","content":'
        lines: list[bytes] = []
        for event in batch:
            match event:
                case ChoiceStarted():
                    self._choice = event.index
                case Finished():
                    lines += self._end(head, event)
                case _ if self._choice:
                    pass  # this dialect shows one choice
                case TextDelta():
                    lines.append(head + jsontext.dump_text(event.text) + b'},"done":false}\n')
                case ReasoningDelta():
                    lines.append(head + b'"","thinking":' + jsontext.dump_text(event.text) + b'},"done":false}\n')
                case ToolCallDelta():
                    self._calls.append(event)
                case LogprobsDelta():
                    lines.append(head + b'""},"done":false,"logprobs":' + jsontext.dumps(list(event.items)) + b"}\n")
                case Started() | RawFrames() | Embeddings():
                    pass
        return b"".join(lines)

    def _end(self, head: bytes, finished: Finished) -> list[bytes]:
        lines = []
        if calls := render_answer_calls(assemble(self._calls).tool_calls, finished.reason):
            lines.append(head + b'"","tool_calls":' + jsontext.dumps(calls) + b'},"done":false}\n')
        return [*lines, head + b'""},' + common.dump_finished(finished, self.request) + b"\n"]


CODEC = common.make_codec(
    path=PATH,
    parse_request=parse_request,
    render_request=render_request,
    parse_whole=parse_whole,
    render_whole=render_whole,
    make_parser=ChatParser,
    make_renderer=ChatRenderer,
)
