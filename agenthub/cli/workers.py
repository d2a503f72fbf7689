"""``agenthub serve --workers N``: several processes on one port, kept alive by gunicorn."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec

import structlog

from agenthub.app import make_hub
from agenthub.cli.addresses import check_backends
from agenthub.cli.ports import reserve_port, url_of
from agenthub.cli.reloading import Load
from agenthub.cli.speaker import Speaker
from agenthub.errors import ConfigError
from agenthub.plugins import make_plugins
from agenthub.settings import Settings

_log = structlog.get_logger("agenthub")


def serve_with_workers(settings: Settings, load: Load) -> None:
    """Serve until SIGTERM or SIGINT by ``settings.workers`` processes; one that dies is replaced.

    Signals are for this process, which passes them on: at SIGHUP each worker loads its settings anew by ``load``, at
    the end each lets its running requests finish. Raises ConfigError and CannotListen.
    """
    if find_spec("gunicorn") is None:
        source = settings.sources.get("workers", "default")
        problem = f"workers: {settings.workers} processes need gunicorn"
        raise ConfigError(f"{source}: {problem}: pip install gunicorn, or use 1")
    # Only to know that it can be: each worker makes its own.
    make_hub(settings, make_plugins(settings.plugins))
    reserved = reserve_port(settings.host, settings.port)
    check_backends(settings, reserved[0].getsockname()[1])
    if settings.caching.backend == "memory":
        remedy = 'caching.backend = "redis"'
        own = ["kept answers", "circuit breakers", "limits of clients"]
        _log.warning("agenthub.workers_share_nothing", workers=settings.workers, each_has_its_own=own, remedy=remedy)

    from agenthub.cli.master import Application, memory_folder

    with tempfile.TemporaryFile(dir=memory_folder()) as file:
        speaker = Speaker(file, settings.workers)
        Application(settings, load, reserved, url_of(settings.host, reserved), speaker).run()
