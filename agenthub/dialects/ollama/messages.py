"""Ollama's message object, in the history and in answers. Source: docs/api.md "Generate a chat completion"."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from agenthub.canonical import JSON, Message, ToolCall
from agenthub.dialects import jsontext
from agenthub.dialects.body import Fields, kind
from agenthub.dialects.groups import MANY, grouped
from agenthub.dialects.ledger import Noted
from agenthub.errors import InvalidRequest, UnreadableAnswer

NO_ARGUMENTS = "{}"
_NOTHING = frozenset({"", "null", "[]"})
_ROLES = {role: role for role in ("system", "user", "assistant", "tool")}
"""One text for all messages of a role: a long history has many."""


def parse_message(value: JSON, noted: Noted) -> Message:
    """Return one message that is more than ``parse_plain`` takes; raises InvalidRequest in Go's words."""
    if not isinstance(value, dict):
        raise InvalidRequest(
            f"json: cannot unmarshal {kind(value)} into Go struct field ChatRequest.messages of type api.Message",
            param="messages",
        )
    fields = Fields("ChatRequest.messages", {key.lower(): item for key, item in value.items()})
    role, tool_name = fields.text("role").lower(), fields.text("tool_name")
    if role == "tool" and not tool_name and isinstance(fields.values.get("name"), str):
        # Ollama's own word is younger than many clients.
        tool_name = fields.text("name")
    message = Message(
        role=role,
        content=fields.text("content"),
        images=fields.strings("images"),
        reasoning=fields.text("thinking"),
        tool_calls=tuple(
            [parse_tool_call(call, noted, parse_arguments) for call in fields.array("tool_calls", "api.ToolCall")]
        ),
        tool_call_id=fields.text("tool_call_id"),
        tool_name=tool_name,
    )
    noted.note_members("messages", fields.values)
    return message


def parse_plain(value: JSON) -> Message | None:
    """Return a message that is nothing but a role and a text, as nearly all are; None for any other."""
    if type(value) is dict and len(value) == 2:
        role, content = value.get("role"), value.get("content")
        if type(role) is str and type(content) is str:
            return Message(_ROLES.get(role) or role.lower(), content)
    return None


def parse_tool_call(value: JSON, noted: Noted, arguments_of: Callable[[JSON], str]) -> ToolCall:
    """Return a call of the history; ``arguments_of`` returns the JSON text of its arguments."""
    value = {key.lower(): item for key, item in value.items()} if isinstance(value, dict) else {}
    function = value.get("function")
    if not isinstance(function, dict):
        raise InvalidRequest("invalid tool call: an object with a function is expected", param="messages.tool_calls")
    function = {key.lower(): item for key, item in function.items()}
    noted.note_members("messages.tool_calls", value, "id", "type", "index", "function")
    noted.note_members("messages.tool_calls.function", function, "index", "name", "arguments")
    return ToolCall(
        id=str(value.get("id") or ""),
        name=str(function.get("name") or ""),
        arguments=arguments_of(function.get("arguments")),
    )


def parse_arguments(value: JSON) -> str:
    """Return the JSON text of a call's arguments, an object or its text; raises InvalidRequest for anything else."""
    text = read_arguments(value)
    if not isinstance(value, Mapping):
        _check_arguments(text)
    return text


def _check_arguments(text: str) -> None:
    if text != NO_ARGUMENTS and not _is_object(text):
        raise InvalidRequest("invalid tool call arguments", param="messages.tool_calls")


def read_arguments(value: JSON) -> str:
    """Return the JSON text of a call's arguments, given as an object or as its text, be it an object's or not.

    null, an empty text and an empty list are what languages with one word for nothing say for no arguments.
    """
    if isinstance(value, str):
        return value if value.strip() not in _NOTHING else NO_ARGUMENTS
    if isinstance(value, Mapping):
        is_long = any(type(item) in (list, dict) and len(item) > MANY for item in value.values())
        return jsontext.dumps(grouped(value) if is_long else value).decode()
    return NO_ARGUMENTS if value is None or value == [] else jsontext.dumps(value).decode()


def _is_object(text: str) -> bool:
    try:
        return isinstance(jsontext.loads(text.encode()), dict)
    except ValueError:
        return False


def render_message(message: Message) -> dict[str, JSON]:
    """Return the object that /api/chat takes; raises InvalidRequest for a call with arguments that are no object."""
    rendered: dict[str, JSON] = {"role": message.role, "content": message.content}
    if message.reasoning:
        rendered["thinking"] = message.reasoning
    if message.images:
        rendered["images"] = list(message.images)
    if message.tool_calls:
        for call in message.tool_calls:
            _check_arguments(call.arguments)  # in OpenAI's dialect they may be any text
        rendered["tool_calls"] = [render_tool_call(call) for call in message.tool_calls]
    if message.tool_name:
        rendered["tool_name"] = message.tool_name
    if message.tool_call_id:
        rendered["tool_call_id"] = message.tool_call_id
    return rendered


def render_tool_call(call: ToolCall, index: int | None = None) -> dict[str, JSON]:
    """Return a call; ``index`` is its place in an answer, absent in the history."""
    function: dict[str, JSON] = {} if index is None else {"index": index}
    function |= {"name": call.name, "arguments": jsontext.fragment(call.arguments)}
    return ({"id": call.id} if call.id else {}) | {"function": function}


def render_answer_calls(calls: Sequence[ToolCall], reason: str) -> list[dict[str, JSON]]:
    """Return the calls of an answer, without a last one that was cut by its length.

    Raises UnreadableAnswer for arguments that are no JSON object: in this dialect they stand in the answer as they are.
    """
    if reason == "length" and calls and not _is_object(calls[-1].arguments):
        calls = calls[:-1]
    return [_render_answer_call(call, index) for index, call in enumerate(calls)]


def _render_answer_call(call: ToolCall, index: int) -> dict[str, JSON]:
    call = attrs.evolve(call, arguments=read_arguments(call.arguments))
    if not _is_object(call.arguments):
        raise UnreadableAnswer(f"the upstream called {call.name} with arguments that are no JSON object")
    # Line breaks are only possible between the parts of JSON, where they would break the line-based stream.
    on_one_line = call.arguments.replace("\r", " ").replace("\n", " ")
    return render_tool_call(attrs.evolve(call, arguments=on_one_line), index)
