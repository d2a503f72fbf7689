"""Banner: who may call, and what stands behind the hub in which state, told once it listens."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from types import TracebackType
from typing import Any, Self

import attrs
import structlog

from agenthub.api.access import REMEDIES, exposure, is_loopback
from agenthub.canonical import ModelInfo, RawFrames, RelayRequest
from agenthub.cli.examining import Probes, examine_backend
from agenthub.cli.findings import Level
from agenthub.dialects.ollama import listing
from agenthub.middleware import Backend
from agenthub.modes import AUTO, preferred
from agenthub.routing import Router
from agenthub.settings import Settings

_BY_FLAVOUR = {"llamacpp": "llama.cpp", "vllm": "vLLM"}
_BY_OWNER = {**_BY_FLAVOUR, "organization_owner": "LM Studio", "sglang": "SGLang"}
_LONGEST = 64
"""Of what a server says of itself."""
_log = structlog.get_logger("agenthub")


def callers(settings: Settings) -> dict[str, Any]:
    """Return for the log who may call, and whether a key is needed for it."""
    keyed = [name for name, client in settings.clients.items() if client.api_key]
    if keyed:
        return {"callers": keyed, "needs_key": True}
    return {"callers": "this machine" if is_loopback(settings.host) else "the network", "needs_key": False}


def warn_of_exposure(settings: Settings) -> None:
    """Log a warning where everyone on the network may call without a key, though somebody said that they may."""
    if problem := exposure(attrs.evolve(settings, insecure=False)):
        _log.warning("agenthub.exposed", problem=problem, remedy=REMEDIES[0])


@attrs.define
class Banner:
    """Logs in the background in which state each backend is, for the length of the block at the most."""

    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def tell(self, router: Router) -> None:
        """Tell the states of the router's backends, each as soon as it is known."""
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.create_task(_tell_all(router))


async def _tell_all(router: Router) -> None:
    await asyncio.gather(*(_tell(router, backend) for backend in router.backends.values()))


async def _tell(router: Router, backend: Backend) -> None:
    facts = {"backend": backend.name, "url": backend.settings.url, "api_mode": router.wished_mode(backend)}
    try:
        # A copy, since what the backend answers is for the health checks of the hub to say.
        probes = Probes(router, attrs.evolve(backend))
        finding = await examine_backend(probes, {}, router.hub_id)
        if finding.level is Level.ERROR:
            problem = finding.text.removeprefix(f"backend {backend.name}: ")
            _log.warning("agenthub.backend_checked", **facts, error=problem, remedies=list(finding.remedies))
            return
        answers = preferred(probes.backend.answers) if facts["api_mode"] == AUTO else [facts["api_mode"]]
        server = (await _software(router, backend, answers, probes.models))[:_LONGEST]
        _log.info("agenthub.backend_checked", **facts, answers=answers, server=server, models=len(probes.models))
    except Exception:
        _log.exception("agenthub.backend_check_failed", backend=backend.name)


async def _software(router: Router, backend: Backend, kinds: Iterable[str], models: Collection[ModelInfo]) -> str:
    """Return the name of the server's software, and its version where it is an Ollama; empty where it tells neither."""
    for kind in kinds:
        adapter = backend.adapters[kind]
        if "version" in adapter.operations:
            async with asyncio.timeout(router.settings.health.ping_timeout_s or None):
                batches = [batch async for batch in adapter.relay(RelayRequest(verb="version", model=""))]
            body = b"".join([event.data for batch in batches for event in batch if isinstance(event, RawFrames)])
            return f"Ollama {listing.parse_version(body)}"
    owners = {str(model.entry.get("owned_by") or "") for model in models}
    return _BY_FLAVOUR.get(backend.settings.flavour) or (_BY_OWNER.get(owners.pop(), "") if len(owners) == 1 else "")
