"""Rows of the ledger, and how one is found."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping

import attrs

from agenthub.canonical import JSON, BaseRequest, Loss

CHAT, GENERATE, EMBED = "chat", "generate", "embed"
TEXT = (CHAT, GENERATE)
EVERY = (CHAT, GENERATE, EMBED)


class Treatment(enum.StrEnum):
    """What becomes of a field."""

    CARRIED = "carried"
    """It goes upstream, maybe under another name."""
    EMULATED = "emulated"
    """The hub does it itself."""
    DROPPED = "dropped"
    """Left out and noted; a strict client's request is refused for it."""
    REJECTED = "rejected"
    """The answer would be wrong without it: 400, naming the field."""


CARRIED, EMULATED, DROPPED, REJECTED = Treatment


@attrs.frozen
class When:
    """A condition on the value of a field, with the words that the documentation has for it."""

    words: str
    holds: Callable[[JSON], bool]


@attrs.frozen
class Row:
    """What becomes of ``field`` in requests of the given operations, if ``when`` holds for its value.

    ``home`` is the field that carries it, or how it is emulated. ``flavours`` are the upstreams at which it is
    otherwise, with treatment and home. ``reason`` is what a client reads whose request is refused.
    """

    field: str
    treatment: Treatment
    home: str = ""
    operations: tuple[str, ...] = EVERY
    when: When | None = None
    flavours: Mapping[str, tuple[Treatment, str]] = attrs.field(factory=dict)
    reason: str = ""

    def at(self, flavour: str) -> tuple[Treatment, str]:
        """Return treatment and home at an upstream of that flavour."""
        return self.flavours.get(flavour, (self.treatment, self.home))


class Table:
    """The rows of one direction. Of several rows for a field the first counts whose condition holds.

    A value for which no row of its field holds asks for nothing that the other side would not do anyway. A field
    without any row has no known meaning on the other side: it is dropped and noted.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = tuple(rows)
        self._found: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            for operation in row.operations:
                self._found.setdefault((operation, row.field), []).append(row)

    def find(self, operation: str, field: str, value: JSON) -> Row | None:
        """Return the row that holds, None for a value that asks for nothing."""
        rows = self._found.get((operation, field))
        if rows is None:
            return Row(field, DROPPED)
        return next((row for row in rows if row.when is None or row.when.holds(value)), None)

    def loss(self, operation: str, field: str, value: JSON = None, flavour: str = "") -> Loss | None:
        """Return the loss that sending ``value`` to that flavour would be, None if it is none."""
        row = self.find(operation, field, value)
        if row is None:
            return None
        treatment = row.at(flavour)[0]
        if treatment is DROPPED or treatment is REJECTED:
            return Loss(field, rejected=treatment is REJECTED, reason=row.reason)
        return None

    def home(self, operation: str, field: str, value: JSON, flavour: str = "") -> str:
        """Return the upstream's field that carries ``value``, empty if none does."""
        row = self.find(operation, field, value)
        if row is None:
            return ""
        treatment, home = row.at(flavour)
        return home or field if treatment is CARRIED else ""

    def extras(self, request: BaseRequest, flavour: str = "") -> dict[str, JSON]:
        """Return those fields without a canonical name that the other side knows, under its names."""
        operation, carried = request.operation, dict[str, JSON]()
        for name, value in request.extras.items():
            if home := self.home(operation, name, value, flavour):
                carried[home] = value
        return carried
