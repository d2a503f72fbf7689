"""Who could answer a request: the model's name, and each backend with what speaks for it and against it."""

from __future__ import annotations

from collections.abc import Iterator

from agenthub.absence import may_have
from agenthub.canonical import JSON, RelayRequest
from agenthub.errors import AgentHubError, BackendUnavailable
from agenthub.explaining.case import Case
from agenthub.middleware import Backend, Dispatch
from agenthub.middleware.cache_key import model_key
from agenthub.middleware.circuit_breaker import CLOSED, OPEN, CircuitBreaker
from agenthub.patterns import EVERY


def explain_model(case: Case) -> JSON:
    """Return what the model's name leads to."""
    if not case.is_allowed or not case.asked.model:
        return None
    route = case.route
    holders = [backend.name for backend in case.dispatcher.router.holders(route)]
    return {
        "asked": case.asked.model,
        "alias": route.alias or None,
        "upstream": route.upstream_model,
        "options": dict(case.dispatch.request.defaults),
        "why": _why_model(case, holders),
    }


def _why_model(case: Case, holders: list[str]) -> str:
    name = f"alias {case.route.alias} stands for {case.route.upstream_model}" if case.route.alias else "no alias"
    if holders:
        return f"{name}; listed by {', '.join(holders)}"
    default = case.dispatcher.router.default
    if default is not None and default in case.in_line:
        return f"{name}; listed by no backend, so it goes to the default one, {default.name}"
    if case.in_line:
        return f"{name}; listed by no backend, and {case.asked.operation} needs none that lists it"
    suspects = may_have(case.dispatcher.router, case.route)
    if suspects and isinstance(case.error, BackendUnavailable):
        names = " or ".join(backend.name for backend in suspects)
        return f"{name}; listed by no backend that tells, but {names} may have it"
    return f"{name}; listed by no backend, and there is no default one for it"


def explain_candidates(case: Case) -> JSON:
    """Return all backends, those in line first, each with the reasons for and against it."""
    if not case.is_allowed:
        return None
    others = [backend for backend in case.dispatcher.router.backends.values() if backend not in case.in_line]
    return [_candidate(case, backend) for backend in (*case.in_line, *others)]


def _candidate(case: Case, backend: Backend) -> JSON:
    is_in_line = backend in case.in_line
    reasons = list(_for(case, backend)) if is_in_line else []
    against = [*_unfit(case, backend), *_hindrances(case, backend)]
    if not (is_in_line or against):
        against = [f"others come first for {case.asked.operation}"]
    return {
        "backend": backend.name,
        "place": case.in_line.index(backend) + 1 if is_in_line else None,
        "is_asked": backend is case.dispatch.backend and case.error is None and not case.is_settled,
        "for": reasons,
        "against": against,
        "breaker": _breaker(case, backend),
        "queue": {
            "in_flight": backend.slots.in_flight,
            "max_concurrency": backend.settings.max_concurrency,
            "waiting": backend.slots.waiting,
            "queue_size": backend.settings.queue_size,
        },
    }


def _for(case: Case, backend: Backend) -> Iterator[str]:
    router, route = case.dispatcher.router, case.route
    if router.listed(backend, route.key) is not None:
        yield f"lists {route.upstream_model}"
    elif backend is router.default:
        yield "is the default backend"
    if route.alias and router.settings.models[route.alias].backends:
        yield f"alias {route.alias} names it"
    elif backend.settings.models != EVERY and router.serves(backend, route):
        yield "its own patterns of models fit"
    if len(case.in_line) > 1 and not isinstance(case.asked, RelayRequest):
        yield from _rank(case, backend)


def _rank(case: Case, backend: Backend) -> Iterator[str]:
    """Yield what the strategy goes by; see ``agenthub.balancing``."""
    settings = case.dispatcher.balancer.settings
    is_loaded = settings.prefer_loaded and model_key(case.route.upstream_model) in backend.loaded
    loaded = ["holds the model in memory"] if is_loaded else []
    match settings.strategy:
        case "priority":
            yield from (f"priority {backend.settings.priority}", *loaded)
        case "least_busy":
            yield from (f"{backend.slots.in_flight + backend.slots.waiting} requests running and waiting", *loaded)
            yield "equals take turns"
        case "weighted":
            yield from (f"weight {backend.settings.weight}, by chance: another time the order is another", *loaded)
        case "sticky":
            yield f"weight {backend.settings.weight}; the order is that of this conversation"


def _unfit(case: Case, backend: Backend) -> Iterator[str]:
    """Yield why the backend is not in line, or could not take the request as it is."""
    router, route = case.dispatcher.router, case.route
    if backend not in router.route(case.asked.model).candidates:
        yield f"alias {route.alias} does not name it"
    if case.asked.model and not router.serves(backend, route):
        yield f"its patterns of models do not fit {route.upstream_model}"
    if case.asked.model and router.listed(backend, route.key) is None:
        error = router.error(backend)
        yield f"does not list {route.upstream_model}" if error is None else f"its models are not known: {error}"
    if case.dispatch.assigner is not None:
        beside = Dispatch(case.dispatch.request, case.caller, case.asked.model)
        try:
            case.dispatch.assigner(beside, backend)
        except AgentHubError as refusal:
            yield str(refusal)


def _hindrances(case: Case, backend: Backend) -> Iterator[str]:
    rest_s = backend.rests_until - case.dispatcher.balancer.clock()
    if not backend.is_up:
        yield "does not answer the health checks"
    if rest_s > 0:
        yield f"asked to be left alone for {rest_s:.0f} s more"
    if backend.slots.is_full:
        yield f"all its places ({backend.settings.max_concurrency}) are taken"
    if (blocked := case.blocked(backend)) is not None:
        yield str(blocked)


def _breaker(case: Case, backend: Backend) -> JSON:
    layer = case.layer(CircuitBreaker)
    if layer is None:
        return None
    breaker = layer.breaker(backend.name)
    state = {"state": breaker.state, "failures": breaker.failures}
    if breaker.state == CLOSED:
        return state
    wait_s = max(breaker.wait_s, 0.0) if breaker.state == OPEN else 0.0
    return {**state, "probe_in_s": round(wait_s, 1), "probes": breaker.probes}
