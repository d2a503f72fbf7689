"""What differs between two configurations, by key paths; values are never told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from agenthub.settings.sources import dotted


def changed(old: object, new: object) -> list[str]:
    """Return the key path of each setting that differs, and of each table that is in one of them only."""
    return [dotted(path) for path in _changed(old, new, ())]


def _changed(old: object, new: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            if name in old and name in new:
                yield from _changed(old[name], new[name], (*path, name))
            else:
                yield (*path, name)
    elif attrs.has(kind := type(old)) and kind is type(new):
        for field in attrs.fields(kind):
            if field.eq:
                yield from _changed(getattr(old, field.name), getattr(new, field.name), (*path, field.name))
    elif old != new:
        yield path
