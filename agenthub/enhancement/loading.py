"""Reads the rules from their file, by the loader of the settings and with its errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from attrs import field, frozen

from agenthub.enhancement.rules import DEFAULT, Rule, Rules
from agenthub.settings.kinds import Wrong
from agenthub.settings.sources import Layers, read_toml
from agenthub.settings.tables import Table, Tables

FILE = "config/enhancement.toml"
"""Where the rules are looked for, unless the settings name a file."""


@frozen
class _File:
    default: Any = field(default=None, validator=Table(Rule))
    clients: Mapping[str, Any] = field(default=MappingProxyType({}), validator=Tables(Table(Rule)))


_ROOT = Table(_File)


def load_rules(named: str, directory: Path) -> Rules:
    """Return the rules of the file ``named`` in ``directory``, else of ``FILE`` there, else the built-in one.

    In a file without ``default`` that is off. A client's rule has what ``default`` says wherever it says nothing
    itself. Raises ConfigError, whose one line says the file, the key path and what is allowed; Wrong where ``named``
    can be no file's name.
    """
    if not named.isprintable():
        raise Wrong("this can be no file's name", ("enhancement", "file"))
    shown = named or FILE
    path = directory / shown
    if not named and not path.is_file():
        return Rules()
    layers, tree = Layers(_ROOT), read_toml(path, shown)
    layers.add(tree, shown)
    inherited: dict[str, Any] = {path[1]: value for path, value in layers.values.items() if path[0] == DEFAULT}
    own: dict[str, dict[str, Any]] = {}
    for table, name, *field_name in (found for found in layers.values if found[0] == "clients"):
        own.setdefault(name, {}).update({key: layers.values[(table, name, key)] for key in field_name})
    clients = {name: Rule(**(inherited | given), name=name) for name, given in own.items()}
    return Rules(Rule(**inherited) if DEFAULT in tree else Rule(enabled=False), MappingProxyType(clients), shown)
