"""Output of commands: what happens when its reader has gone."""

from __future__ import annotations

import os
import sys


class OutputClosed(Exception):
    """Nobody reads the output any more, as with ``| head``; what follows of it goes nowhere."""


def close_output() -> None:
    """Send the rest of stdout nowhere, so that Python's last flush does not fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
