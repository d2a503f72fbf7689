"""Runs the application: opens the port, reloads at SIGHUP, stops at SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import gc
import importlib
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import structlog

from agenthub import signal_hold
from agenthub.cli.banner import Banner, callers, warn_of_exposure
from agenthub.cli.reloading import Load, Reloader
from agenthub.cli.server import Server
from agenthub.cli.signals import on_each_signal, on_signals
from agenthub.hops import HUB_ID
from agenthub.settings import Settings

Result = TypeVar("Result")
_GC_THRESHOLD = 50_000
_MOST_FILES = 2**16
_log = structlog.get_logger("agenthub")


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run ``main`` to its end: on uvloop where that is installed, else on asyncio's own loop."""
    with asyncio.Runner(loop_factory=find_loop_factory()) as runner:
        return runner.run(main)


async def serve(settings: Settings, load: Load | None = None, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then let running requests finish for up to ``drain_s``, or to a second signal.

    At SIGHUP what ``load`` returns replaces the settings. ``ready`` is called with the URL once requests are taken.
    Raises ConfigError and CannotListen.
    """
    server, stop, reload = Server(settings), asyncio.Event(), asyncio.Event()
    with on_each_signal(signal.SIGHUP, reload.set), on_signals(stop.set, server.cut), signal_hold.lifted():
        async with server as url, Banner() as banner:
            reloader = Reloader(server.lives, load or (lambda: settings), reload, server.port, told=banner.tell)
            loop = type(asyncio.get_running_loop()).__module__
            _log.info("agenthub.listening", url=url, hub=HUB_ID.get(), loop=loop, **callers(settings))
            warn_of_exposure(settings)
            banner.tell(server.serving.hub.router)
            if ready is not None:
                ready(url)
            spare_collector()
            spare_generators()
            async with reloader.running():
                await stop.wait()
            _log.info("agenthub.stopping", drain_s=server.serving.hub.settings.drain_s)
    signal_hold.settle()
    _log.info("agenthub.stopped")


def allow_many_files() -> None:
    """Let the process have more connections open than shells let their programs, as far as the system allows.

    Each stream holds two. What is written in Go, as Ollama is, does the same by itself.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != (most := many_files()):
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def many_files() -> int:
    """Return how many files a hub may have open once it has asked for more; RLIM_INFINITY where there is no limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return soft
    return max(soft, _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES))


def spare_collector() -> None:
    """Let the garbage collector look neither at what lives as long as the process nor after each few requests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 20)


def spare_generators() -> None:
    """Let the running loop keep no list of the asynchronous generators that are under way.

    It would be told of each of the several that a request goes through, to close at its own end those that are left.
    There none is: each is closed by who asks it. One that is dropped in its middle is still closed by the loop.
    """
    sys.set_asyncgen_hooks(firstiter=None, finalizer=sys.get_asyncgen_hooks().finalizer)


def find_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's where that is installed."""
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return factory
