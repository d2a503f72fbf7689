"""One event loop for all: uvloop where it is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def best() -> str:
    """Return the name of the fastest loop that is installed."""
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return "asyncio"
    return "uvloop"


def factory(name: str) -> LoopFactory:
    """Return what makes a loop: ``uvloop`` or ``asyncio``."""
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop
