"""Ends: where the strings and other values of a JSON text end, found without parsing them."""

from __future__ import annotations

import re
import sys
from typing import AnyStr

from agenthub.dialects.sizes import PIECE_BYTES

NESTED = 12
"""How deep a value may be for one pattern to take it."""

_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_PLAIN = r'[^{}\[\]"]*+'


def _nested(levels: int) -> str:
    """Return the pattern of a list or object with at most so many levels within it."""
    inner = rf"(?:{_STRING}|{_nested(levels - 1)})" if levels else _STRING
    return rf"[{{\[]{_PLAIN}(?:{inner}{_PLAIN})*+[}}\]]"


def _compiled(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode(), re.DOTALL)


_VALUE = rf"(?:{_STRING}|{_nested(NESTED)})"
# They hold on to what they took: none tries a second way through the same text, so that each takes linear time.
ITEMS = _compiled(rf'(?:[^{{}}\[\]",]*+(?:{_VALUE}[^{{}}\[\]",]*+)*+,)++')
"""Items of a list or members of an object, each with the comma behind it."""
LEVEL = _compiled(rf'(?:[^{{}}\[\]"]++|{_VALUE})++')
"""Text behind which as many brackets are open as before."""
_LEVEL_OF_TEXT = re.compile(LEVEL.pattern.decode(), re.DOTALL)
_WORD_OF_TEXT = re.compile(r'[^{}\[\]",: \t\n\r]++')
_SPACE = _compiled(r"[ \t\n\r]*+")
COLON = _compiled(r"[ \t\n\r]*+:[ \t\n\r]*+")
WORD = _compiled(r'[^{}\[\]",: \t\n\r]++')


def end_of(pattern: re.Pattern[AnyStr], text: AnyStr, at: int, limit: int = sys.maxsize) -> int:
    """Return where the match ends that begins at ``at``, 0 where there is none."""
    found = pattern.match(text, at, limit)
    return found.end() if found is not None else 0


def string_end(text: AnyStr, at: int) -> int:
    """Return where the string ends that begins at ``at``; 0 where there is none, or no end of it."""
    quote, escape = ('"', "\\") if isinstance(text, str) else (b'"', b"\\")
    if text[at : at + 1] != quote:
        return 0
    end = at
    while (end := text.find(quote, end + 1)) >= 0:  # which is ten times as fast as a pattern
        first = end
        while text[first - 1 : first] == escape:
            first -= 1
        if not (end - first) % 2:
            return end + 1
    return 0


def skip_space(data: bytes, at: int) -> int:
    found = _SPACE.match(data, at)
    return found.end() if found is not None else at


def end_of_value(text: str, start: int) -> int:
    """Return where the value ends that begins at ``start`` in a text that is JSON; raise ValueError where it is not."""
    at, depth = start, 0
    while True:
        sign = text[at : at + 1]
        if sign in ("{", "["):
            depth += 1
            at += 1
        elif sign in ("}", "]"):
            depth -= 1
            at += 1
        else:
            end = end_of(_LEVEL_OF_TEXT, text, at, at + PIECE_BYTES) if depth else end_of(_WORD_OF_TEXT, text, at)
            at = end or string_end(text, at)
            if not at:
                raise ValueError("not JSON")
        if depth <= 0:
            return at
