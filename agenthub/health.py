"""Health checks in the background: a dead backend is asked last, until it answers again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus

import attrs
import structlog

from agenthub.canonical import JSON
from agenthub.errors import AgentHubError, UpstreamError, UpstreamTimeout
from agenthub.learning import learn
from agenthub.middleware import Backend
from agenthub.middleware.cache_key import model_key
from agenthub.probing import probe
from agenthub.routing import Router
from agenthub.verbs import list_running, ping

_SLOW_TIMES = 2
_log = structlog.get_logger("agenthub")


@attrs.define
class Health:
    """Keeps ``is_up`` and ``loaded`` of each backend.

    One that refuses a connection is down at once; one that is only slow when it was so twice in a row, since a server
    under load is no dead one.
    """

    router: Router
    _slow: dict[str, int] = attrs.field(factory=dict)
    _has_checked: bool = False

    async def watch(self) -> None:
        """Check all backends every ``health.interval_s`` until cancelled."""
        while self.router.settings.health.interval_s:
            await self.check()
            await asyncio.sleep(self.router.settings.health.interval_s)

    async def check(self) -> None:
        """Check all backends once, at the same time."""
        await asyncio.gather(*(self._check(backend) for backend in self.router.backends.values()))
        self._has_checked = True

    async def _check(self, backend: Backend) -> None:
        try:
            is_auto = backend.name in self.router.autos
            if is_auto:
                await probe(backend, self.router.settings.health.ping_timeout_s)
            # To know what is loaded, and with which context, matters only where there is a choice, or prompts are long.
            asks_ps = len(self.router.backends) > 1 or backend.has_long_prompts
            if asks_ps and "ps" in self.router.adapter(backend, "ps").operations:
                running = {_key(entry): entry for entry in await list_running(self.router, backend)}
                backend.loaded, backend.contexts = frozenset(running), _contexts(running)
            elif not is_auto:
                await ping(self.router, backend)
        except UpstreamTimeout as error:
            self._slow[backend.name] = self._slow.get(backend.name, 0) + 1
            if self._slow[backend.name] >= _SLOW_TIMES:
                self._down(backend, error)
        except AgentHubError as error:
            if isinstance(error, UpstreamError) and (error.counted or error.status == HTTPStatus.LOOP_DETECTED):
                self._down(backend, error)
            else:
                await self._up(backend)  # it answered, though it has no such verb or wants a key
        except Exception:
            _log.exception("agenthub.health_check_failed", backend=backend.name)
        else:
            await self._up(backend)
            await self._learn(backend)

    async def _learn(self, backend: Backend) -> None:
        # Where that fails it stays unknown what its models can do; whether it is up is not decided by that.
        try:
            await learn(self.router, backend)
        except (AgentHubError, TimeoutError) as error:
            _log.info("agenthub.abilities_unknown", backend=backend.name, error=str(error) or "did not answer in time")
        except Exception:
            _log.exception("agenthub.health_check_failed", backend=backend.name)

    def _down(self, backend: Backend, error: AgentHubError) -> None:
        if backend.is_up:
            backend.is_up, backend.loaded, backend.contexts = False, frozenset(), {}
            self.router.forget_routes()
            about = {"backend": backend.name, "at_start": not self._has_checked}
            _log.warning("agenthub.backend_down", **about, error=str(error))

    async def _up(self, backend: Backend) -> None:
        self._slow.pop(backend.name, None)
        if not backend.is_up:
            backend.is_up = True
            _log.info("agenthub.backend_up", backend=backend.name)
            await self.router.refresh_one(backend)


def _key(entry: Mapping[str, JSON]) -> str:
    return model_key(str(entry.get("name") or entry.get("model") or ""))


def _contexts(running: Mapping[str, Mapping[str, JSON]]) -> dict[str, int]:
    """Return the contexts with which models are loaded; Ollama tells them from 0.10 on."""
    lengths = {key: entry.get("context_length") for key, entry in running.items()}
    return {key: length for key, length in lengths.items() if type(length) is int and length > 0}
