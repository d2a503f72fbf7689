"""What both dialects list: the union of the backends' models, fresh where a backend answers."""

from __future__ import annotations

from agenthub.api.hops import tell_loops
from agenthub.api.hub import Hub
from agenthub.canonical import ModelInfo
from agenthub.middleware import Caller


async def listed_models(hub: Hub, caller: Caller) -> list[ModelInfo]:
    """Return all models that the caller may use, asked for anew, so that one that was pulled a second ago is in it.

    A backend that does not answer keeps its last list; raises its UpstreamError only where nothing is known at all.
    """
    await hub.router.refresh()
    tell_loops(caller)
    return known_models(hub, caller)


def known_models(hub: Hub, caller: Caller) -> list[ModelInfo]:
    """Return the same as far as it is known by now."""
    models = hub.router.models()
    errors = [error for backend in hub.router.backends.values() if (error := hub.router.error(backend)) is not None]
    if not models and errors and len(errors) == len(hub.router.backends):
        raise errors[0]
    return [model for model in models if caller.rights.may_use(model.name)]
