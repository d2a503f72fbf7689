"""OpenAI's message objects: the history of chat completions. Source: API reference "Create chat completion"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Self

import attrs

from agenthub.canonical import JSON, Loss, Message, ToolCall
from agenthub.dialects.body import Fields
from agenthub.dialects.groups import MANY, listed
from agenthub.dialects.ledger import TO_NATIVE, TO_OPENAI, Noted
from agenthub.dialects.ollama.messages import parse_plain, parse_tool_call, read_arguments
from agenthub.dialects.openai.parts import PartParser, render_media
from agenthub.dialects.tool_results import Place, in_one_message, make_ids, pair_results
from agenthub.errors import InvalidRequest, Unsupported

_PLAIN_ROLES = frozenset({"system", "user", "assistant"})
_ROLES = {"developer": "system", "function": "tool"}


@attrs.define
class MessageParser:
    """Parses the messages of a history, and notes what no other API could be told."""

    noted: Noted = attrs.field(factory=lambda: Noted(TO_NATIVE))

    def parse(self, value: JSON) -> Message:
        plain = parse_plain(value)
        if plain is not None and plain.role in _PLAIN_ROLES:
            return plain
        if not isinstance(value, dict):
            raise InvalidRequest("invalid message format", param="messages")
        fields = Fields("ChatCompletionRequest.messages", {key.lower(): item for key, item in value.items()})
        role = fields.text("role").lower()
        content, images, images_first = self._content(fields.take("content"))
        calls = tuple([parse_tool_call(call, self.noted, read_arguments) for call in _calls(fields)])
        call_id, name = fields.text("tool_call_id"), fields.text("name")
        answers = _ROLES.get(role, role) == "tool"
        if name and not answers:
            self.noted.note("messages.name", name)
        message = Message(
            role=_ROLES.get(role, role),
            content="\n".join(filter(None, (content, fields.text("refusal")))),
            images=images,
            reasoning=self._reasoning(fields),
            tool_calls=calls,
            tool_call_id=call_id,
            tool_name=name if answers else "",
            images_first=images_first,
        )
        self.noted.note_members("messages", fields.values)
        return message

    def _content(self, value: JSON) -> tuple[str, tuple[str, ...], bool]:
        if value is None or isinstance(value, str):
            return value or "", (), False
        if not isinstance(value, list):
            raise InvalidRequest("invalid message format", param="messages.content")
        parts = PartParser(self.noted)
        for part in value:
            parts.parse(part)
        return "\n".join(parts.texts), tuple(parts.images), parts.images_first

    def _reasoning(self, fields: Fields) -> str:
        """Take the spellings of what was thought: the first that says something counts, another text is noted."""
        said = ""
        for name in ("reasoning", "reasoning_content", "reasoning_details"):
            value = fields.take(name)
            text = _detailed(value) if isinstance(value, list) else value
            said = said or (text if isinstance(text, str) else "")
            # Details may hold what only their own server can read, such as a signature.
            if value and (text != said or not text):
                self.noted.add(Loss(f"messages.{name}"))
        return said


def _calls(fields: Fields) -> list[JSON]:
    calls, old = fields.array("tool_calls", "openai.ToolCall"), fields.take("function_call")
    return calls if old is None else [*calls, {"function": old}]


def _detailed(details: list[JSON]) -> str:
    return "".join([str(detail.get("text") or "") for detail in details if isinstance(detail, dict)])


def render_messages(messages: Sequence[Message], flavour: str) -> JSON:
    """Return the history for an upstream of that flavour; raises RequestError for one that it cannot take.

    An image in a tool's message, where this API has no place for one, follows in a message of the user's.
    """
    messages = in_one_message(messages) if flavour == "openai" else messages
    rendered = _rendered(messages, flavour)
    return list(rendered) if len(messages) <= MANY else listed(rendered)


def _rendered(messages: Sequence[Message], flavour: str) -> Iterator[JSON]:
    renderer, shown = MessageRenderer.of(messages, _thinking(flavour)), list[str]()
    for number, message in enumerate(messages):
        if shown and message.role != "tool":
            yield {"role": "user", "content": [render_media(data) for data in shown]}
            shown.clear()
        if message.images and message.role == "tool":
            shown += message.images
            message = attrs.evolve(message, images=())
        yield renderer.render(number, message)
    if shown:
        yield {"role": "user", "content": [render_media(data) for data in shown]}


@lru_cache
def _thinking(flavour: str) -> str:
    return TO_OPENAI.home("chat", "messages.thinking", True, flavour).removeprefix("messages.")


@attrs.frozen
class MessageRenderer:
    """Renders the messages of a history; calls without an id, as native clients leave them, get one for their results.

    ``thinking`` is the upstream's field for what the model thought aloud, empty where it takes none. ``pairs`` are the
    calls that tool messages answer, ``ids`` the calls' ids.
    """

    thinking: str = "reasoning"
    pairs: Mapping[int, Place] = attrs.field(factory=dict)
    ids: Mapping[Place, str] = attrs.field(factory=dict)

    @classmethod
    def of(cls, messages: Sequence[Message], thinking: str) -> Self:
        """Return the renderer of a history."""
        pairs = pair_results(messages)
        return cls(thinking, pairs, make_ids(messages, pairs))

    def render(self, number: int, message: Message) -> dict[str, JSON]:
        """Return the message with that number in the history; raises Unsupported for a result of no call."""
        rendered: dict[str, JSON] = {"role": message.role, "content": self._content(message)}
        if message.reasoning and self.thinking:
            rendered[self.thinking] = message.reasoning
        if message.tool_calls:
            calls = [attrs.evolve(call, id=self.ids[number, i]) for i, call in enumerate(message.tool_calls)]
            rendered["tool_calls"] = [render_tool_call(call) for call in calls]
        if message.role == "tool":
            rendered["tool_call_id"] = self._answered(number, message)
        return rendered

    def _content(self, message: Message) -> JSON:
        if message.images:
            parts: list[JSON] = [{"type": "text", "text": message.content}] if message.content else []
            return parts + [render_media(data) for data in message.images]
        return None if message.tool_calls and not message.content else message.content

    def _answered(self, number: int, message: Message) -> str:
        if (place := self.pairs.get(number)) is not None:
            return self.ids[place]
        if message.tool_call_id:
            # The server may know of a call that the history does not show, or says what is wrong.
            return message.tool_call_id
        text = f"messages[{number}]: a tool message answers no call of the assistant that stands before it"
        raise Unsupported(text, param="messages.tool_call_id")


def render_tool_call(call: ToolCall) -> dict[str, Any]:
    """Return a whole call, as in the history and in an answer."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
