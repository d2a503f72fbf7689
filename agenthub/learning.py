"""Learns what models lack, of each once after its first use, as its upstream shows it: no request waits for that."""

from __future__ import annotations

import asyncio

from agenthub.abilities import can_show, lacks_by_show
from agenthub.canonical import RawFrames, RelayRequest
from agenthub.dialects.ollama import listing
from agenthub.middleware import Backend
from agenthub.routing import Router

_MOST_AT_ONCE = 8


async def learn(router: Router, backend: Backend) -> None:
    """Ask about the models that were used and of which nothing is known; raises AgentHubError or TimeoutError.

    A list of models that differs, or a model that is changed, empties ``backend.lacks`` again.
    """
    # The table is another one when a model has changed meanwhile: then what is learned goes nowhere.
    lacks, used = backend.lacks, backend.used
    backend.used = set()
    listed = {key: model for key in used if key not in lacks and (model := router.listed(backend, key)) is not None}
    for key, model in list(listed.items())[:_MOST_AT_ONCE]:
        # Once only, whatever comes of it.
        lacks[key] = frozenset()
        if can_show(model):
            async with asyncio.timeout(router.settings.health.ping_timeout_s or None):
                shown = await _ask(backend, router.api_mode(backend, verb="show"), "show", model.name)
                teller = next((kind for kind, one in backend.adapters.items() if "version" in one.operations), "")
                version = listing.parse_version(await _ask(backend, teller, "version")) if shown and teller else ""
            lacks[key] = lacks_by_show(shown, version)


async def _ask(backend: Backend, kind: str, verb: str, model: str = "") -> bytes:
    adapter = backend.adapters[kind]
    if verb not in adapter.operations:
        return b""
    batches = [batch async for batch in adapter.relay(RelayRequest(verb=verb, model=model))]
    return b"".join([event.data for batch in batches for event in batch if isinstance(event, RawFrames)])
