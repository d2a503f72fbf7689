"""Where each setting came from, to the line, and what a later layer hides."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path

import attrs

from agenthub.canonical import JSON
from agenthub.settings import Settings
from agenthub.settings.effective import MASK, Effective, effective
from agenthub.settings.lines import dotenv_lines, toml_lines
from agenthub.settings.sources import dotted

_PLAIN = re.compile(r"[\w.:/*+@\\-]+")


@attrs.frozen
class Origin:
    """A layer: ``default``, ``file``, ``.env``, ``environment`` or ``command line``.

    ``name`` is the file's or the variable's; ``line`` counts from 1, 0 where it is not known.
    """

    layer: str
    name: str = ""
    line: int = 0

    def __str__(self) -> str:
        line = f":{self.line}" if self.line else ""
        match self.layer:
            case "file":
                return f"{self.name}{line}"
            case ".env":
                return f".env{line} {self.name}"
        return f"{self.layer} {self.name}".rstrip()

    @property
    def removal(self) -> str:
        """What to do so that this layer says nothing any more."""
        match self.layer:
            case "environment":
                return f"unset {self.name}"
            case "command line":
                return "Leave out the option."
        return f"Take it out of {self}."

    def as_json(self) -> JSON:
        return {"layer": self.layer, "name": self.name, "line": self.line or None}


@attrs.frozen
class Row:
    """One setting as it is shown: its value, and each layer below that wants another, the nearest first."""

    key: str
    value: JSON
    default: JSON
    origin: Origin
    hidden: tuple[tuple[Origin, JSON], ...] = ()

    def __str__(self) -> str:
        text = f"{self.key} = {spell(self.value)} from {self.origin}"
        if not self.hidden:
            return text
        return f"{text} hides " + " and ".join(f"{spell(value)} from {origin}" for origin, value in self.hidden)

    @property
    def removals(self) -> list[str]:
        """What to do to have the nearest other value that is hidden: layers between may say the same as the top one."""
        alike = takewhile(lambda below: below[1] == self.value != MASK, self.hidden)
        removals = [self.origin.removal, *(origin.removal for origin, _ in alike)]
        return [f"To use what is hidden: {removal}" for removal in removals]

    def as_json(self) -> JSON:
        hides = [{"value": value, "source": origin.as_json()} for origin, value in self.hidden]
        source = self.origin.as_json()
        return {"key": self.key, "value": self.value, "default": self.default, "source": source, "hides": hides}


@attrs.frozen
class Origins:
    """Turns the loader's words for a source into an origin."""

    in_file: Mapping[str, int]
    in_dotenv: Mapping[str, int]

    @classmethod
    def of(cls, config: Path, directory: Path) -> Origins:
        """Look up the lines of the TOML file and of the directory's ``.env``, as far as they can be read."""
        lines = {dotted(path): line for path, line in toml_lines(_read(config)).items()}
        return cls(lines, dotenv_lines(_read(directory / ".env")))

    def find(self, source: str, key: str) -> Origin:
        """Return the origin of the setting ``key``; the source is empty where the default holds."""
        layer, _, name = source.partition(": ")
        match layer:
            case "":
                return Origin("default")
            case ".env":
                return Origin(layer, name, self.in_dotenv.get(name, 0))
            case "environment" | "command line":
                return Origin(layer, name)
        return Origin("file", source, self.in_file.get(key, 0))

    def rows(self, settings: Settings, *, everything: bool) -> Iterator[Row]:
        """Yield the settings that are not at their defaults or hide something, or ``everything``."""
        for entry in effective(settings):
            if everything or entry.is_telling:
                yield self._row(entry)

    def _row(self, entry: Effective) -> Row:
        hidden = tuple((self.find(source, entry.key), value) for source, value in entry.hidden)
        return Row(entry.key, entry.value, entry.default, self.find(entry.source, entry.key), hidden)


def spell(value: JSON) -> str:
    """Return a value as a person would write it: texts in quotes only where they need them."""
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError):
        return ""
