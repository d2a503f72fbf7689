"""Absence: why no backend answers for a model, since one whose list is not known may have it all the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agenthub.errors import AgentHubError, BackendUnavailable, UnknownModel
from agenthub.middleware import Backend

if TYPE_CHECKING:
    from agenthub.routing import Route, Router

_RETRY_AFTER_S = 10.0
"""Where the hub looks for no backend by itself."""


def named_but_down(router: Router, route: Route) -> list[Backend]:
    """Return the backends that an alias or a pattern names for the model, and whose word on it cannot be had."""
    return [backend for backend in route.candidates if router.is_named(backend, route) and _is_down(router, backend)]


def may_have(router: Router, route: Route) -> list[Backend]:
    """Return the backends that may have a model which none lists, those that are named for it first.

    A list that was fetched once tells what the backend has, also while it is down; only what names the backend for the
    model weighs more. Of a backend whose list could never be fetched nothing is known.
    """
    named = named_but_down(router, route)
    unknown = [backend for backend in route.candidates if not router.has_list(backend) and backend not in named]
    return [*named, *(backend for backend in unknown if router.serves(backend, route))]


def absence(router: Router, route: Route, model: str, suspects: Sequence[Backend]) -> AgentHubError:
    """Return the refusal: UnknownModel, or BackendUnavailable that names the first of the ``suspects``.

    Clients act on a 404: they pull the model again, or drop it from their settings.
    """
    if not suspects:
        return UnknownModel(model)
    names = " or ".join(backend.name for backend in suspects)
    error = router.error(suspects[0])
    reason = str(error) if error is not None else f"backend {suspects[0].name} does not answer the health checks"
    health = router.settings.health
    return BackendUnavailable(
        f"model '{model}' may be on backend {names}, which cannot tell: {reason}",
        retry_after_s=max(1.0, health.interval_s or health.models_refresh_s or _RETRY_AFTER_S),
    )


def _is_down(router: Router, backend: Backend) -> bool:
    return not backend.is_up or router.error(backend) is not None
