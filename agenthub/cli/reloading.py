"""SIGHUP: the configuration is loaded anew and takes the place of the old one, or nothing changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import structlog

from agenthub.app import make_hub
from agenthub.cli.addresses import check_backends
from agenthub.errors import AgentHubError
from agenthub.lives import Lives
from agenthub.plugins import make_plugins
from agenthub.routing import Router
from agenthub.settings import Settings
from agenthub.settings.changes import changed

Load = Callable[[], Settings]
"""Loads the settings from the sources that the process was started with; raises ConfigError."""

_AT_START: Mapping[str, Sequence[str]] = {
    "": ("host", "port", "workers", "max_body_bytes"),
    "log": ("level", "format", "buffer_bytes"),
    "protection": ("max_header_bytes", "header_timeout_s"),
}
"""What is read at the start only: names of settings by their groups."""
_log = structlog.get_logger("agenthub")


def keep_fixed(old: Settings, new: Settings) -> tuple[Settings, list[str]]:
    """Return ``new`` with the old values of what is read at the start only, and the key paths where they differ."""
    wanted = new
    for group, names in _AT_START.items():
        before, after = (getattr(settings, group) if group else settings for settings in (old, new))
        after = attrs.evolve(after, **{name: getattr(before, name) for name in names})
        changes: dict[str, Any] = {group: after}
        new = attrs.evolve(new, **changes) if group else after
    return new, changed(new, wanted)


def load_anew(old: Settings, load: Load) -> tuple[Settings, dict[str, list[str]]]:
    """Return the settings to go on with, and for the log what is changed; raises ConfigError."""
    settings, needs_restart = keep_fixed(old, load())
    facts = {"changed": changed(old, settings)}
    return settings, facts | ({"needs_restart": needs_restart} if needs_restart else {})


@attrs.define
class Reloader:
    """Reloads when it is asked to: once for all who asked before it began, and one time after the other.

    ``port`` is where the hub listens, which no backend may be. ``told`` is called with what is behind the new hub.
    """

    lives: Lives
    load: Load
    asked: asyncio.Event
    port: int
    log: Any = _log
    told: Callable[[Router], None] = lambda router: None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reload when asked to, for the length of the block; what is under way at its end is given up."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while await self.asked.wait():
            self.asked.clear()
            try:
                await self.reload()
            except AgentHubError as error:
                self.log.error("agenthub.reload_failed", error=str(error))
            except Exception as error:
                self.log.error("agenthub.reload_failed", error=type(error).__name__, exc_info=error)

    async def reload(self) -> None:
        """Have a hub of the new configuration serve; raises ConfigError and changes nothing where that cannot be."""
        old = self.lives.serving.hub
        settings, facts = load_anew(old.settings, self.load)
        # Beside the event loop, since names may have to be looked up.
        await asyncio.to_thread(check_backends, settings, self.port)
        hub = make_hub(settings, make_plugins(settings.plugins), kept=old.kept.next())
        await self.lives.replace(hub)
        self.log.info("agenthub.reloaded", **facts)
        self.told(hub.router)
