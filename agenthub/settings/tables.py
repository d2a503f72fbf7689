"""The kinds of setting that are tables: a class of settings, many of them by name, or free entries."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import attrs

from agenthub.settings.kinds import Kind, Path, Wrong
from agenthub.settings.secret import SecretText

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Unknown(Wrong):
    """There is no setting at ``path``; ``siblings`` are the names that its table has."""

    def __init__(self, path: Path, siblings: tuple[str, ...]) -> None:
        super().__init__("unknown key", path)
        self.siblings = siblings


class _TableKind(Kind):
    """What all tables share: a wrong value is only named by its type, for a key or a URL could be in it."""

    def show(self, value: object) -> str:
        return "a text" if isinstance(value, str) else super().show(value)

    def items(self, value: object, path: Path = ()) -> list[tuple[str, object]]:
        if not isinstance(value, Mapping):
            raise self.refuse(value, path)
        return list(value.items())


@attrs.frozen
class Table(_TableKind):
    """One table: the fields of the attrs class ``of`` that have a kind."""

    of: type[Any]
    help: str = attrs.field(default="", kw_only=True)

    @property
    def kinds(self) -> dict[str, Kind]:
        return {field.name: field.validator for field in attrs.fields(self.of) if isinstance(field.validator, Kind)}

    @property
    def allowed(self) -> str:
        return f"a table with the keys {', '.join(self.kinds)}"

    def check(self, value: object) -> object:
        if not isinstance(value, self.of):
            raise self.refuse(value)
        return value

    def read(self, path: Path, value: object, *, text: bool) -> Iterator[tuple[Path, object]]:
        kinds = self.kinds
        for name, inner in self.items(value, path):
            if name not in kinds:
                raise Unknown((*path, name), tuple(kinds))
            yield from kinds[name].read((*path, name), inner, text=text)

    def build(self, values: Mapping[Path, object], path: Path) -> object:
        built = {name: kind.build(values, (*path, name)) for name, kind in self.kinds.items()}
        given = {name: value for name, value in built.items() if value is not attrs.NOTHING}
        for field in attrs.fields(self.of):
            if field.default is attrs.NOTHING and field.name not in given:
                raise Wrong(f"is missing: use {self.kinds[field.name].allowed}", (*path, field.name))
        return self.of(**given)

    def leaves(self, path: Path = ()) -> Iterator[tuple[Path, object, str]]:
        """Path, default (``None`` where one must be given) and help of each setting, in the order of the fields."""
        for field in attrs.fields(self.of):
            here = (*path, field.name)
            match field.validator:
                case Table() as table:
                    yield from table.leaves(here)
                case Tables() as tables:
                    yield from tables.table.leaves((*here, tables.placeholder))
                case Kind() as kind:
                    yield here, None if field.default is attrs.NOTHING else field.default, kind.help


@attrs.frozen
class Tables(_TableKind):
    """Tables by name; ``names`` is the whole-name pattern, ``spelled`` says it in words."""

    table: Table
    placeholder: str = "NAME"
    names: str = r"[^\x00-\x1f\x7f]+"
    spelled: str = "a name that is not empty"
    help: str = attrs.field(default="", kw_only=True)

    @property
    def allowed(self) -> str:
        return f"a table for each {self.placeholder} with the keys {', '.join(self.table.kinds)}"

    def check(self, value: object) -> object:
        for name, inner in self.items(value):
            self._check_name(name, (name,))
            self.table.check(inner)
        return value

    def _check_name(self, name: str, path: Path) -> None:
        if not re.fullmatch(self.names, name):
            raise Wrong(f"this name is not allowed: use {self.spelled}", path)

    def read(self, path: Path, value: object, *, text: bool) -> Iterator[tuple[Path, object]]:
        """As for every kind; besides, each name's own path with ``None``, so that an empty table counts as there."""
        for name, inner in self.items(value, path):
            here = (*path, name)
            self._check_name(name, here)
            yield here, None
            yield from self.table.read(here, inner, text=text)

    def build(self, values: Mapping[Path, object], path: Path) -> object:
        depth = len(path)
        names = dict.fromkeys(found[depth] for found in values if len(found) > depth and found[:depth] == path)
        return MappingProxyType({name: self.table.build(values, (*path, name)) for name in names})


class _Entries(_TableKind):
    """A table whose keys are the user's; each entry is a leaf, so that layers add to one another."""

    def entry(self, name: str, value: object, *, text: bool) -> object:
        """The entry's value as the settings keep it; raises :class:`Wrong`."""
        raise NotImplementedError

    def check(self, value: object) -> object:
        return {name: self.entry(name, inner, text=False) for name, inner in self.items(value)}

    def read(self, path: Path, value: object, *, text: bool) -> Iterator[tuple[Path, object]]:
        for name, inner in self.items(value, path):
            try:
                checked = self.entry(name, inner, text=text)
            except Wrong as wrong:
                raise Wrong(str(wrong), (*path, *wrong.path)) from None
            yield (*path, name), checked

    def build(self, values: Mapping[Path, object], path: Path) -> object:
        return MappingProxyType({found[-1]: value for found, value in values.items() if found[:-1] == path})


@attrs.frozen
class Headers(_Entries):
    """HTTP headers; the values are secrets, and a wrong name is not shown since it may hold a whole header line."""

    @property
    def allowed(self) -> str:
        return "a table of header names and texts"

    def entry(self, name: str, value: object, *, text: bool) -> object:
        if not _HEADER_NAME.fullmatch(name):
            raise Wrong("a name in it (not shown) is not an HTTP header name: use letters, digits and hyphens")
        try:
            return SecretText("").check(value)
        except Wrong as wrong:
            raise Wrong(str(wrong), (name,)) from None


@attrs.frozen
class Options(_Entries):
    """Any JSON values; as text, JSON where it parses and the plain text where it does not."""

    @property
    def allowed(self) -> str:
        return "a table of JSON values: texts, finite numbers, booleans, lists and tables"

    def entry(self, name: str, value: object, *, text: bool) -> object:
        try:
            return _frozen_json(_parse_json(value) if text and isinstance(value, str) else value)
        except ValueError:
            raise Wrong(str(self.refuse(value)), (name,)) from None


def _parse_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _frozen_json(value: object) -> object:
    """``value`` with tuples for lists; tables stay dicts, which orjson can write and a mapping proxy not."""
    match value:
        case float() if not math.isfinite(value):
            raise ValueError
        case str() | bool() | int() | float():
            return value
        case list() | tuple():
            return tuple(map(_frozen_json, value))
        case dict():
            return {name: _frozen_json(inner) for name, inner in value.items()}
    raise ValueError
