"""The process that keeps the workers alive: gunicorn's arbiter, set up from the hub's settings. Needs gunicorn."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
from collections.abc import Sequence
from socket import socket
from typing import Any

import structlog
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from agenthub.app import make_hub
from agenthub.cli.addresses import check_backends
from agenthub.cli.banner import callers, warn_of_exposure
from agenthub.cli.reloading import Load, load_anew
from agenthub.cli.signals import STOPPING
from agenthub.cli.speaker import Speaker
from agenthub.cli.worker import HELD, HubWorker
from agenthub.errors import AgentHubError
from agenthub.hops import HUB_ID
from agenthub.plugins import make_plugins
from agenthub.settings import Settings

# A worker says each second that it lives; what blocks one for this long is no request.
_SILENT_S = 120
# For the last words after drain_s, and for closing.
_CLOSING_S = 10
_MEMORY = "/dev/shm"
_log = structlog.get_logger("agenthub")


class Bridge(Logger):  # type: ignore[misc]
    """gunicorn's lines go where those of all other libraries go, in the same shape."""

    def setup(self, cfg: Any) -> None:
        self.cfg, self._access_log_enabled = cfg, False
        self.error_log.propagate = True
        self.error_log.setLevel(logging.NOTSET)

    def info(self, msg: str, *args: Any, **kwargs: Any) -> None:
        # The hub says where it listens; gunicorn does not know.
        if not msg.startswith("Listening at"):
            super().info(msg, *args, **kwargs)


class Application(BaseApplication):  # type: ignore[misc]
    """What gunicorn runs. ``settings`` are those that a worker which starts now goes by; it opens the port itself.

    If all shared one socket, the first to wake would take every connection of a burst.
    """

    def __init__(self, settings: Settings, load: Load, reserved: Sequence[socket], url: str, speaker: Speaker) -> None:
        self.settings, self.load_settings, self.url, self.speaker = settings, load, url, speaker
        self.reserved, self.port = reserved, reserved[0].getsockname()[1]
        super().__init__()

    def load_config(self) -> None:
        options = {
            "bind": [],
            "reuse_port": True,
            "workers": self.settings.workers,
            "worker_class": HubWorker,
            "logger_class": Bridge,
            "timeout": _SILENT_S,
            "graceful_timeout": graceful_timeout_s(self.settings),
            "control_socket_disable": True,
            "proc_name": "agenthub",
            # What a worker touches to say that it lives should not wait for a disk.
            "worker_tmp_dir": memory_folder(),
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Application:
        return self

    def run(self) -> None:
        master = os.getpid()
        try:
            Master(self).run()
        except SystemExit as end:
            # In a worker the status tells the master what went wrong; from here on it is one of the command's own.
            sys.exit(end.code if os.getpid() != master or not end.code else 1)


class Master(Arbiter):  # type: ignore[misc]
    """gunicorn's, but that Ctrl-C lets requests finish as SIGTERM does, and that SIGHUP keeps the workers."""

    is_stopping = False

    def start(self) -> None:
        super().start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        about = {"url": self.app.url, "hub": HUB_ID.get(), "workers": self.num_workers}
        _log.info("agenthub.listening", **about, **callers(self.app.settings))
        warn_of_exposure(self.app.settings)

    def signal(self, sig: int, frame: Any) -> None:
        # Of what comes during the stop the arbiter obeys SIGQUIT only.
        super().signal(signal.SIGQUIT if self.is_stopping and sig in STOPPING else sig, frame)

    def handle_term(self) -> None:
        self.is_stopping = True
        _log.info("agenthub.stopping", drain_s=self.app.settings.drain_s)
        raise StopIteration

    handle_int = handle_term

    def handle_hup(self) -> None:
        """Have each worker reload, if the configuration is good; what runs in them goes on."""
        try:
            settings, facts = load_anew(self.app.settings, self.app.load_settings)
            check_backends(settings, self.app.port)
            make_hub(settings, make_plugins(settings.plugins))
        except AgentHubError as error:
            _log.error("agenthub.reload_failed", error=str(error))
            return
        self.app.settings = settings
        self.cfg.set("graceful_timeout", graceful_timeout_s(settings))
        self.kill_workers(signal.SIGHUP)
        _log.info("agenthub.reloaded", **facts)

    def handle_usr2(self) -> None:
        """Do nothing: a second master could not tell its settings from the command line that gunicorn would repeat."""

    def spawn_worker(self) -> int | None:
        # What the master sends to a worker that is not yet listening to signals must not be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        try:
            return super().spawn_worker()  # type: ignore[no-any-return]
        finally:
            if os.getpid() == self.pid:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        try:
            super().halt(reason, exit_status)
        finally:
            _log.info("agenthub.stopped")


def memory_folder() -> str | None:
    """Return where files never wait for a disk, None where there is no such place."""
    return _MEMORY if os.access(_MEMORY, os.W_OK) else None


def graceful_timeout_s(settings: Settings) -> int:
    """Return after how many seconds a worker that was told to stop is killed."""
    return math.ceil(settings.drain_s) + _CLOSING_S
