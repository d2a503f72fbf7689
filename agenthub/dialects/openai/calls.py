"""Tool calls of an answer, whole or in fragments. Source: API reference "The chat completion chunk object"."""

from __future__ import annotations

import re

import attrs

from agenthub.canonical import JSON, ToolCallDelta
from agenthub.dialects import jsontext, typed
from agenthub.dialects.toolcalls import make_call_id

_MARK = re.compile(r'\\.|\\\Z|["{}\[\]]', re.DOTALL)
_SPACE = " \t\n\r"
_LONGEST_BARE = 4096
"""How long a number or a word may be that is parsed again with each piece."""


@attrs.define
class Arguments:
    """The arguments of a call as they come in, a piece at a time; each is looked at once.

    They are JSON once that has no open bracket and no open text: only then is it worth while to parse them, and what is
    none at such a place never becomes JSON.
    """

    pieces: list[str] = attrs.field(factory=list)
    _seen: int = 0
    _depth: int = 0
    _is_in_text: bool = False
    _is_escaped: bool = False
    _is_bare: bool = True
    _size: int = 0
    _is_hopeless: bool = False

    def is_empty(self) -> bool:
        """Say whether nothing has come yet."""
        return not self.pieces

    def add(self, piece: str) -> None:
        """Take in a piece."""
        if piece:
            self.pieces.append(piece)

    def is_whole(self) -> bool:
        """Say whether what has come is JSON."""
        while self._seen < len(self.pieces):
            self._look(self.pieces[self._seen])
            self._seen += 1
        if self._is_hopeless or self._depth or self._is_in_text or not self._size:
            return False
        said = "".join(self.pieces)
        is_whole = _is_json(said)
        # A number or a word of which more may come, but not without end.
        self._is_hopeless = not is_whole and (not self._is_bare or self._size > _LONGEST_BARE)
        return is_whole

    def _look(self, piece: str) -> None:
        self._size += len(piece if self._size else piece.lstrip(_SPACE))
        start, self._is_escaped = int(self._is_escaped), False
        for found in _MARK.finditer(piece, start):
            mark = found[0]
            if self._is_in_text:
                self._is_in_text = mark != '"'
                self._is_escaped = mark == "\\"
            elif mark == '"':
                self._is_in_text, self._is_bare = True, False
            elif mark in "{[":
                self._depth, self._is_bare = self._depth + 1, False
            elif mark in "]}":
                self._depth -= 1
                self._is_hopeless = self._is_hopeless or self._depth < 0


@attrs.define
class OpenCall:
    """A call of which fragments may still come; ``id`` is the upstream's, empty where it gave none."""

    number: int
    id: str
    name: str
    arguments: Arguments = attrs.field(factory=Arguments)

    def is_another(self, call_id: str, name: str) -> bool:
        """Say whether a fragment on this call's index begins a new call, as of servers that call each number 0.

        Others repeat id and name in each fragment, or give each fragment an id of its own: a call goes on until its
        arguments are whole.
        """
        if not name or (call_id == self.id != "" and name == self.name):
            return False
        if not self.arguments.is_empty():
            return self.arguments.is_whole()
        return name != self.name or (bool(self.id and call_id) and call_id != self.id)


@attrs.define
class CallParser:
    """The calls of one choice, numbered by their first appearance."""

    _open: dict[int | str, OpenCall] = attrs.field(factory=dict)
    _count: int = 0

    def parse(self, fragment: JSON) -> ToolCallDelta:
        """Return what a fragment brings."""
        theirs, call_id = _place(fragment.get("index")), typed.label(fragment.get("id"))
        function = fragment.get("function") or {}
        name, arguments = typed.text(function.get("name")), _arguments(function.get("arguments"))
        known = self._open.get(theirs)
        if known is not None and not known.is_another(call_id, name):
            known.arguments.add(arguments)
            return ToolCallDelta(known.number, arguments=arguments)
        opened = self._open[theirs] = OpenCall(self._count, call_id, name)
        opened.arguments.add(arguments)
        self._count += 1
        return ToolCallDelta(opened.number, call_id or make_call_id(), name, arguments)


def parse_whole_call(index: int, call: JSON) -> ToolCallDelta:
    """Return a call of an answer that was not streamed."""
    call_id = typed.label(call.get("id")) or make_call_id()
    if (custom := call.get("custom")) is not None:
        # Of a tool that no other API could be asked for: its input is any text.
        return ToolCallDelta(index, call_id, typed.required(custom["name"]), typed.text(custom.get("input")))
    function = call["function"]
    arguments = _arguments(function.get("arguments")) or "{}"
    return ToolCallDelta(index, call_id, typed.required(function["name"]), arguments)


def _place(value: JSON) -> int | str:
    """Return what tells the fragments of one call from those of another: its index, whatever that looks like."""
    place = typed.count(value)
    return typed.label(value) if place is None else place


def _arguments(value: JSON) -> str:
    """Return the text of arguments or of a piece of them; some servers send the object itself, or a list of nothing."""
    if type(value) is str:
        return value
    return "" if value is None or value == [] else jsontext.dumps(value).decode()


def _is_json(text: str) -> bool:
    try:
        jsontext.loads(text.encode("utf-8", "replace"))
    except ValueError:
        return False
    return True
