"""Rows of the ledger, and how one is found."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

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
        self._fates: dict[tuple[str, str], Fates] = {}

    def fates(self, operation: str, flavour: str) -> Fates:
        """Return what becomes of each field of an operation at that flavour: its rows' conditions, losses and homes.

        Worked out once, since every request asks it.
        """
        key = (operation, flavour)
        if key not in self._fates:
            found: Fates = {}
            for row in self.rows:
                if operation in row.operations:
                    found.setdefault(row.field, []).append(_fate(row, flavour))
            self._fates[key] = found
        return self._fates[key]

    def loss(self, operation: str, field: str, value: JSON = None, flavour: str = "") -> Loss | None:
        """Return the loss that sending ``value`` to that flavour would be, None if it is none."""
        return loss_of(self.fates(operation, flavour), field, value)

    def home(self, operation: str, field: str, value: JSON, flavour: str = "") -> str:
        """Return the upstream's field that carries ``value``, empty if none does."""
        for holds, _, home in self.fates(operation, flavour).get(field, ()):
            if holds is None or holds(value):
                return home
        return ""

    def extras(self, request: BaseRequest, flavour: str = "") -> dict[str, JSON]:
        """Return those fields without a canonical name that the other side knows, under its names."""
        carried: dict[str, JSON] = {}
        for name, value in request.extras.items():
            if home := self.home(request.operation, name, value, flavour):
                carried[home] = value
        return carried


Fates: TypeAlias = dict[str, list[tuple[Callable[[JSON], bool] | None, Loss | None, str]]]


def loss_of(fates: Fates, field: str, value: JSON) -> Loss | None:
    """Return the loss that ``value`` is, None if it is none; a field without a row is one."""
    rows = fates.get(field)
    if rows is None:
        return Loss(field)
    for holds, loss, _ in rows:
        if holds is None or holds(value):
            return loss
    return None


def _fate(row: Row, flavour: str) -> tuple[Callable[[JSON], bool] | None, Loss | None, str]:
    treatment, home = row.at(flavour)
    rejected = treatment is REJECTED
    loss = Loss(row.field, rejected=rejected, reason=row.reason) if rejected or treatment is DROPPED else None
    return row.when.holds if row.when else None, loss, (home or row.field) if treatment is CARRIED else ""
