"""Scan: where the values of a large JSON text end, so that it can be cut into pieces.

A parser in C keeps every other thread from running until it returns. Here a text is cut by a scan whose steps are
short, and the parser sees at most ``PIECE_BYTES`` and one text or number at a time. The cost is linear: each byte is
passed over a constant number of times, however the text is nested.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeAlias

import attrs

from agenthub.dialects.ends import COLON, ITEMS, LEVEL, WORD, end_of, skip_space, string_end
from agenthub.dialects.sizes import MAX_DEPTH, PIECE_BYTES

_CLOSING = {b"{": b"}", b"[": b"]"}


@attrs.frozen
class Opened:
    """A list or object begins at ``start``; ``key`` is the JSON of its name, empty for an item of a list."""

    key: bytes
    start: int
    is_object: bool


@attrs.frozen
class Run:
    """Whole items of the innermost open list, or members of the object, with the brackets around them.

    ``depth`` counts these brackets and all that are open around them. ``following`` is the sign that stands in ``data``
    where ``text`` has its last bracket. Unless ``is_deep`` no item has more than ``NESTED + 1`` levels.
    """

    text: bytes
    depth: int
    following: bytes
    is_deep: bool


@attrs.frozen
class Single:
    """One long text, by itself."""

    key: bytes
    text: bytes


@attrs.frozen
class Closed:
    """The innermost list or object ends before ``end``."""

    end: int


Part: TypeAlias = Opened | Run | Single | Closed


class Broken(ValueError):
    """The text is no JSON. ``text`` holds the fault, with as much before it as is needed to see that."""

    def __init__(self, text: bytes) -> None:
        super().__init__("not JSON")
        self.text = text


class TooDeep(ValueError):
    """More lists and objects stand within each other than any parser takes."""


def is_container(data: bytes) -> bool:
    """Say whether a list or an object begins the text."""
    return data[skip_space(data, 0) :][:1] in _CLOSING


def cut(data: bytes, start: int = 0) -> Iterator[Part]:
    """Yield the parts of the list or object that begins at ``start``, in their order; raise Broken or TooDeep.

    What follows it is left alone. Whether the parts themselves are JSON is left to the parser.
    """
    return Cutter(data, start).parts()


@attrs.define
class Cutter:
    """Cuts ``data``; ``at`` is where it has come to."""

    data: bytes
    at: int = 0
    _open: list[bytes] = attrs.field(factory=list)
    _start: int = 0  # of what was not yet yielded
    _comma: int = -1  # where the last one stands, if nothing but space follows it
    _last_comma: int = 0
    _is_deep: bool = False  # what was not yet yielded may be
    _unclosed: deque[int] = attrs.field(factory=deque)  # brackets ahead, each within the one before

    def parts(self) -> Iterator[Part]:
        self.at = skip_space(self.data, self.at)
        yield self._enter(b"")
        while self._open:
            if self._take_items():
                yield from self._flush(self._last_comma)
                continue
            self.at = skip_space(self.data, self.at)
            if self.data[self.at : self.at + 1] == _CLOSING[self._open[-1]]:
                yield from self._leave()
            else:
                yield from self._one()

    def _take_items(self) -> bool:
        """Take what items one step finds, and say whether they and those before end here and are enough for a piece."""
        limit = self._start + PIECE_BYTES
        if self._unclosed:
            limit = min(limit, self._unclosed[0])
        found = ITEMS.match(self.data, self.at, limit)
        if found is not None:
            self.at = found.end()
            self._comma = self._last_comma = self.at - 1
        return self._comma >= 0 and self.at - self._start > PIECE_BYTES // 2

    def _enter(self, key: bytes) -> Opened:
        bracket = self.data[self.at : self.at + 1]
        self._open.append(bracket)
        if len(self._open) > MAX_DEPTH:
            raise TooDeep
        opened = Opened(key, self.at, bracket == b"{")
        if self._unclosed and self._unclosed[0] == self.at:
            self._unclosed.popleft()
        self.at = self._start = self.at + 1
        self._comma = -1
        return opened

    def _leave(self) -> Iterator[Part]:
        if self._comma >= 0:
            self.at = self._comma
            yield from self._flush(self._comma)
            raise self._broken_after()
        yield from self._flush(self.at)
        self._open.pop()
        self.at += 1
        yield Closed(self.at)
        if self._open:
            self._go_on(self._broken_after)

    def _flush(self, end: int) -> Iterator[Run]:
        text, bracket = self.data[self._start : end], self._open[-1]
        if not text or text.isspace():
            if self._start <= end and self.data[end : end + 1] == b",":
                raise self._broken()  # nothing stands before it
        else:
            yield Run(bracket + text + _CLOSING[bracket], len(self._open), self.data[end : end + 1], self._is_deep)
        self._start = self.at
        self._is_deep = False

    def _one(self) -> Iterator[Part]:
        """Take the next item or member, whatever it is."""
        data, before = self.data, self._last_comma if self._comma >= 0 else self.at
        key = self._key() if self._open[-1] == b"{" else b""
        first = data[self.at : self.at + 1]
        if first in _CLOSING:
            end = self._end_of_value(self.at + PIECE_BYTES)
            self._is_deep = self._is_deep or bool(end)
            if not end:
                at, self.at = self.at, self._start
                yield from self._flush(before)
                self.at = at
                yield self._enter(key)
                return
        else:
            end = string_end(data, self.at) if first == b'"' else end_of(WORD, data, self.at)
            if not end:
                raise self._broken()
            if end - self.at > PIECE_BYTES:
                start, self.at = self.at, end
                yield from self._flush(before)
                yield Single(key, data[start:end])
                self._go_on(self._broken_after)
                return
        self.at, start = end, self._start
        self._go_on(self._broken)
        self._start = start

    def _key(self) -> bytes:
        start, end = self.at, string_end(self.data, self.at)
        after = end_of(COLON, self.data, end) if end else 0
        if not after:
            raise self._broken()
        self.at = after
        return self.data[start:end]

    def _go_on(self, broken: Callable[[], Broken]) -> None:
        """Pass the comma behind a value, or stop before the bracket."""
        self.at = skip_space(self.data, self.at)
        sign = self.data[self.at : self.at + 1]
        if sign == b",":
            self._comma = self._last_comma = self.at
            self.at += 1
        elif sign == _CLOSING[self._open[-1]]:
            self._comma = -1
        else:
            raise broken()
        self._start = self.at

    def _end_of_value(self, limit: int) -> int:
        """Return where the list or object ends that begins here; 0 where that is beyond ``limit``.

        What is found to be still open there is remembered, so that no text is searched once for each level around it.
        """
        if self._unclosed and self._unclosed[0] == self.at:
            return 0
        data, at, opened = self.data, self.at, list[int]()
        while at < limit:
            sign = data[at : at + 1]
            if sign in _CLOSING:
                opened.append(at)
                at += 1
            elif sign == b"]" or sign == b"}":
                opened.pop()
                at += 1
                if not opened:
                    return at
            else:
                end = end_of(LEVEL, data, at, limit) or string_end(data, at)
                if not end:  # the text's, or a string without one
                    break
                at = end
        self._unclosed = deque(opened)
        return 0

    def _broken(self) -> Broken:
        return Broken(self._open[-1] + self.data[self._start :])

    def _broken_after(self) -> Broken:
        """Return the fault behind a value that was yielded: any other will do in its place."""
        before = b'{"":0' if self._open[-1] == b"{" else b"[0"
        return Broken(before + self.data[self.at :])
