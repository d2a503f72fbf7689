"""Identities: the software behind each backend, known to its adapters before they are asked anything by a client.

The adapter that a backend's own settings choose finds it out with its lists. Another one can be named by a client, by
an alias or by the header of a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import Context

import attrs
import structlog

from agenthub.middleware import Backend
from agenthub.settings import Settings

_log = structlog.get_logger("agenthub")


@attrs.define
class Identities:
    """Has the adapters identify their upstreams; ``kinds`` are those that somebody has named."""

    backends: Mapping[str, Backend]
    kinds: set[str] = attrs.field(factory=set)
    _asking: dict[str, asyncio.Task[None]] = attrs.field(factory=dict)

    @classmethod
    def of(cls, settings: Settings, backends: Mapping[str, Backend]) -> Identities:
        """Return those of the backends, with the kinds that clients and aliases name."""
        named = {client.api_mode for client in settings.clients.values()}
        named |= {model.api_mode for model in settings.models.values()}
        return cls(backends, {kind for backend in backends.values() for kind in backend.adapters if kind in named})

    async def refresh(self, backend: Backend) -> None:
        """Identify the backend's upstream again, as far as that is due."""
        for kind in self.kinds:
            if kind in backend.adapters:
                await identify(backend, kind)

    async def learn(self, kind: str) -> None:
        """Return when each upstream was identified by the adapters of a kind: only the first who names it waits."""
        if kind not in self._asking:
            if kind in self.kinds or not any(kind in backend.adapters for backend in self.backends.values()):
                return
            self._asking[kind] = asyncio.create_task(self._learn(kind), context=Context())
        await asyncio.shield(self._asking[kind])

    async def _learn(self, kind: str) -> None:
        backends = [backend for backend in self.backends.values() if kind in backend.adapters]
        await asyncio.gather(*(identify(backend, kind) for backend in backends))
        self.kinds.add(kind)

    async def close(self) -> None:
        """Stop what is under way."""
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)


async def identify(backend: Backend, kind: str) -> None:
    """Have one adapter identify its upstream, if it can."""
    ask = getattr(backend.adapters[kind], "identify", None)
    if ask is None:
        return
    try:
        await ask()
    except Exception:  # somebody else's adapter
        _log.exception("agenthub.identify_failed", backend=backend.name, api_mode=kind)
