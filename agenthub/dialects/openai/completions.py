"""POST /v1/completions, the legacy endpoint. Source: API reference "Create completion"."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping

import attrs

from agenthub.canonical import (
    JSON,
    Answer,
    Batch,
    ChoiceStarted,
    Event,
    Finished,
    GenerateRequest,
    LogprobsDelta,
    Loss,
    Source,
    TextDelta,
)
from agenthub.dialects import answerjson, jsontext, typed
from agenthub.dialects.body import Fields, parse_fields
from agenthub.dialects.groups import dump_body
from agenthub.dialects.ledger import FIELDS, TO_NATIVE, TO_OPENAI
from agenthub.dialects.openai import fields as common
from agenthub.dialects.openai.chat_stream import parse_texts
from agenthub.dialects.openai.choices import ChoiceParser, parse_choices
from agenthub.dialects.openai.logprobs import parse_logprobs, render_legacy_logprobs
from agenthub.errors import InvalidRequest

DIALECT = "openai"
PATH = "/v1/completions"


def parse_request(body: bytes) -> GenerateRequest:
    """Return the canonical request; raises InvalidRequest."""
    fields = parse_fields(body, "CompletionRequest", package="openai", empty="EOF", known=FIELDS)
    shared = common.parse_common(fields)
    prompts, losses = _parse_prompts(fields)
    top = fields.integer("logprobs")
    return GenerateRequest(
        **shared | {"unmapped": (*shared["unmapped"], *losses)},
        prompt=prompts[0],
        more_prompts=prompts[1:],
        suffix=fields.text("suffix"),
        logprobs=top is not None,
        top_logprobs=top or 0,
        extras=fields.rest(),
        source=Source(DIALECT, PATH, body),
    )


def _parse_prompts(fields: Fields) -> tuple[tuple[str, ...], list[Loss]]:
    value = fields.take("prompt")
    if value is None or isinstance(value, str):
        return (value or "",), []
    if not isinstance(value, list):
        fields.refuse("prompt", value, "string")
    if all(isinstance(item, str) for item in value):
        return tuple(value) or ("",), []
    if any(isinstance(item, str) for item in value):
        raise InvalidRequest("prompt must be a string, strings, tokens or lists of tokens", param="prompt")
    loss = TO_NATIVE.loss("generate", "prompt", value)
    return ("tokens",), [loss] if loss is not None else []


def render_request(
    request: GenerateRequest, model: str, flavour: str = "generic", members: Mapping[str, JSON] | None = None
) -> bytes:
    """Return the body for an OpenAI-compatible upstream: for raw prompts and for prompts with a suffix.

    ``members`` stand for what ``render_members`` gives, for a server that refuses some of these.
    """
    prompts = (request.prompt, *request.more_prompts)
    body: dict[str, JSON] = {"model": model, "prompt": list(prompts) if request.more_prompts else request.prompt}
    body |= render_members(request, flavour) if members is None else members
    return dump_body(body, request.size_bytes)


def render_members(request: GenerateRequest, flavour: str = "generic") -> dict[str, JSON]:
    """Return all of the body but the model and the prompt."""
    body = common.render_options(request, flavour) | common.render_stream_options(request)
    body |= TO_OPENAI.extras(request, flavour)
    if request.choices != 1:
        body["n"] = request.choices
    if request.suffix:
        body["suffix"] = request.suffix
    if request.logprobs:
        body["logprobs"] = request.top_logprobs
    return body


def _parse_choice(choice: JSON, events: list[Event]) -> None:
    text = choice.get("text")
    if text is None and (message := choice.get("message") or choice.get("delta")):
        parse_texts(message, events)  # of servers with one shape for both endpoints
    elif said := typed.text(text):
        events.append(TextDelta(said))
    events += parse_logprobs(choice.get("logprobs"))


def parse_whole(body: bytes) -> list[Event]:
    """Return the events of an answer that was not streamed."""
    return parse_choices(answerjson.loads(body), _parse_choice)


class CompletionParser(ChoiceParser):
    """Chunks of a stream."""

    def parse_choice(self, choice: JSON, events: list[Event]) -> None:
        _parse_choice(choice, events)


def _shared(request: GenerateRequest) -> dict[str, JSON]:
    return {
        "id": f"cmpl-{random.getrandbits(128):032x}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": request.model,
        "system_fingerprint": common.FINGERPRINT,
    }


def render_whole(request: GenerateRequest, answer: Answer) -> bytes:
    """Return the answer to a request that was not streamed."""
    choices = [_render_choice(index, one) for index, one in enumerate((answer, *answer.more))]
    usage = common.render_usage(answer.finished.usage if answer.finished else None)
    return jsontext.dumps(_shared(request) | {"choices": choices, "usage": usage})


def _render_choice(index: int, answer: Answer) -> dict[str, JSON]:
    return {
        "text": answer.text,
        "index": index,
        "logprobs": render_legacy_logprobs(answer.logprobs, 0) if answer.logprobs else None,
        "finish_reason": common.render_reason((answer.finished or Finished()).reason, False),
    }


@attrs.define
class CompletionRenderer:
    """Chunks of a stream. What a model thinks aloud has no place in this endpoint and is left out."""

    request: GenerateRequest
    _head: bytes = attrs.field(init=False)
    _tail: bytes = attrs.field(init=False)
    _offset: int = 0
    _index: int = 0

    def __attrs_post_init__(self) -> None:
        self._head = b"data: " + jsontext.dumps(_shared(self.request))[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if self.request.include_usage else b"]}\n\n"

    def render(self, batch: Batch) -> bytes:
        frames: list[bytes] = []
        for event in batch:
            match event:
                case TextDelta():
                    frames.append(self._chunk(jsontext.dump_text(event.text)))
                case LogprobsDelta():
                    rendered = render_legacy_logprobs(event.items, self._offset)
                    self._offset += sum(len(token) for token in rendered["tokens"])
                    frames.append(self._chunk(b'""', logprobs=jsontext.dumps(rendered)))
                case ChoiceStarted():
                    self._index, self._offset = event.index, 0
                case Finished():
                    frames += self._finish(event)
                case _:
                    pass
        return b"".join(frames)

    def _chunk(self, text: bytes, logprobs: bytes = b"null", reason: bytes = b"null") -> bytes:
        shape = b'%s{"text":%s,"index":%d,"logprobs":%s,"finish_reason":%s}%s'
        return shape % (self._head, text, self._index, logprobs, reason, self._tail)

    def _finish(self, finished: Finished) -> list[bytes]:
        frames = []
        for self._index, reason in enumerate((finished.reason, *finished.more_reasons)):
            frames.append(self._chunk(b'""', reason=b'"' + common.render_reason(reason, False).encode() + b'"'))
        if self.request.include_usage:
            usage = jsontext.dumps(common.render_usage(finished.usage))
            frames.append(self._head + b'],"usage":' + usage + b"}\n\n")
        return [*frames, common.DONE]


CODEC = common.make_codec(
    path=PATH,
    parse_request=parse_request,
    render_request=render_request,
    parse_whole=parse_whole,
    render_whole=render_whole,
    make_parser=CompletionParser,
    make_renderer=CompletionRenderer,
)
