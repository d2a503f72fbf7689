"""POST /v1/chat/completions, requests and whole answers. Source: API reference "Create chat completion"."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from itertools import count

from agenthub.canonical import (
    JSON,
    Answer,
    ChatRequest,
    Event,
    Finished,
    Loss,
    Source,
)
from agenthub.dialects import answerjson, jsontext, typed
from agenthub.dialects.body import Fields, parse_fields
from agenthub.dialects.groups import dump_body
from agenthub.dialects.ledger import FIELDS, TO_OPENAI, Noted
from agenthub.dialects.openai import fields as common
from agenthub.dialects.openai.calls import parse_whole_call
from agenthub.dialects.openai.chat_stream import ChatParser, ChatRenderer, message_of, parse_texts
from agenthub.dialects.openai.choices import parse_choices
from agenthub.dialects.openai.logprobs import parse_logprobs, render_logprobs
from agenthub.dialects.openai.messages import MessageParser, render_messages, render_tool_call
from agenthub.dialects.openai.tools import parse_tools, render_tools
from agenthub.dialects.tool_results import with_names
from agenthub.dialects.toolcalls import read_calls
from agenthub.errors import InvalidRequest

DIALECT = "openai"
PATH = "/v1/chat/completions"


def parse_request(body: bytes) -> ChatRequest:
    """Return the canonical request; raises InvalidRequest."""
    fields = parse_fields(body, "ChatCompletionRequest", package="openai", empty="EOF", known=FIELDS)
    is_usual = fields.values.keys() <= common.USUAL
    shared = common.parse_usual(fields) if is_usual else common.parse_common(fields)
    parser = MessageParser()
    messages = with_names([parser.parse(value) for value in fields.stream("messages", "openai.Message")])
    if not messages:
        raise InvalidRequest("[] is too short - 'messages'", param="messages")
    losses = parser.noted.losses
    losses[:0] = shared.pop("unmapped")
    if not fields.values:
        return ChatRequest(**shared, messages=messages, unmapped=tuple(losses), source=Source(DIALECT, PATH, body))
    think, wanted = parse_reasoning(fields, losses), _parse_response_format(fields, parser.noted)
    shared |= {} if think is None else {"think": think}
    shared |= {} if wanted is None else {"format": wanted}
    return ChatRequest(
        **shared,
        **parse_tools(fields, losses),
        messages=messages,
        logprobs=fields.flag("logprobs"),
        top_logprobs=fields.integer("top_logprobs") or 0,
        extras=fields.rest(),
        unmapped=tuple(losses),
        source=Source(DIALECT, PATH, body),
    )


def parse_reasoning(fields: Fields, losses: list[Loss]) -> bool | str | None:
    """Take ``reasoning_effort`` and OpenRouter's ``reasoning`` object, whose effort wins."""
    effort, reasoning = fields.take("reasoning_effort"), dict(fields.object("reasoning"))
    nested = reasoning.pop("effort", None)
    effort = effort if nested is None else nested
    losses += [Loss(f"reasoning.{name}") for name, value in reasoning.items() if value is not None]
    return common.parse_effort(effort)


def _parse_response_format(fields: Fields, noted: Noted) -> JSON:
    wanted = fields.object("response_format")
    noted.note_members("response_format", wanted, "type", "json_schema")
    match wanted.get("type"):
        case "json_object":
            return "json"
        case "json_schema":
            schema = wanted.get("json_schema")
            if not isinstance(schema, dict) or not isinstance(schema.get("schema"), dict):
                raise InvalidRequest("response_format.json_schema.schema is required", param="response_format")
            noted.note_members("response_format.json_schema", schema, "name", "schema")
            return schema["schema"]
        case "text" | None:
            return None
    noted.note("response_format.type", wanted["type"])
    return None


def render_request(
    request: ChatRequest, model: str, flavour: str = "generic", members: Mapping[str, JSON] | None = None
) -> bytes:
    """Return the body for an OpenAI-compatible upstream; raises RequestError for a history that it cannot take.

    ``members`` stand for what ``render_members`` gives, for a server that refuses some of these.
    """
    body: dict[str, JSON] = {"model": model, "messages": render_messages(request.messages, flavour)}
    body |= render_members(request, flavour) if members is None else members
    return dump_body(body, request.size_bytes)


def render_members(request: ChatRequest, flavour: str = "generic") -> dict[str, JSON]:
    """Return all of the body but the model and the messages."""
    body = common.render_options(request, flavour) | common.render_stream_options(request)
    body |= TO_OPENAI.extras(request, flavour)
    body |= render_tools(request)
    if request.choices != 1:
        body["n"] = request.choices
    if request.format == "json":
        body["response_format"] = {"type": "json_object"}
    elif request.format is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "schema", "schema": request.format}}
    if request.think is not None:
        body |= _render_think(request.think, flavour)
    if request.logprobs:
        body |= {"logprobs": True} | ({"top_logprobs": request.top_logprobs} if request.top_logprobs else {})
    return body


def _render_think(think: bool | str, flavour: str) -> dict[str, JSON]:
    home = TO_OPENAI.home("chat", "think", think, flavour)
    table, dot, name = home.partition(".")
    if dot:
        return {table: {name: think}}
    return {home: think or "none"} if home else {}


def parse_whole(body: bytes) -> list[Event]:
    """Return the events of an answer that was not streamed."""
    return parse_choices(answerjson.loads(body), _parse_choice)


def _parse_choice(choice: JSON, events: list[Event]) -> None:
    message, own = message_of(choice), list[Event]()
    parse_texts(message, own)
    calls = typed.entries(message.get("tool_calls"))
    if not calls and message.get("function_call"):
        calls = [{"function": message["function_call"]}]
    numbers = count()
    read_calls(calls, lambda call: parse_whole_call(next(numbers), call), own)
    events += own
    events += parse_logprobs(choice.get("logprobs"))


def render_whole(request: ChatRequest, answer: Answer) -> bytes:
    """Return the answer to a request that was not streamed."""
    choices = [_render_choice(request, index, one) for index, one in enumerate((answer, *answer.more))]
    body = {
        "id": f"chatcmpl-{random.getrandbits(128):032x}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "system_fingerprint": common.FINGERPRINT,
        "choices": choices,
        "usage": common.render_usage(answer.finished.usage if answer.finished else None),
    }
    return jsontext.dumps(body | common.render_sidecar(request, answer.finished or Finished()))


def _render_choice(request: ChatRequest, index: int, answer: Answer) -> dict[str, JSON]:
    called, text = bool(answer.tool_calls), answer.plain if answer.refusal else answer.text
    message: dict[str, JSON] = {
        "role": "assistant",
        "content": None if (called or answer.refusal) and not text else text,
        "refusal": answer.refusal or None,
    }
    if answer.reasoning:
        # Clients read one spelling or the other.
        message |= {"reasoning": answer.reasoning, "reasoning_content": answer.reasoning}
    if called and request.functions:
        message["function_call"] = render_tool_call(answer.tool_calls[0])["function"]
    elif called:
        message["tool_calls"] = [render_tool_call(call) for call in answer.tool_calls]
    if answer.finished is not None and (annotations := answer.finished.aside.get("annotations")):
        message["annotations"] = annotations
    reason = (answer.finished or Finished()).reason
    return {
        "index": index,
        "message": message,
        "logprobs": render_logprobs(answer.logprobs) if answer.logprobs else None,
        "finish_reason": common.render_reason(reason, called, request.functions),
    }


CODEC = common.make_codec(
    path=PATH,
    parse_request=parse_request,
    render_request=render_request,
    parse_whole=parse_whole,
    render_whole=render_whole,
    make_parser=ChatParser,
    make_renderer=ChatRenderer,
)
