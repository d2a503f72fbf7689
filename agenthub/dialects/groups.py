"""Groups: long lists and objects rendered a part at a time, so that no call of a renderer takes long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from agenthub.dialects import jsontext
from agenthub.dialects.jsontext import Fragment
from agenthub.dialects.scan import HUGE_BYTES

MANY = 1000
"""So many items are few enough to be rendered, or freed, at once."""
_LEVELS = 6


def dump_body(body: dict[str, Any], size_bytes: int) -> bytes:
    """Render a request that was parsed from ``size_bytes``; that of a huge one is rendered in groups."""
    return jsontext.dumps(body if size_bytes <= HUGE_BYTES else grouped(body))


def grouped(value: Any, levels: int = _LEVELS) -> Any:
    """Return what ``dumps`` renders alike, with long lists and objects in it rendered already."""
    if not (levels and isinstance(value, dict | list | tuple)):
        return value
    if isinstance(value, dict):
        members = ((name, grouped(item, levels - 1)) for name, item in value.items())
        return dict(members) if len(value) <= MANY else _joined(b"{%s}", map(dict, _parts(members)))
    items = (grouped(item, levels - 1) for item in value)
    return list(items) if len(value) <= MANY else listed(items)


def listed(items: Iterable[Any]) -> Fragment:
    """Render a list that is long, or whose items are made as they are read; each group is freed when it is done."""
    return _joined(b"[%s]", _parts(items))


def groups(items: Iterable[Any]) -> Iterator[bytes]:
    """Render groups of the items, without the brackets around each."""
    return (jsontext.dumps(part)[1:-1] for part in _parts(items))


def _joined(around: bytes, parts: Iterable[Any]) -> Fragment:
    return Fragment(around % b",".join([jsontext.dumps(part)[1:-1] for part in parts]))


def _parts(items: Iterable[Any]) -> Iterator[list[Any]]:
    items = iter(items)
    while part := list(islice(items, MANY)):
        yield part
