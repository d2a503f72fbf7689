"""The list of what is excluded names nothing that is not there."""

from __future__ import annotations

import pytest

from tests.clients.excluded import COLLECTED, EXCLUDED


def test_every_excluded_case_was_collected(pytestconfig: pytest.Config) -> None:
    """A case that its suite dropped must leave the list; files that this run did not ask for are left out."""
    collected = pytestconfig.stash[COLLECTED]
    files = {name.partition("::")[0] for name in collected}
    assert [name for name in EXCLUDED if name.partition("::")[0] in files and name not in collected] == []
