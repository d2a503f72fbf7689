"""What the parser of a request comes upon and has no canonical place for."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from agenthub.canonical import JSON, Loss
from agenthub.dialects.ledger.rows import CHAT, Table


@attrs.define
class Noted:
    """The losses of one chat, each once, by the ledger of the direction in which they count."""

    table: Table
    losses: list[Loss] = attrs.field(factory=list)
    _known: set[Loss] = attrs.field(factory=set)

    def note(self, field: str, value: JSON = None) -> None:
        """Ask the ledger what becomes of a field."""
        self.add(self.table.loss(CHAT, field, value))

    def note_members(self, field: str, value: Mapping[str, JSON], *known: str) -> None:
        """Note the members that are not ``known``, but for those that say nothing."""
        for name, member in value.items():
            if member and name not in known:
                self.note(f"{field}.{name}", member)

    def add(self, loss: Loss | None) -> None:
        """Take a loss, if it is one."""
        if loss is not None and loss not in self._known:
            self._known.add(loss)
            self.losses.append(loss)
