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
from agenthub.errors import AgentHubError
from agenthub.explaining.rehearsing import rehearse
from agenthub.explaining.sendings import tell_sendings
from agenthub.middleware import Backend, Caller


@attrs.frozen
class Own:
    """One endpoint: what each of the backends is asked.

    That is the relay of ``verb``, where it is not empty. ``check`` raises what its client gets in the place of a good
    answer.
    """

    ask: Callable[[Adapter], Any]
    verb: str = ""
    backends: Callable[[Hub], Sequence[Backend]] = lambda hub: list(hub.router.backends.values())
    check: Callable[[Hub, Caller, Described], object] = lambda hub, caller, described: None


def _having(hub: Hub, verb: str) -> list[Backend]:
    return [backend for backend in ollama.by_default(hub) if verb in hub.router.adapter(backend, verb).operations]


def _relay(verb: str) -> Callable[[Adapter], Any]:
    return lambda adapter: adapter.relay(RelayRequest(verb=verb, model=""))


_LISTS = Own(lambda adapter: adapter.models(), check=lambda hub, caller, described: known_models(hub, caller))
_OWN: Mapping[object, Own] = {
    ollama.tags: _LISTS,
    openai.models: _LISTS,
    openai.model: attrs.evolve(
        _LISTS,
        check=lambda hub, caller, described: openai.find_model(hub, caller, described.match_info["id"].rstrip("/")),
    ),
    ollama.version: Own(_relay("version"), "version", lambda hub: _having(hub, "version")[:1]),
    ollama.ps: Own(_relay("ps"), "ps", lambda hub: _having(hub, "ps")),
    health.ready: Own(lambda adapter: adapter.ping()),
}


def explain_own(hub: Hub, caller: Caller, handler: object, described: Described) -> tuple[JSON, AgentHubError | None]:
    """Return what the endpoint of ``handler`` would ask, and the error that its client would get, if any."""
    own = _OWN.get(handler)
    if own is None:
        return {"is_sent": False, "requests": []}, None
    requests: list[JSON] = []
    for backend in own.backends(hub):
        requests += tell_sendings(rehearse(hub.router.adapter(backend, own.verb), own.ask).sendings, backend)
    error: AgentHubError | None = None
    try:
        own.check(hub, caller, described)
    except AgentHubError as raised:
        error = raised
    return {"is_sent": bool(requests), "requests": requests}, error
