"""The hub's own middleware and its choice of a backend: an ordinary plugin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agenthub import Backend, MiddlewareType, Request, hookimpl
from agenthub.middleware.caching import make_caching
from agenthub.middleware.circuit_breaker import make_circuit_breaker
from agenthub.middleware.failover import make_failover
from agenthub.middleware.limiting import make_limits
from agenthub.middleware.logging import make_logging


@hookimpl
def agenthub_register_middleware() -> Iterable[MiddlewareType]:
    return [
        MiddlewareType("logging", make_logging),
        MiddlewareType("limits", make_limits),
        MiddlewareType("caching", make_caching),
        MiddlewareType("failover", make_failover),
        MiddlewareType("circuit_breaker", make_circuit_breaker),
    ]


@hookimpl(trylast=True)
def agenthub_select_backend(request: Request, candidates: Sequence[Backend]) -> Backend | None:
    return candidates[0]
