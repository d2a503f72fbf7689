"""One request whose fate is explained: decided as a dispatch is, and followed through the chain, but not run."""

from __future__ import annotations

import copy
from typing import TypeVar

import attrs

from agenthub.canonical import Request
from agenthub.dispatch import Dispatcher
from agenthub.errors import AgentHubError, BackendUnavailable
from agenthub.middleware import Backend, Caller, Dispatch
from agenthub.middleware.caching import Caching
from agenthub.middleware.circuit_breaker import CircuitBreaker, is_fit_to_probe
from agenthub.middleware.failover import Failover, Moves
from agenthub.routing import Route

T = TypeVar("T")


@attrs.define
class Case:
    """A request with what was decided about it.

    ``asked`` is the request as the client wrote it, and ``in_line`` are the backends that may answer it, best first.
    Where not ``is_allowed``, nothing may be told of who would answer. ``cache`` is hit, shared, miss or bypass, ``key``
    what the answer is kept under, and ``is_settled`` says that nothing is sent for it, since its answer is there.
    ``error`` is why it is refused, None where it is not.
    """

    dispatcher: Dispatcher
    caller: Caller
    asked: Request
    dispatch: Dispatch
    route: Route
    is_allowed: bool
    in_line: tuple[Backend, ...] = ()
    cache: str = "bypass"
    key: str = ""
    error: AgentHubError | None = None

    @property
    def is_settled(self) -> bool:
        return self.cache in ("hit", "shared")

    def layer(self, kind: type[T]) -> T | None:
        """Return the middleware of a kind, where it is in the chain."""
        return next((layer for layer in self.dispatcher.middleware if isinstance(layer, kind)), None)

    def blocked(self, backend: Backend) -> BackendUnavailable | None:
        """Return why the hub would not ask the backend at this moment."""
        failover, breakers = self.layer(Failover), self.layer(CircuitBreaker)
        refusal = backend.slots.refusal() if failover is not None and failover.cares(self.dispatch) else None
        if refusal is None and breakers is not None:
            refusal = breakers.breaker(backend.name).refusal(is_probe=is_fit_to_probe(self.asked))
        return refusal


async def make_case(dispatcher: Dispatcher, request: Request, caller: Caller, *, enhancing: str = "") -> Case:
    """Return the case of a request, decided by the dispatcher itself. Whose turn it is stays as it was.

    ``enhancing`` is the rule where the request is the hub's own question about a prompt.
    """
    beside = attrs.evolve(dispatcher, balancer=copy.copy(dispatcher.balancer), only_explains=True)
    dispatch = await beside.dispatch(request, caller)
    dispatch.enhancing = enhancing
    case = Case(dispatcher, caller, request, dispatch, _route(beside, dispatch, request), _is_allowed(request, caller))
    case.in_line = tuple(dispatch.candidates)
    if dispatch.refusal is not None:
        case.error = dispatch.refusal
        return case
    caching = case.layer(Caching)
    if caching is not None and not caching.bypassed(dispatch):
        case.key, case.cache = await caching.look(dispatch)
    if not case.is_settled:
        _settle(case)
    return case


def _is_allowed(request: Request, caller: Caller) -> bool:
    try:
        caller.rights.check(request)
    except AgentHubError:
        return False
    return True


def _route(dispatcher: Dispatcher, dispatch: Dispatch, request: Request) -> Route:
    try:
        return dispatcher.route(Dispatch(request, dispatch.caller, request.model))
    except AgentHubError:
        return dispatcher.router.route(request.model)


def _settle(case: Case) -> None:
    """Give the dispatch to the backend that would be asked: the first that is not known to be in no state for it."""
    dispatch, failover = case.dispatch, case.layer(Failover)
    if dispatch.backend is None:
        return
    moves = Moves(dispatch, failover.retries, failover.clock) if failover is not None else None
    while dispatch.backend is not None and (refusal := case.blocked(dispatch.backend)) is not None:
        if moves is None or failover is None or not failover.cares(dispatch) or not moves.turn():
            case.error = refusal
            refusal.is_final = True
            return
