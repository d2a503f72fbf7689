"""Lists of models as servers really give them: what can be read of them is taken, the rest is set aside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agenthub.canonical import JSON, ModelInfo
from agenthub.dialects import answerjson
from agenthub.dialects.codec import BROKEN
from agenthub.errors import UpstreamProtocol


def parse_entries(body: bytes, path: str, members: Sequence[str]) -> list[JSON]:
    """Return the entries of a list: a bare array, or one of ``members`` of an object, the first that is an array.

    A member that is null is an empty list. Raises UpstreamProtocol for any other body.
    """
    try:
        value = answerjson.loads(body)
        if isinstance(value, list):
            return value
        found = [value[member] for member in members if member in value]
        lists = [entries for entries in found if isinstance(entries, list)]
        if lists or None in found:
            return lists[0] if lists else []
    except BROKEN as error:
        raise UpstreamProtocol(f"the upstream's {path} is not a list of models") from error
    raise UpstreamProtocol(f"the upstream's {path} is not a list of models")


def parse_models(
    entries: Sequence[JSON], dialect: str, names: Sequence[str], odd: list[JSON] | None = None
) -> list[ModelInfo]:
    """Return the models that ``entries`` tell, each named by the first of ``names`` that it has; a text is a name.

    Entries without a name are added to ``odd``.
    """
    models: list[ModelInfo] = []
    for entry in entries:
        told = entry if isinstance(entry, Mapping) else {}
        name = entry if isinstance(entry, str) else _name(told, names)
        if name:
            models.append(ModelInfo(name, dialect, told))
        elif odd is not None:
            odd.append(entry)
    return models


def _name(entry: Mapping[str, JSON], names: Sequence[str]) -> str:
    found = (entry.get(name) for name in names)
    return next((name for name in found if isinstance(name, str) and name), "")
