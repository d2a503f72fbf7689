"""What a request leaves behind in this process: tasks, file descriptors, and what the hub remembers of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from agenthub.middleware.circuit_breaker import Breaker, CircuitBreaker
from tests.hubs import RunningHub

LIMIT_S = 20.0


async def until(is_so: Callable[[], bool], what: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Return as soon as it is so; AssertionError with ``what()`` after ``limit_s`` seconds."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + limit_s
    while not is_so():
        assert loop.time() < ends_at, what()
        await asyncio.sleep(0.005)


def descriptors() -> int:
    """Return how many file descriptors this process holds."""
    return len(os.listdir("/proc/self/fd"))


def tasks() -> set[asyncio.Task[object]]:
    """Return what runs in this loop."""
    return asyncio.all_tasks()


def breaker_of(hub: RunningHub, backend: str = "ollama") -> Breaker:
    """Return the breaker of a backend."""
    return next(layer for layer in hub.hub.dispatcher.middleware if isinstance(layer, CircuitBreaker)).breaker(backend)


def in_flight(hub: RunningHub) -> int:
    """Return how many requests the hub has with its backends, or waiting for a place there."""
    return sum(backend.slots.in_flight + backend.slots.waiting for backend in hub.hub.router.backends.values())
