"""Which APIs an upstream really answers: asked through each adapter, where ``auto`` may choose between them."""

from __future__ import annotations

import asyncio

import structlog

from agenthub.errors import AgentHubError, UpstreamError, UpstreamProtocol, UpstreamStatus, UpstreamTimeout
from agenthub.middleware import Backend
from agenthub.modes import AUTO, preferred
from agenthub.settings import Settings

_LATER = frozenset({408, 429})
_log = structlog.get_logger("agenthub")


def may_choose(settings: Settings, backend: Backend) -> bool:
    """Say whether a setting lets ``auto`` choose at the backend; a request's header may do so besides."""
    if AUTO in (client.api_mode for client in settings.clients.values()):
        return True
    for alias in settings.models.values():
        if alias.api_mode == AUTO and backend.name in (alias.backends or settings.backends):
            return True
    return (backend.settings.api_mode or settings.api_mode) == AUTO


async def probe(backend: Backend, timeout_s: float) -> None:
    """Ping the backend through each of its adapters, within ``timeout_s``, and keep which of them had an answer.

    An adapter that was only given no time, or met a server that fails, keeps the standing that it had. Raises
    AgentHubError where none has an answer, one that says that the server is up before any other.
    """
    failures: dict[str, AgentHubError] = {}

    async def ping(kind: str) -> None:
        try:
            async with asyncio.timeout(timeout_s or None):
                await backend.adapters[kind].ping()
        except TimeoutError:
            failures[kind] = UpstreamTimeout("did not answer in time")
        except AgentHubError as error:
            failures[kind] = error
        except Exception as error:
            _log.exception("agenthub.probe_failed", backend=backend.name, api_mode=kind)
            failures[kind] = UpstreamProtocol(repr(error))

    kinds = preferred(backend.adapters)
    await asyncio.gather(*map(ping, kinds))
    kept = {kind for kind, error in failures.items() if kind in backend.answers and not _denies(error)}
    answers = frozenset(kind for kind in kinds if kind not in failures or kind in kept)
    if answers != backend.answers:
        backend.answers = answers
        _log.info("agenthub.apis_detected", backend=backend.name, answers=[kind for kind in kinds if kind in answers])
    if len(failures) == len(kinds):
        raise min((failures[kind] for kind in kinds), key=_is_down)


def _denies(error: AgentHubError) -> bool:
    """Say whether the upstream has said that it does not speak the API, and not only failed to say so."""
    if isinstance(error, UpstreamStatus):
        return error.status < 500 and error.status not in _LATER
    return isinstance(error, UpstreamProtocol) or not isinstance(error, UpstreamError)


def _is_down(error: AgentHubError) -> bool:
    return isinstance(error, UpstreamError) and error.counted
