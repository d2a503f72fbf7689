"""Identities: the software behind each backend, known to its adapters before they are asked anything by a client.

The adapter that a backend's own settings choose finds it out with its lists. Another one can be named by a client, by
an alias or by the header of a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import Context

import attrs
import structlog

from agenthub.adapter import Adapter
from agenthub.hops import HOPS, Hops, came_from_hub
from agenthub.middleware import Backend
from agenthub.modes import AUTO
from agenthub.settings import Settings

_log = structlog.get_logger("agenthub")


@attrs.define
class Identities:
    """Has the adapters identify their upstreams; ``kinds`` are those that somebody has named."""

    backends: Mapping[str, Backend]
    kinds: set[str] = attrs.field(factory=set)
    timeout_s: float | None = None
    """How long a request waits for it at most."""
    hub_id: str = ""
    _asking: dict[str, asyncio.Task[None]] = attrs.field(factory=dict)
    _settling: dict[tuple[str, str], asyncio.Task[None]] = attrs.field(factory=dict)

    @classmethod
    def of(cls, settings: Settings, backends: Mapping[str, Backend], hub_id: str) -> Identities:
        """Return those of the backends, with the kinds that clients and aliases name."""
        named = {client.api_mode for client in settings.clients.values()}
        named |= {model.api_mode for model in settings.models.values()}
        kinds = {kind for backend in backends.values() for kind in backend.adapters if kind in named}
        return cls(backends, kinds, settings.health.ping_timeout_s or None, hub_id)

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

    async def settle(self, backends: Iterable[Backend], mode_of: Callable[[Backend], str]) -> bool:
        """Return when those adapters have asked that the api modes may choose and that do not know their upstreams.

        Requests at the same time share one question. Returns whether there was anything to ask.
        """
        unknown = []
        for backend in backends:
            mode = mode_of(backend)
            kinds = backend.adapters if mode == AUTO else (mode,)
            unknown += [(backend, kind) for kind in kinds if not is_identified(backend.adapters[kind])]
        await asyncio.gather(*(self._settle(backend, kind) for backend, kind in unknown))
        return bool(unknown)

    async def _settle(self, backend: Backend, kind: str) -> None:
        if came_from_hub():
            # That hub may be waiting for the very question that would be shared.
            await self._ask(backend, kind)
            return
        key = (backend.name, kind)
        if key not in self._settling:
            # In nobody's name, since it is for all.
            self._settling[key] = asyncio.create_task(self._ask_own(backend, kind), context=Context())
            self._settling[key].add_done_callback(lambda task: self._settling.pop(key, None))
        await asyncio.shield(self._settling[key])

    async def _ask_own(self, backend: Backend, kind: str) -> None:
        HOPS.set(Hops.start(self.hub_id))
        await self._ask(backend, kind)

    async def _ask(self, backend: Backend, kind: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.timeout_s):
                await identify(backend, kind)

    async def close(self) -> None:
        """Stop what is under way."""
        tasks = [*self._asking.values(), *self._settling.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def is_identified(adapter: Adapter) -> bool:
    """Say whether an adapter knows as much of its upstream as it can; one without the attribute does."""
    return getattr(adapter, "is_identified", True) is not False


async def identify(backend: Backend, kind: str) -> None:
    """Have one adapter identify its upstream, if it can."""
    ask = getattr(backend.adapters[kind], "identify", None)
    if ask is None:
        return
    try:
        await ask()
    except Exception:  # somebody else's adapter
        _log.exception("agenthub.identify_failed", backend=backend.name, api_mode=kind)
