"""Tool calls of an answer, whole or in fragments. Source: API reference "The chat completion chunk object"."""

from __future__ import annotations

import attrs

from agenthub.canonical import JSON, ToolCallDelta
from agenthub.dialects import jsontext, typed
from agenthub.dialects.toolcalls import make_call_id


@attrs.define
class OpenCall:
    """A call of which fragments may still come; ``id`` is the upstream's, empty where it gave none."""

    number: int
    id: str
    name: str
    pieces: list[str]

    def is_another(self, call_id: str, name: str) -> bool:
        """Say whether a fragment on this call's index begins a new call, as of servers that call each number 0.

        Others repeat id and name in each fragment, or give each fragment an id of its own: a call goes on until its
        arguments are whole.
        """
        if not name or (call_id == self.id != "" and name == self.name):
            return False
        said = "".join(self.pieces)
        if said:
            return _is_whole(said)
        return name != self.name or (bool(self.id and call_id) and call_id != self.id)


@attrs.define
class CallParser:
    """The calls of one choice, numbered by their first appearance."""

    _open: dict[int, OpenCall] = attrs.field(factory=dict)
    _count: int = 0

    def parse(self, fragment: JSON) -> ToolCallDelta:
        """Return what a fragment brings."""
        theirs, call_id = typed.count(fragment.get("index")), typed.text(fragment.get("id"))
        function = fragment.get("function") or {}
        name, arguments = typed.text(function.get("name")), typed.text(function.get("arguments"))
        known = self._open.get(theirs)
        if known is not None and not known.is_another(call_id, name):
            known.pieces.append(arguments)
            return ToolCallDelta(known.number, arguments=arguments)
        opened = self._open[theirs] = OpenCall(self._count, call_id, name, [arguments])
        self._count += 1
        return ToolCallDelta(opened.number, call_id or make_call_id(), name, arguments)


def parse_whole_call(index: int, call: JSON) -> ToolCallDelta:
    """Return a call of an answer that was not streamed."""
    call_id = typed.text(call.get("id")) or make_call_id()
    if (custom := call.get("custom")) is not None:
        # Of a tool that no other API could be asked for: its input is any text.
        return ToolCallDelta(index, call_id, typed.required(custom["name"]), typed.text(custom.get("input")))
    function = call["function"]
    arguments = typed.text(function.get("arguments")) or "{}"
    return ToolCallDelta(index, call_id, typed.required(function["name"]), arguments)


def _is_whole(text: str) -> bool:
    try:
        jsontext.loads(text.encode("utf-8", "replace"))
    except ValueError:
        return False
    return True
