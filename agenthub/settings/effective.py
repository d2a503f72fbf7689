"""The settings as a list: each value with its default, where it came from, and what it hides. Secrets stay masked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import attrs

from agenthub.canonical import JSON
from agenthub.settings import Settings
from agenthub.settings.keys import KeyDigest
from agenthub.settings.kinds import Kind, Path
from agenthub.settings.secret import Secret
from agenthub.settings.sources import dotted
from agenthub.settings.tables import Table, Tables

MASK = "********"
"""What stands in the place of a secret."""
# What stands in the place of a file's name may be the key itself; one that was read is a name.
_PERHAPS_SECRET = "api_key_file"


@attrs.frozen
class Effective:
    """One setting. ``default`` is None where one must be given; ``source`` is empty where the default holds.

    ``hidden`` are the layers below that have another word on it: source and value, the nearest first.
    """

    key: str
    value: JSON
    default: JSON
    source: str = ""
    hidden: tuple[tuple[str, JSON], ...] = ()

    @property
    def is_telling(self) -> bool:
        """False where it is at its default and nobody below wants it otherwise."""
        return self.value != self.default or bool(self.hidden)


def effective(settings: Settings) -> Iterator[Effective]:
    """Yield every setting, in the order of the configuration file."""
    for path, value, default in _leaves(settings, ()):
        key = dotted(path)
        shown = masked(value)
        below = settings.hidden.get(key, ())
        while below and below[-1][1] == value:
            below = below[:-1]
        hides_file = key.endswith(_PERHAPS_SECRET)
        hidden = [(source, MASK if hides_file and other else masked(other)) for source, other in below]
        source = settings.sources.get(key, "")
        if not source and isinstance(value, KeyDigest) and value:
            source = settings.sources.get(f"{key}_file", "")
        yield Effective(key, shown, masked(default), source, tuple(hidden))


def masked(value: object) -> JSON:
    """Return a value of the settings as JSON, stars in the place of a secret."""
    match value:
        case Secret() | KeyDigest():
            return MASK if value else ""
        case tuple() | list():
            return [masked(entry) for entry in value]
        case Mapping():
            return {str(name): masked(inner) for name, inner in value.items()}
        case None | bool() | int() | float() | str():
            return value
    return str(value)


def _leaves(table: object, path: Path) -> Iterator[tuple[Path, object, object]]:
    for field in attrs.fields(cast(type[attrs.AttrsInstance], type(table))):
        here, value = (*path, field.name), getattr(table, field.name)
        match field.validator:
            case Table():
                yield from _leaves(value, here)
            case Tables():
                for name, inner in value.items():
                    yield from _leaves(inner, (*here, name))
            case Kind() if isinstance(value, Mapping) and value:
                # Each entry is a setting of its own: layers add to one another.
                yield from ((((*here, name)), inner, None) for name, inner in value.items())
            case Kind():
                yield here, value, None if field.default is attrs.NOTHING else field.default
