"""OpenAI's message objects: the history of chat completions. Source: API reference "Create chat completion"."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import attrs

from agenthub.canonical import JSON, Loss, Message, ToolCall
from agenthub.dialects.body import Fields
from agenthub.dialects.ledger import TO_NATIVE, TO_OPENAI
from agenthub.dialects.ollama.messages import parse_plain, parse_tool_call
from agenthub.errors import InvalidRequest, Unsupported

_PLAIN_ROLES = frozenset({"system", "user", "assistant"})
_ROLES = {"developer": "system", "function": "tool"}
_MAGIC = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"GIF8", "image/gif"))


@attrs.define
class MessageParser:
    """Parses a history in order: a tool's answer needs to know whose call it answers.

    ``losses`` are what the canonical messages have no place for, each once.
    """

    losses: list[Loss] = attrs.field(factory=list)
    _names: dict[str, str] = attrs.field(factory=dict)

    def parse(self, value: JSON) -> Message:
        plain = parse_plain(value)
        if plain is not None and plain.role in _PLAIN_ROLES:
            return plain
        if not isinstance(value, dict):
            raise InvalidRequest("invalid message format", param="messages")
        fields = Fields("ChatCompletionRequest.messages", dict(value))
        role = fields.text("role")
        content, images = self._content(fields.take("content"))
        calls = tuple(parse_tool_call(call) for call in _calls(fields))
        self._names |= {call.id: call.name for call in calls if call.id}
        call_id, name = fields.text("tool_call_id"), fields.text("name")
        answers = _ROLES.get(role, role) == "tool"
        if name and not answers:
            self._lose("messages.name", name)
        message = Message(
            role=_ROLES.get(role, role),
            content=content or fields.text("refusal"),
            images=images,
            reasoning=_reasoning(fields),
            tool_calls=calls,
            tool_call_id=call_id,
            tool_name=(name or self._names.get(call_id, "")) if answers else "",
        )
        for unknown in filter(fields.values.get, fields.values):
            self._lose(f"messages.{unknown}", fields.values[unknown])
        return message

    def _lose(self, field: str, value: JSON) -> None:
        loss = TO_NATIVE.loss("chat", field, value)
        if loss is not None and loss not in self.losses:
            self.losses.append(loss)

    def _content(self, value: JSON) -> tuple[str, tuple[str, ...]]:
        if value is None or isinstance(value, str):
            return value or "", ()
        if not isinstance(value, list):
            raise InvalidRequest("invalid message format", param="messages.content")
        texts: list[str] = []
        images: list[str] = []
        for part in value:
            if not isinstance(part, dict):
                raise InvalidRequest("invalid message format", param="messages.content")
            self._part(part, texts, images)
        return "\n".join(texts), tuple(images)

    def _part(self, part: dict[str, JSON], texts: list[str], images: list[str]) -> None:
        match part.get("type"):
            case "text" | "refusal" as kind:
                texts.append(Fields("messages.content", dict(part)).text(kind))
            case "image_url":
                self._image(part.get("image_url"), images)
            case "input_audio" if isinstance(part.get("input_audio"), dict):
                images.append(str(part["input_audio"].get("data", "")))
            case other:
                loss = Loss(f"messages.content.{other}", rejected=True)
                self.losses += [] if loss in self.losses else [loss]

    def _image(self, value: JSON, images: list[str]) -> None:
        url = value.get("url") if isinstance(value, dict) else value
        if not isinstance(url, str):
            raise InvalidRequest("invalid image input", param="messages.content.image_url")
        self._lose("messages.content.image_url", url)
        if url.startswith(("http://", "https://")):
            return
        if isinstance(value, dict) and (detail := value.get("detail")) is not None:
            self._lose("messages.content.image_url.detail", detail)
        data = url.partition(",")[2] if url.startswith("data:") else url
        # Go's decoder insists on the padding that browsers leave out.
        images.append(data + "=" * (-len(data) % 4))


def _calls(fields: Fields) -> list[JSON]:
    calls, old = fields.array("tool_calls", "openai.ToolCall"), fields.take("function_call")
    return calls if old is None else [*calls, {"function": old}]


def _reasoning(fields: Fields) -> str:
    spellings = fields.take("reasoning"), fields.take("reasoning_content"), fields.take("reasoning_details")
    for spelled in spellings:
        if isinstance(spelled, str) and spelled:
            return spelled
        if isinstance(spelled, list):
            return "".join([str(detail.get("text") or "") for detail in spelled if isinstance(detail, dict)])
    return ""


def render_messages(messages: Sequence[Message], flavour: str) -> list[JSON]:
    """Return the history for an upstream of that flavour; raises RequestError for one that it cannot take.

    An image in a tool's message, where this API has no place for one, follows in a message of the user's.
    """
    renderer, rendered, shown = MessageRenderer(_thinking(flavour)), list[JSON](), list[str]()
    for message in messages:
        if shown and message.role != "tool":
            rendered.append({"role": "user", "content": [_media(data) for data in shown]})
            shown.clear()
        if message.images and message.role == "tool":
            shown += message.images
            message = attrs.evolve(message, images=())
        rendered.append(renderer.render(message))
    return [*rendered, {"role": "user", "content": [_media(data) for data in shown]}] if shown else rendered


@lru_cache
def _thinking(flavour: str) -> str:
    return TO_OPENAI.home("chat", "messages.thinking", True, flavour).removeprefix("messages.")


@attrs.define
class MessageRenderer:
    """Renders a history in order; calls without an id, as native clients leave them, get one for their answers.

    ``thinking`` is the upstream's field for what the model thought aloud, empty where it takes none.
    """

    thinking: str = "reasoning"
    _unanswered: list[ToolCall] = attrs.field(factory=list)
    _given: int = 0

    def render(self, message: Message) -> dict[str, JSON]:
        rendered: dict[str, JSON] = {"role": message.role, "content": self._content(message)}
        if message.reasoning and self.thinking:
            rendered[self.thinking] = message.reasoning
        if message.tool_calls:
            self._unanswered = [self._with_id(call) for call in message.tool_calls]
            rendered["tool_calls"] = [render_tool_call(call) for call in self._unanswered]
        if message.role == "tool":
            rendered["tool_call_id"] = self._answered(message)
        return rendered

    def _content(self, message: Message) -> JSON:
        if message.images:
            parts: list[JSON] = [{"type": "text", "text": message.content}] if message.content else []
            return parts + [_media(data) for data in message.images]
        return None if message.tool_calls and not message.content else message.content

    def _with_id(self, call: ToolCall) -> ToolCall:
        self._given += 1
        return call if call.id else attrs.evolve(call, id=f"call_{self._given:08d}")

    def _answered(self, message: Message) -> str:
        if message.tool_call_id:
            return message.tool_call_id
        named = [call for call in self._unanswered if call.name == message.tool_name]
        call = next(iter(named or self._unanswered), None)
        if call is None:
            raise Unsupported("a tool message answers no call of the assistant", param="messages.tool_call_id")
        self._unanswered.remove(call)
        return call.id


def render_tool_call(call: ToolCall) -> dict[str, Any]:
    """Return a whole call, as in the history and in an answer."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _media(data: str) -> dict[str, JSON]:
    # The first bytes tell what it is; 16 characters of base64 are 12 of them.
    try:
        head = base64.b64decode(data[:16], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("illegal base64 data", param="messages.images") from None
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        kind = "image/webp"
    else:
        kind = next((kind for magic, kind in _MAGIC if head.startswith(magic)), "image/jpeg")
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
