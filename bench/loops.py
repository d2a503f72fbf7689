"""One event loop for all: uvloop where it is installed."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from collections.abc import Callable
from typing import cast

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def best() -> str:
    """Return the name of the fastest loop that is installed."""
    return "uvloop" if importlib.util.find_spec("uvloop") is not None else "asyncio"


def factory(name: str) -> LoopFactory:
    """Return what makes a loop: ``uvloop`` or ``asyncio``."""
    if name == "uvloop":
        return cast(LoopFactory, importlib.import_module("uvloop").new_event_loop)
    return asyncio.new_event_loop
