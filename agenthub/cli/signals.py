"""What the signals that a process gets have it do."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def on_signals(*actions: Callable[[], None], numbers: Iterable[int] = STOPPING) -> Iterator[None]:
    """While the block runs, answer each signal with the next of ``actions``; after the last, with the default."""
    loop, remaining = asyncio.get_running_loop(), list(actions)

    def act() -> None:
        remaining.pop(0)()
        if not remaining:
            release()

    def release() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, act)
    try:
        yield
    finally:
        release()


@contextmanager
def on_each_signal(number: int, action: Callable[[], None]) -> Iterator[None]:
    """While the block runs, answer each signal of this kind with ``action``."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(number, action)
    try:
        yield
    finally:
        loop.remove_signal_handler(number)
