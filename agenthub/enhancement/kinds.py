"""The kinds of value that a rule has beside those of the settings."""

from __future__ import annotations

import re
from string import Formatter
from typing import ClassVar

import attrs

from agenthub.settings.kinds import Kind, Wrong

_BRACES = "use {client} for the client's name, {{ and }} for braces"
_VERSION = re.compile(r"[A-Za-z0-9._-]{1,32}")


@attrs.frozen
class Number(Kind):
    """A finite float from ``low`` to ``high``; an int will do."""

    low: float
    high: float

    @property
    def allowed(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"

    def check(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise self.refuse(value)
        return float(value)


@attrs.frozen
class Thinking(Kind):
    """Whether a model thinks aloud first, or how much; empty leaves it to the model."""

    levels: ClassVar[tuple[str, ...]] = ("", "low", "medium", "high")

    @property
    def allowed(self) -> str:
        return 'true, false, "low", "medium", "high" or "" (as the model does)'

    def check(self, value: object) -> bool | str:
        if isinstance(value, bool) or (isinstance(value, str) and value in self.levels):
            return value
        raise self.refuse(value)


@attrs.frozen
class Version(Kind):
    """A word that fits into a header; a whole number will do."""

    @property
    def allowed(self) -> str:
        return 'a word of up to 32 letters, digits, ".", "_" and "-"'

    def check(self, value: object) -> str:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else value
        if not isinstance(text, str) or not _VERSION.fullmatch(text):
            raise self.refuse(value)
        return text


@attrs.frozen
class Template(Kind):
    """A text that may use the client's name."""

    @property
    def allowed(self) -> str:
        return "a text that is not empty"

    def check(self, value: object) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.refuse(value)
        try:
            fields = [piece[1:] for piece in Formatter().parse(value) if piece[1] is not None]
        except ValueError:
            raise Wrong(f"a brace stands alone: {_BRACES}") from None
        for name, spec, conversion in fields:
            if name != "client" or spec or conversion:
                raise Wrong(f"it has other braces than {{client}}: {_BRACES}")
        return value


def fill(template: str, client: str) -> str:
    """Return a checked template with the client's name in its places."""
    return "".join([text + (client if name is not None else "") for text, name, _, _ in Formatter().parse(template)])
