"""What a client may do: the operations it may ask for, and the models it may name."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from agenthub.canonical import RelayRequest, Request
from agenthub.dialects.names import top_level_names
from agenthub.errors import Forbidden, InvalidRequest, UnknownModel
from agenthub.operations import GROUPS
from agenthub.patterns import EVERY, fits

_NAMING = frozenset({"model", "name", "from", "source", "destination"})
"""Members of a body that name a model, in one verb or another."""
_ELSEWHERE = frozenset({"models", "fallbacks", "modelfile"})
"""Members by which some upstreams take further models: lists to fall back on, and what old Ollamas created from."""


@attrs.frozen
class Rights:
    """``models`` are patterns of names as clients write them, aliases under their own; ``operations`` are all words."""

    models: tuple[str, ...] = EVERY
    operations: frozenset[str] = GROUPS["all"]

    def may_use(self, model: str) -> bool:
        """Say whether the model is one of the client's."""
        return fits(model, self.models)

    def refusal(self, operation: str) -> Forbidden | None:
        """Return what ``check_operation`` would raise."""
        if operation in self.operations:
            return None
        return Forbidden(f"this client may not use the operation {operation}")

    def check_operation(self, operation: str) -> None:
        """Raise Forbidden for an operation that is not the client's."""
        if (refusal := self.refusal(operation)) is not None:
            raise refusal

    def check(self, request: Request) -> None:
        """Raise Forbidden for what may not be asked; a model to be shown is just not there (UnknownModel)."""
        self.check_operation(request.operation)
        if self.models == EVERY:
            return
        for model in _named(request):
            if not self.may_use(model):
                if request.operation == "show":
                    raise UnknownModel(model)
                raise Forbidden(f"this client may not use model '{model}'", param="model")
        if request.source is not None:
            _refuse_second_names(request.source.body)


def _named(request: Request) -> Iterator[str]:
    """Yield every model that a request names."""
    if not isinstance(request, RelayRequest) or request.model:
        yield request.model
    if isinstance(request, RelayRequest) and request.verb in ("create", "copy"):
        yield str(request.arguments["model" if request.verb == "create" else "destination"])


def _refuse_second_names(body: bytes) -> None:
    """Raise for a body in which an upstream, which is sent these bytes, may read another model than the hub did.

    Of members of one name some readers take the first and some the last, and Go's takes any case for the same.
    """
    seen: set[str] = set()
    for name in top_level_names(body):
        folded = name.casefold()
        if folded in _ELSEWHERE:
            raise Forbidden(f"this client may not use the field {folded}", param=folded)
        if folded in _NAMING and folded in seen:
            raise InvalidRequest(f"the field {folded} is given twice", param=folded)
        if folded in _NAMING:
            seen.add(folded)


EVERYTHING = Rights()
"""Of whoever nothing is said about."""
