"""POST /api/generate. Source: Ollama docs/api.md "Generate a completion"."""

from __future__ import annotations

import attrs

from agenthub.canonical import (
    JSON,
    Answer,
    Batch,
    ChoiceStarted,
    Embeddings,
    Event,
    Finished,
    GenerateRequest,
    LogprobsDelta,
    RawFrames,
    ReasoningDelta,
    Source,
    Started,
    TextDelta,
    ToolCallDelta,
)
from agenthub.dialects import answerjson, jsontext, typed
from agenthub.dialects.body import parse_fields
from agenthub.dialects.groups import dump_body
from agenthub.dialects.ledger import FIELDS
from agenthub.dialects.ollama import fields as common
from agenthub.dialects.ollama.ending import EndParser
from agenthub.errors import InvalidRequest, UnknownModel

DIALECT = "ollama"
PATH = "/api/generate"


def parse_request(body: bytes) -> GenerateRequest:
    """Return the canonical request; raises InvalidRequest or UnknownModel in Ollama's words."""
    fields = parse_fields(body, "GenerateRequest", known=FIELDS)
    shared = common.parse_common(fields)
    if not shared["model"]:
        raise UnknownModel("")
    request = GenerateRequest(
        **shared,
        prompt=fields.text("prompt"),
        system=fields.text("system") or None,
        suffix=fields.text("suffix"),
        template=fields.text("template") or None,
        context=tuple(fields.array("context", "int")),
        raw=fields.flag("raw"),
        images=fields.strings("images"),
        extras=fields.rest(),
        source=Source(DIALECT, PATH, body),
    )
    if request.raw and (request.template or request.system or request.context):
        raise InvalidRequest("raw mode does not support template, system, or context", param="raw")
    return request


def render_request(request: GenerateRequest, model: str) -> bytes:
    """Return the body for an Ollama upstream."""
    body = common.render_common(request, model)
    body["prompt"] = request.prompt
    optional: dict[str, JSON] = {
        "system": request.system,
        "suffix": request.suffix,
        "template": request.template,
        "context": list(request.context),
        "raw": request.raw,
        "images": list(request.images),
    }
    body |= {name: value for name, value in optional.items() if value}
    return dump_body(body, request.size_bytes)


@attrs.define
class GenerateParser(EndParser):
    """Lines of a stream. One without a response may be the end; any other is of a kind that other versions know."""

    def parse(self, payload: bytes, events: list[Event]) -> None:
        if self._done:
            return
        line = answerjson.loads(payload)
        response = line.get("response")
        if "error" in line:
            common.raise_error(line)
        if response is not None:
            self.is_begun = True
        if thinking := typed.words(line.get("thinking")):
            events.append(ReasoningDelta(thinking))
        if text := typed.text(response):
            events.append(TextDelta(text))
        if logprobs := typed.logprobs(line.get("logprobs")):
            events.append(LogprobsDelta(logprobs))
        self.parse_end(line, events)


def parse_whole(body: bytes) -> list[Event]:
    """Return the events of an answer with ``stream: false``; raises UpstreamProtocol for one that was cut."""
    parser, events = GenerateParser(), list[Event]()
    parser.parse(body, events)
    parser.close(events)
    return events


def render_whole(request: GenerateRequest, answer: Answer) -> bytes:
    """Return the single object of an answer with ``stream: false``."""
    body: dict[str, JSON] = {"model": request.model, "created_at": common.timestamp(), "response": answer.text}
    if answer.reasoning:
        body["thinking"] = answer.reasoning
    if answer.logprobs:
        body["logprobs"] = list(answer.logprobs)
    return jsontext.dumps(body)[:-1] + b"," + common.dump_finished(answer.finished or Finished(), request)


@attrs.define
class GenerateRenderer:
    """Lines of a stream."""

    request: GenerateRequest
    _model: bytes = attrs.field(init=False)
    _choice: int = 0

    def __attrs_post_init__(self) -> None:
        self._model = b'{"model":' + jsontext.dumps(self.request.model) + b',"created_at":"'

    def render(self, batch: Batch) -> bytes:
        head = self._model + common.timestamp().encode() + b'","response":'
        lines: list[bytes] = []
        for event in batch:
            match event:
                case ChoiceStarted():
                    self._choice = event.index
                case Finished():
                    lines.append(head + b'"",' + common.dump_finished(event, self.request) + b"\n")
                case _ if self._choice:
                    pass  # this dialect shows one choice
                case TextDelta():
                    lines.append(head + jsontext.dump_text(event.text) + b',"done":false}\n')
                case ReasoningDelta():
                    lines.append(head + b'"","thinking":' + jsontext.dump_text(event.text) + b',"done":false}\n')
                case LogprobsDelta():
                    lines.append(head + b'"","done":false,"logprobs":' + jsontext.dumps(list(event.items)) + b"}\n")
                case Started() | RawFrames() | ToolCallDelta() | Embeddings():
                    pass
        return b"".join(lines)


CODEC = common.make_codec(
    path=PATH,
    parse_request=parse_request,
    render_request=render_request,
    parse_whole=parse_whole,
    render_whole=render_whole,
    make_parser=GenerateParser,
    make_renderer=GenerateRenderer,
)
