"""What the tests of sharing have in common: a Redis of their own, and patience with it."""

import pytest

from tests.redis_server import redis_server

__all__ = ["redis_server"]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests in which Redis is well: on a machine that is busy with other things an answer may take its time."""
    monkeypatch.setattr("agenthub.shared.link.PATIENCE", 200)
    monkeypatch.setattr("agenthub.shared.link._PROBE", 400)
