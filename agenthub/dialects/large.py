"""Large bodies: the members of a JSON object of many megabytes, parsed in pieces, without what nobody reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import attrs
import orjson

from agenthub.canonical import JSON
from agenthub.dialects import jsontext, pieces, scan, sizes
from agenthub.dialects.ends import NESTED
from agenthub.dialects.jsontext import Passage
from agenthub.errors import InvalidRequest

STREAMED = frozenset({"messages"})
"""Members that are read once, item by item."""
UNREAD = frozenset({"metadata", "prediction", "logit_bias", "moderation", "audio", "web_search_options"})
"""Members of which only counts here that there is something in them."""
_MOST_UNKNOWN = 1024
_REST = "..."
TOO_DEEP = "exceeded max depth"


@attrs.define
class PieceParser:
    """Parses pieces as whole bodies are parsed; ``slow`` takes those that orjson does not, or raises InvalidRequest.

    ``is_exact`` keeps every digit of long integers.
    """

    slow: Callable[[bytes], JSON]
    is_exact: bool = False

    def run(self, run: scan.Run) -> JSON:
        try:
            value = self.single(run.text)
        except InvalidRequest:
            # The reader is told of the sign that there is, not of the bracket in its place.
            self.slow(run.text[:-1] + run.following)
            raise
        levels, text = sizes.MAX_DEPTH - run.depth + 1, run.text
        may_be_deep = (run.is_deep or levels < NESTED + 2) and text.count(b"{") + text.count(b"[") > levels
        if may_be_deep and jsontext.is_deeper(value, levels):
            raise InvalidRequest(TOO_DEEP)
        return value

    def single(self, text: bytes) -> JSON:
        try:
            return self.slow(text) if self.is_exact and jsontext.has_long_integers(text) else orjson.loads(text)
        except ValueError:
            return self.slow(text)


def read_members(body: bytes, slow: Callable[[bytes], JSON], known: Collection[str] | None) -> JSON:
    """Return the members of the JSON object ``body``, or whatever other value it is; raises InvalidRequest.

    Where the ``known`` names are given, large members of other names are checked, but stay text (``Passage``); and of
    more than 1,024 such members the rest are one member, the whole body. So what some upstream may understand, but
    nobody here, takes little memory, and little time to free. Large members that are
    ``UNREAD`` are checked and stay text too, and so are those that are ``STREAMED`` in a huge body.
    """
    parser = PieceParser(slow, b"tool_calls" in body)
    try:
        if not scan.is_container(body):
            return parser.single(body)
        parts = scan.cut(body)
        opened = next(parts)
        assert isinstance(opened, scan.Opened)
        if not opened.is_object:
            pieces.check(parts, parser)
            return []
        return _Members(body, parser, known).read(parts)
    except scan.TooDeep:
        raise InvalidRequest(TOO_DEEP) from None
    except scan.Broken as broken:
        slow(broken.text)
    except InvalidRequest:
        check_text(body)  # which is looked for first in shorter bodies
        raise
    return slow(body)


@attrs.define
class _Members:
    body: bytes
    parser: PieceParser
    known: Collection[str] | None
    found: dict[str, JSON] = attrs.field(factory=dict)
    _unknown: int = 0

    def read(self, parts: Iterator[scan.Part]) -> dict[str, JSON]:
        for part in parts:
            match part:
                case scan.Run():
                    for name, value in self.parser.run(part).items():
                        if self._is_kept(name):
                            self.found[name] = value
                case scan.Single():
                    name, value = self.parser.single(part.key), self.parser.single(part.text)
                    if self._is_kept(name):
                        self.found[name] = value
                case scan.Opened():
                    self._read_large(part, parts)
                case scan.Closed():
                    break
        return self.found

    def _read_large(self, opened: scan.Opened, parts: Iterator[scan.Part]) -> None:
        name = self.parser.single(opened.key)
        is_text = name.lower() in UNREAD or (name.lower() in STREAMED and len(self.body) > sizes.HUGE_BYTES)
        if self.known is None or (name.casefold() in self.known and not is_text):
            self.found[name] = pieces.build(parts, self.parser, opened)
            return
        passage = Passage(self.body, opened.start, pieces.check(parts, self.parser))
        if self._is_kept(name):
            self.found[name] = passage

    def _is_kept(self, name: str) -> bool:
        # Some readers take a long s for an s in a name, so that others look for that among the extras.
        if self.known is None or name in self.found or name.casefold() in self.known:
            return True
        self._unknown += 1
        if self._unknown > _MOST_UNKNOWN:
            self.found[_REST] = Passage(self.body, 0, len(self.body))
        return self._unknown <= _MOST_UNKNOWN


def check_text(body: bytes) -> None:
    """Raise InvalidRequest for what is not UTF-8."""
    start = 0
    while start < len(body):
        end = min(start + sizes.PIECE_BYTES, len(body))
        while end < len(body) and body[end] & 0xC0 == 0x80 and end - start < sizes.PIECE_BYTES + 4:
            end += 1  # not within a character
        try:
            body[start:end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"the body is not UTF-8: invalid byte 0x{body[start + error.start]:02x}") from None
        start = end


def stream_items(passage: Passage, slow: Callable[[bytes], JSON]) -> Iterator[JSON]:
    """Yield the items of a list that was checked; of what they are made of not more than a piece is held."""
    parser = PieceParser(slow, b"tool_calls" in passage.text)
    parts = scan.cut(passage.text, passage.start)
    next(parts)
    for part in parts:
        match part:
            case scan.Run():
                yield from parser.run(part)
            case scan.Opened():
                yield pieces.build(parts, parser, part)
            case scan.Single():
                yield parser.single(part.text)
            case scan.Closed():
                return
