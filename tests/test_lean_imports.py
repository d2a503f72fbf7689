"""What the hub does not use is not imported at its start."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.support import clean_environ

LOOK = "print([name for name in ('rich', 'redis', 'pygments', 'limits') if name in sys.modules])"


def run(code: str) -> str:
    """Run it in an interpreter of its own."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=clean_environ(), capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("module", ["agenthub", "agenthub.cli.serve", "agenthub.app"])
def test_what_is_not_imported(module: str) -> None:
    """Though structlog and aiocache would."""
    assert run(f"import sys, {module}; {LOOK}") == "[]\n"


def test_what_was_hidden_can_be_imported() -> None:
    """Code that uses these libraries can import them later, and structlog works."""
    code = "import agenthub, rich.console, redis.asyncio, structlog; structlog.get_logger().info('said')"
    assert "said" in run(code)


def test_what_is_there_stays() -> None:
    """An application that has set up structlog with rich keeps it."""
    code = "import rich, structlog, agenthub; print(structlog.dev.rich is rich, rich.__name__)"
    assert run(code) == "True rich\n"
