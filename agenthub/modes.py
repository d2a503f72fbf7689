"""Which api mode a request goes by, and why: what was wished for, and what ``auto`` picks.

=================================  ========================
who says it, the nearest wins      where
=================================  ========================
the request                        ``X-AgentHub-Api-Mode``
its client                         ``clients.NAME.api_mode``
the alias of its model             ``models.NAME.api_mode``
its backend                        ``backends.NAME.api_mode``
the hub                            ``api_mode``
=================================  ========================
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import attrs

from agenthub.canonical import Loss, Request
from agenthub.settings import Settings
from agenthub.settings.sources import dotted

if TYPE_CHECKING:
    from agenthub.middleware import Backend, Caller
    from agenthub.routing import Route

AUTO = "auto"
"""The mode that picks an adapter for each request."""
HEADER = "X-AgentHub-Api-Mode"
LEVELS = ("request", "client", "model", "backend", "hub", "default")
_FIRST = "native"


@attrs.frozen
class Wish:
    """The mode wished for: a kind of adapter, or ``auto``; one of ``LEVELS``, and in ``rule`` where it stands.

    ``rule`` is such as ``clients.vscode.api_mode``, ``api_mode (environment: OLLAMA_API_MODE)`` or ``default``.
    """

    mode: str
    level: str
    rule: str


@attrs.frozen
class Weighed:
    """One adapter under ``auto``: ``losses`` are those of the request there.

    ``answers`` is true unless the upstream is known not to speak its API, ``is_able`` where it has the operation.
    """

    kind: str
    answers: bool
    is_able: bool
    losses: Sequence[Loss] = ()

    @property
    def weight(self) -> tuple[bool, bool, int, int]:
        """What is compared, the least wins: rejected losses weigh more than any number of dropped ones."""
        rejected = sum(loss.rejected for loss in self.losses)
        return not self.answers, not self.is_able, rejected, len(self.losses) - rejected


def wished_mode(settings: Settings, backend: Backend, caller: Caller | None = None, route: Route | None = None) -> str:
    """Return the mode wished for: a kind, whether there is such an adapter or not, or ``auto``."""
    for mode in _wishes(settings, backend, caller, route):
        if mode:
            return mode
    return _FIRST


def explain_mode(
    settings: Settings, backend: Backend, caller: Caller | None = None, route: Route | None = None
) -> Wish:
    """Return the mode as ``wished_mode`` does, and where it comes from."""
    wishes = zip(LEVELS, _wishes(settings, backend, caller, route), strict=False)
    level, mode = next(((level, mode) for level, mode in wishes if mode), ("default", _FIRST))
    match level:
        case "request":
            rule = HEADER
        case "client" if caller is not None:
            rule = dotted(("clients", caller.client, "api_mode"))
        case "model" if route is not None:
            rule = dotted(("models", route.alias, "api_mode"))
        case "backend":
            rule = dotted(("backends", backend.name, "api_mode"))
        case _:
            source = settings.sources.get("api_mode", "")
            if not source and mode == attrs.fields_dict(Settings)["api_mode"].default:
                return Wish(mode, "default", "default")
            rule = f"api_mode ({source})" if source else "api_mode"
    return Wish(mode, level, rule)


def _wishes(
    settings: Settings, backend: Backend, caller: Caller | None, route: Route | None
) -> tuple[str, str, str, str, str]:
    """Return what each level says, the nearest first; empty where it says nothing."""
    client = settings.clients.get(caller.client) if caller is not None else None
    return (
        caller.api_mode if caller is not None else "",
        client.api_mode if client is not None else "",
        route.api_mode if route is not None else "",
        backend.settings.api_mode,
        settings.api_mode,
    )


def weigh(backend: Backend, request: Request) -> list[Weighed]:
    """Return what speaks for and against each adapter of the backend, in the order in which ``auto`` prefers them."""
    found = [_weighed(backend, kind, request) for kind in preferred(backend.adapters)]
    return sorted(found, key=lambda one: one.weight)


def pick(backend: Backend, request: Request) -> Weighed:
    """Return the adapter that ``auto`` takes for the request."""
    return min([_weighed(backend, kind, request) for kind in preferred(backend.adapters)], key=lambda one: one.weight)


def standing(backend: Backend, verb: str = "") -> str:
    """Return the adapter that ``auto`` takes where there is no request to weigh: one that answers and has the verb."""
    return min(
        preferred(backend.adapters),
        key=lambda kind: (not _answers(backend, kind), bool(verb) and verb not in backend.adapters[kind].operations),
    )


def _answers(backend: Backend, kind: str) -> bool:
    # As long as nobody knows, each may.
    return not backend.answers or kind in backend.answers


def preferred(kinds: Iterable[str]) -> list[str]:
    """Return kinds of adapters in the order that decides where nothing else does: native first."""
    return sorted(kinds, key=lambda kind: kind != _FIRST)


def _weighed(backend: Backend, kind: str, request: Request) -> Weighed:
    adapter = backend.adapters[kind]
    answers = _answers(backend, kind)
    is_able = request.operation in adapter.operations
    if not (answers and is_able):
        return Weighed(kind, answers, is_able)
    losses = adapter.losses(request)
    if kind == "openai" and _FIRST in backend.answers and backend.settings.flavour in ("auto", "ollama"):
        # Who speaks Ollama's API is an Ollama, which reads less of OpenAI's than it takes.
        losses = (*losses, *request.unmapped)
    return Weighed(kind, answers, is_able, losses)
