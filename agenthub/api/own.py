"""What the hub's own endpoints ask of its backends, where they do: for explain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from agenthub.adapter import Adapter
from agenthub.api import health, ollama, openai
from agenthub.api.described import Described
from agenthub.api.hub import Hub
from agenthub.api.listing import known_models
from agenthub.canonical import JSON, RelayRequest
from agenthub.explaining.rehearsing import rehearse
from agenthub.explaining.sendings import tell_sendings
from agenthub.middleware import Backend, Caller

Ask = Callable[[Adapter], Any]


@attrs.frozen
class Own:
    """One endpoint: ``check`` raises what its answer would be refused with, ``ask`` is what each backend is asked."""

    check: Callable[[Hub, Caller, Described], object]
    ask: Ask
    backends: Callable[[Hub], Sequence[Backend]] = lambda hub: list(hub.router.backends.values())


def _verb(verb: str, backends: Callable[[Hub, str], Sequence[Backend]]) -> Own:
    return Own(
        lambda hub, caller, described: caller.rights.check_operation(verb),
        lambda adapter: adapter.relay(RelayRequest(verb=verb, model="")),
        lambda hub: backends(hub, verb),
    )


def _having(hub: Hub, verb: str) -> list[Backend]:
    return [backend for backend in ollama.by_default(hub) if verb in hub.router.adapter(backend).operations]


_LISTED = Own(lambda hub, caller, described: known_models(hub, caller), lambda adapter: adapter.models())
_OWN: Mapping[object, Own] = {
    ollama.tags: _LISTED,
    openai.models: _LISTED,
    openai.model: attrs.evolve(
        _LISTED, check=lambda hub, caller, described: openai.find_model(hub, caller, described.match_info["id"])
    ),
    ollama.version: _verb("version", lambda hub, verb: _having(hub, verb)[:1]),
    ollama.ps: _verb("ps", _having),
    health.ready: Own(lambda hub, caller, described: None, lambda adapter: adapter.ping()),
}


def answer_own(hub: Hub, caller: Caller, handler: object, described: Described) -> JSON:
    """Return what the endpoint of ``handler`` would ask; raises AgentHubError where its client would get that."""
    own = _OWN.get(handler)
    if own is None:
        return {"is_sent": False, "requests": []}
    own.check(hub, caller, described)
    requests = []
    for backend in own.backends(hub):
        found = rehearse(hub.router.adapter(backend), own.ask)
        requests += tell_sendings(found.sendings, backend)
    return {"is_sent": bool(requests), "requests": requests}
