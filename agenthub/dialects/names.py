"""Names: what the members of JSON objects are called, which readers of one text may take for different members."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from agenthub.dialects import jsontext, scan
from agenthub.dialects.scan import LARGE_BYTES

_MOST_NAMES = 100_000


def top_level_names(data: bytes) -> Iterable[str]:
    """Return the names of the members of a JSON object, in their order; raise ValueError if ``data`` is no object."""
    return [name for name, _ in jsontext.members(data.decode("utf-8"))] if len(data) <= LARGE_BYTES else _names(data)


def _names(data: bytes) -> Iterator[str]:
    depth = 0
    for part in scan.cut(data):
        match part:
            case scan.Run(depth=1):
                yield from _NAMES.decode(part.text.decode("utf-8"))
            case scan.Opened() | scan.Single() if depth == 1:
                yield jsontext.loads(part.key)
        depth += isinstance(part, scan.Opened) - isinstance(part, scan.Closed)


def has_twins(data: bytes) -> bool:
    """Say whether an object in JSON has two members whose names some reader takes for one: equal but for their case."""
    try:
        if len(data) > LARGE_BYTES and scan.is_container(data):
            return _has_twins_in_pieces(data)
        _PAIRS.raw_decode(data.decode("utf-8").lstrip(" \t\n\r"))
    except (_Twins, ValueError, RecursionError):
        return True
    return False


class _Twins(Exception):
    pass


def _see_twins(members: list[tuple[str, Any]]) -> set[str]:
    names = {name.casefold() for name, _ in members}
    if len(names) < len(members):
        raise _Twins
    return names


def _has_twins_in_pieces(data: bytes) -> bool:
    """Say the same, piece by piece; True as well for an object with so many members that they are not remembered."""
    opened: list[set[str]] = []
    for part in scan.cut(data):
        names: object = None
        match part:
            case scan.Run():
                names = _PAIRS.decode(part.text.decode("utf-8"))
            case scan.Opened() | scan.Single() if part.key:
                names = {jsontext.loads(part.key).casefold()}
            case scan.Closed():
                opened.pop()
        if isinstance(names, set):
            if not opened[-1].isdisjoint(names) or len(opened[-1]) > _MOST_NAMES:
                return True
            opened[-1].update(names)
        if isinstance(part, scan.Opened):
            opened.append(set())
    return False


_PAIRS = json.JSONDecoder(object_pairs_hook=_see_twins, parse_int=str, parse_float=str)
_NAMES = json.JSONDecoder(object_pairs_hook=lambda members: [name for name, _ in members])
