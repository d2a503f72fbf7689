"""Offload: work whose time grows with the size of a body, done in a thread while the event loop goes on.

A thread gives others their turn every few milliseconds, but not within one call of a function in C. So what is done
here must come in short steps: ``agenthub.dialects.pieces`` parses so. Two things would stop everybody all the same, and
are kept from it: a run of the garbage collector over millions of new objects, and freeing them all at once.

A process of its own would spare others the turns, but not the work: the parsed request, which middleware, plugins and
adapters read, would have to be unpacked here, in as many objects.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar

import attrs

from agenthub.canonical import BaseRequest, Message
from agenthub.dialects.groups import MANY
from agenthub.dialects.sizes import HUGE_BYTES, LARGE_BYTES

P = ParamSpec("P")
T = TypeVar("T")
_MOST_LOOKED_AT = 1_000_000
_CONTAINERS = (list, tuple, dict)

# One job at a time of each size: more would only take turns, and hold memory meanwhile. A picture of a few megabytes,
# which takes milliseconds, does not wait for a body that takes seconds.
_LARGE, _HUGE = (ThreadPoolExecutor(1, f"agenthub-{name}") for name in ("large", "huge"))


def is_large(size_bytes: int) -> bool:
    """Say whether work on so many bytes is done in a thread.

    Code on the way of each request asks this first and calls its function itself, without a coroutine, where it is not.
    """
    return size_bytes > LARGE_BYTES


async def offload(size_bytes: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what ``function`` returns or raise what it raises; it runs in a thread where it has much to work on.

    It sees the context variables of its caller. One whose caller is cancelled runs to its end if it has begun.
    """
    if size_bytes <= LARGE_BYTES:
        return function(*args, **kwargs)
    thread = _LARGE if size_bytes <= HUGE_BYTES else _HUGE
    job = partial(copy_context().run, _work, function, args, kwargs)
    return await asyncio.get_running_loop().run_in_executor(thread, job)


def _work(function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    with _collector.paused():
        result = function(*args, **kwargs)
        for request in result if isinstance(result, tuple) else (result,):
            if isinstance(request, BaseRequest) and request.source is not None:
                _free_in_steps(request, request.source)
        return result


@attrs.define
class _Collector:
    """The garbage collector, which neither runs during large jobs nor looks at what they made, until that is freed."""

    _lock: threading.Lock = attrs.field(factory=threading.Lock)
    _jobs: int = 0
    alive: int = 0
    _was_on: bool = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        with self._lock:
            if not self._jobs:
                self._was_on = gc.isenabled()
                gc.disable()
            self._jobs += 1
        try:
            yield
        finally:
            with self._lock:
                self._jobs -= 1
                if not self._jobs and self._was_on:
                    if self.alive:
                        gc.freeze()
                    gc.enable()

    def made(self) -> None:
        """Something large lives from now on."""
        with self._lock:
            self.alive += 1

    def freed(self) -> None:
        """It is freed. With the last the collector sees again what came into being meanwhile."""
        with self._lock:
            self.alive -= 1
            if not self.alive and not self._jobs:
                gc.unfreeze()
                gc.collect()
                gc.freeze()


_collector = _Collector()


def _free_in_steps(request: BaseRequest, source: object) -> None:
    """Have the large parts of a request outlive it, all of whose copies share its source, and freed bit by bit."""
    parts = _large_parts([getattr(request, field.name) for field in attrs.fields(type(request))])
    if parts:
        _collector.made()
        weakref.finalize(source, _bury, parts, _collector).atexit = False


def _large_parts(roots: Iterable[Any]) -> list[Any]:
    """Return the lists, tuples and dicts of many items that are among the roots or in them, as far as is looked."""
    found, todo = [], [part for part in roots if type(part) in _CONTAINERS]
    for _ in range(_MOST_LOOKED_AT):
        if not todo:
            break
        part = todo.pop()
        if len(part) > MANY:
            found.append(part)
        for item in part.values() if isinstance(part, Mapping) else part:
            if type(item) in _CONTAINERS:
                todo.append(item)
            elif type(item) is Message:
                todo += filter(None, (item.images, item.tool_calls))
    return found


def _bury(parts: list[Any], collector: _Collector) -> None:
    try:
        _HUGE.submit(_free, parts, collector)
    except RuntimeError:  # the process ends
        parts.clear()


def _free(parts: list[Any], collector: _Collector) -> None:
    while parts:
        part = parts.pop()
        items = [*part, *part.values()] if isinstance(part, dict) else list(part)
        del part  # its items live on, so that this is quick
        while items:
            items.pop()
    collector.freed()
