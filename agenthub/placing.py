"""Which backends a management verb may go to: also models that are still to come have a place.

======================  =====================================================================================
verb                    goes to
======================  =====================================================================================
show, push, delete      the backend that has the model
copy                    the backend that has the source
pull                    the backend that has the model, else one that the alias or a pattern names
create from a model     the backend that has it, else as pull: Ollama pulls it first
create from files       the default backend
blobs                   the default backend
======================  =====================================================================================

Of several, those come first whose adapter has the verb, and to show a model those that are up. Where none is found: the
default backend, and where that is missing or lacks the verb, the first backend that has it. Uploads and what is created
from them never part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs

from agenthub.canonical import RelayRequest
from agenthub.dialects.ollama.managing import FILES
from agenthub.errors import UnknownModel
from agenthub.middleware import Backend
from agenthub.routing import Route, Router

NEW_NAMES = frozenset({"pull", "create", "blobs"})
"""The verbs that need no model to be there."""


def place(router: Router, request: RelayRequest, has_verb: Callable[[Backend, Route], bool]) -> Route:
    """Return the route, its candidates best first; raise UnknownModel where there is no place for the model.

    Raises BackendUnavailable where a backend that is down may have the model that the verb is for.
    Where ``has_verb`` is true of none, the candidates are those that it is to be told of.
    """

    def able(backends: Iterable[Backend]) -> list[Backend]:
        return [backend for backend in backends if has_verb(backend, route)]

    if request.verb not in NEW_NAMES:
        route = router.resolve(request.model)
        candidates = able(route.candidates) or route.candidates
        if request.verb == "show":
            candidates = sorted(candidates, key=lambda backend: not backend.is_up)
        return attrs.evolve(route, candidates=candidates)
    goes_by_model = bool(request.model) and not any(request.arguments.get(name) for name in FILES)
    route = router.route(request.model)
    found = _homes(router, route) if goes_by_model else []
    if found:
        return attrs.evolve(route, candidates=able(found) or found)
    anywhere = list(router.backends.values())
    serving = [backend for backend in route.candidates if router.serves(backend, route)] if goes_by_model else anywhere
    if not serving:
        raise UnknownModel(request.model)
    default = [backend for backend in serving if backend is router.default]
    candidates = able(default) or able(serving) or default or serving
    return attrs.evolve(route, candidates=candidates[:1])


def _homes(router: Router, route: Route) -> Sequence[Backend]:
    return router.holders(route) or [backend for backend in route.candidates if router.is_named(backend, route)]
