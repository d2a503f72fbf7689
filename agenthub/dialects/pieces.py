"""Pieces: the values of large JSON, made of pieces that a parser in C takes a short time for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from agenthub.dialects import scan


class Parser(Protocol):
    """Knows what pieces mean; raises what it likes."""

    def run(self, run: scan.Run) -> Any:
        """Return the list or object that a run is."""

    def single(self, text: bytes) -> Any:
        """Return the value of a text by itself, or of a name."""


def build(parts: Iterator[scan.Part], parser: Parser, opened: scan.Opened) -> Any:
    """Return the list or object whose parts follow ``opened``; takes from ``parts`` as far as to its end."""
    root: Any = {} if opened.is_object else []
    stack = [root]
    for part in parts:
        match part:
            case scan.Run():
                _join(stack[-1], parser.run(part))
            case scan.Opened():
                inner: Any = {} if part.is_object else []
                _put(stack[-1], part.key, inner, parser)
                stack.append(inner)
            case scan.Single():
                _put(stack[-1], part.key, parser.single(part.text), parser)
            case scan.Closed():
                stack.pop()
                if not stack:
                    break
    return root


def check(parts: Iterator[scan.Part], parser: Parser) -> int:
    """Have the parser see the parts of the innermost list or object and forget them; return where it ends."""
    depth = 1
    for part in parts:
        match part:
            case scan.Run():
                parser.run(part)
            case scan.Opened():
                depth += 1
                if part.key:
                    parser.single(part.key)
            case scan.Single():
                parser.single(part.text)
            case scan.Closed():
                depth -= 1
                if not depth:
                    return part.end
    return 0


def _join(container: Any, found: Any) -> None:
    if type(container) is dict:
        container.update(found)
    else:
        container.extend(found)


def _put(container: Any, key: bytes, value: Any, parser: Parser) -> None:
    if type(container) is dict:
        container[parser.single(key)] = value
    else:
        container.append(value)


def loads(data: bytes, parser: Parser) -> Any:
    """Return the value of the list or object that is all of ``data``; raise scan.Broken or TooDeep."""
    cutter = scan.Cutter(data)
    parts = cutter.parts()
    opened = next(parts)
    assert isinstance(opened, scan.Opened)
    value = build(parts, parser, opened)
    if scan.skip_space(data, cutter.at) < len(data):
        raise scan.Broken(data[cutter.at :])
    return value
