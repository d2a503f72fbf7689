"""Asks one backend a verb that reads: outside of any dispatch, for lists and health checks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from agenthub.canonical import JSON, RawFrames, RelayRequest
from agenthub.dialects.ollama import listing
from agenthub.errors import Unsupported, UpstreamTimeout
from agenthub.middleware import Backend
from agenthub.routing import Router


async def ask_verb(router: Router, backend: Backend, verb: str) -> bytes:
    """Return the answer's body; raise AgentHubError, Unsupported where the backend's API lacks the verb."""
    await router.identities.settle([backend], router.wished_mode)
    adapter = router.adapter(backend, verb)
    if verb not in adapter.operations:
        raise Unsupported(f"{verb} is not supported by backend {backend.name}", status=501)
    try:
        async with asyncio.timeout(router.settings.health.ping_timeout_s or None):
            batches = [batch async for batch in adapter.relay(RelayRequest(verb=verb, model=""))]
    except TimeoutError as error:
        raise UpstreamTimeout(f"backend {backend.name} did not answer in time") from error
    return b"".join(event.data for batch in batches for event in batch if isinstance(event, RawFrames))


async def list_running(router: Router, backend: Backend) -> Sequence[Mapping[str, JSON]]:
    """Return what the backend holds in memory, as Ollama's ``ps`` lists it."""
    return listing.parse_running(await ask_verb(router, backend, "ps"))


async def ping(router: Router, backend: Backend) -> None:
    """Return if the backend answers within ``ping_timeout_s``; raise AgentHubError."""
    try:
        async with asyncio.timeout(router.settings.health.ping_timeout_s or None):
            await router.adapter(backend).ping()
    except TimeoutError as error:
        raise UpstreamTimeout("did not answer in time") from error
