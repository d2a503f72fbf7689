"""POST /v1/chat/completions, requests and whole answers. Source: API reference "Create chat completion"."""

from __future__ import annotations

import time
import uuid

from agenthub.canonical import (
    JSON,
    Answer,
    ChatRequest,
    Event,
    Finished,
    Loss,
    ReasoningDelta,
    Source,
    TextDelta,
    ToolCallDelta,
)
from agenthub.dialects import jsontext, typed
from agenthub.dialects.body import Fields, parse_fields
from agenthub.dialects.openai import fields as common
from agenthub.dialects.openai.chat_stream import ChatParser, ChatRenderer, parse_logprobs, render_logprobs
from agenthub.dialects.openai.messages import MessageParser, MessageRenderer, render_tool_call
from agenthub.dialects.toolcalls import make_call_id
from agenthub.errors import InvalidRequest

DIALECT = "openai"
PATH = "/v1/chat/completions"


def parse_request(body: bytes) -> ChatRequest:
    """Return the canonical request; raises InvalidRequest."""
    fields = parse_fields(body, "ChatCompletionRequest", package="openai", empty="EOF")
    shared = common.parse_common(fields)
    values = fields.array("messages", "openai.Message")
    if not values:
        raise InvalidRequest("[] is too short - 'messages'", param="messages")
    parser = MessageParser()
    messages = tuple(parser.parse(value) for value in values)
    effort = fields.object("reasoning").get("effort") or fields.values.get("reasoning_effort")
    fields.take("reasoning_effort")
    if (think := common.parse_effort(effort)) is not None:
        shared["think"] = think
    if (wanted := _parse_response_format(fields)) is not None:
        shared["format"] = wanted
    tools, losses = _parse_tools(fields)
    return ChatRequest(
        **shared,
        messages=messages,
        tools=tools,
        tool_choice=fields.take("tool_choice"),
        logprobs=fields.flag("logprobs"),
        top_logprobs=fields.integer("top_logprobs") or 0,
        extras=fields.rest(),
        unmapped=(*parser.losses, *losses),
        source=Source(DIALECT, PATH, body),
    )


def _parse_response_format(fields: Fields) -> JSON:
    wanted = fields.object("response_format")
    match wanted.get("type"):
        case "json_object":
            return "json"
        case "json_schema":
            schema = wanted.get("json_schema")
            if not isinstance(schema, dict) or not isinstance(schema.get("schema"), dict):
                raise InvalidRequest("response_format.json_schema.schema is required", param="response_format")
            return schema["schema"]
    return None


def _parse_tools(fields: Fields) -> tuple[tuple[JSON, ...], list[Loss]]:
    tools = fields.objects("tools", "api.Tool")
    custom = any(tool.get("type", "function") != "function" for tool in tools)
    return tools, [Loss("tools.custom", rejected=True)] if custom else []


def render_request(request: ChatRequest, model: str) -> bytes:
    """Return the body for an OpenAI-compatible upstream; raises RequestError for a history that it cannot take."""
    renderer = MessageRenderer()
    body: dict[str, JSON] = {"model": model, "messages": [renderer.render(message) for message in request.messages]}
    body |= common.render_options(request) | common.render_stream_options(request)
    if request.tools:
        body["tools"] = [{"type": "function", **tool} for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = request.tool_choice
    if request.format == "json":
        body["response_format"] = {"type": "json_object"}
    elif request.format is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "schema", "schema": request.format}}
    if request.think is not None and request.think is not True:
        body["reasoning_effort"] = request.think or "none"
    if request.logprobs:
        body |= {"logprobs": True} | ({"top_logprobs": request.top_logprobs} if request.top_logprobs else {})
    return jsontext.dumps(body)


def parse_whole(body: bytes) -> list[Event]:
    """Return the events of an answer that was not streamed; only the first choice counts."""
    answer = jsontext.loads(body)
    common.raise_error(answer)
    choice = answer["choices"][0]
    message = choice["message"]
    events: list[Event] = []
    if reasoning := message.get("reasoning") or message.get("reasoning_content"):
        events.append(ReasoningDelta(typed.text(reasoning)))
    if text := message.get("content") or message.get("refusal"):
        events.append(TextDelta(typed.text(text)))
    events += [_parse_call(index, call) for index, call in enumerate(typed.items(message.get("tool_calls")))]
    events += parse_logprobs(choice.get("logprobs") or {})
    reason = common.parse_reason(typed.text(choice.get("finish_reason")) or "stop")
    return [*events, Finished(reason, common.parse_usage(answer.get("usage")))]


def _parse_call(index: int, call: JSON) -> ToolCallDelta:
    function, call_id = call["function"], typed.text(call.get("id")) or make_call_id()
    return ToolCallDelta(
        index, call_id, typed.required(function["name"]), typed.text(function.get("arguments")) or "{}"
    )


def render_whole(request: ChatRequest, answer: Answer) -> bytes:
    """Return the answer to a request that was not streamed."""
    finished = answer.finished or Finished()
    called = bool(answer.tool_calls)
    message: dict[str, JSON] = {
        "role": "assistant",
        "content": None if called and not answer.text else answer.text,
        "refusal": None,
    }
    if answer.reasoning:
        # Clients read one spelling or the other.
        message |= {"reasoning": answer.reasoning, "reasoning_content": answer.reasoning}
    if called:
        message["tool_calls"] = [render_tool_call(call) for call in answer.tool_calls]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": render_logprobs(answer.logprobs) if answer.logprobs else None,
        "finish_reason": common.render_reason(finished.reason, called),
    }
    body = {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "system_fingerprint": common.FINGERPRINT,
        "choices": [choice],
        "usage": common.render_usage(finished.usage),
    }
    return jsontext.dumps(body)


CODEC = common.make_codec(
    path=PATH,
    parse_request=parse_request,
    render_request=render_request,
    parse_whole=parse_whole,
    render_whole=render_whole,
    make_parser=ChatParser,
    make_renderer=ChatRenderer,
)
