"""Which of several backends is asked first: the order of the candidates of one request.

Whatever the strategy, those come first that answer the health checks, do not rest and have a free place. Then:

==========  =====================================================================================================
strategy    order
==========  =====================================================================================================
priority    higher ``priority`` first, of equals those that hold the model in memory, then as they are configured
least_busy  fewest requests running and waiting; to load the model first counts as two
weighted    by chance, each as often as its ``weight`` says; to hold the model counts four times
sticky      each conversation at a backend of its own, as often as its ``weight`` says, and there it stays
==========  =====================================================================================================
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b

import attrs

from agenthub.canonical import ChatRequest, GenerateRequest, RelayRequest, Request
from agenthub.middleware import Backend
from agenthub.middleware.cache_key import model_key
from agenthub.settings import BalancingSettings

_LOADING_COUNTS, _LOADED_COUNTS = 2, 4
_LONGEST, _SHORT = 1024, 64
Rank = Callable[[Backend], tuple[float, ...]]


@attrs.define
class Balancer:
    """Orders candidates, best first. ``clock`` gives monotonic seconds, ``chance`` a number from 0 to 1."""

    settings: BalancingSettings
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    _turn: int = 0

    def order(self, candidates: Sequence[Backend], request: Request, client: str) -> Sequence[Backend]:
        """Return the candidates in the order in which they should be asked."""
        if len(candidates) < 2:
            return candidates
        now = self.clock()
        rank = self._rank(candidates, request, client)
        return sorted(
            candidates,
            key=lambda backend: (not backend.is_up, backend.rests_until > now, backend.slots.is_full, *rank(backend)),
        )

    def _rank(self, candidates: Sequence[Backend], request: Request, client: str) -> Rank:
        key = model_key(request.target)

        def is_loaded(backend: Backend) -> bool:
            return self.settings.prefer_loaded and key in backend.loaded

        match self.settings.strategy:
            case "least_busy":
                # Equals take turns.
                turn, size = self._turn, len(candidates)
                self._turn += 1
                places = {backend: (index - turn) % size for index, backend in enumerate(candidates)}
                return lambda backend: (_load(backend) + _LOADING_COUNTS * (not is_loaded(backend)), places[backend])
            case "weighted":
                boost = {backend: _LOADED_COUNTS if is_loaded(backend) else 1 for backend in candidates}
                return lambda backend: (_draw(self.chance(), backend.settings.weight * boost[backend]),)
            case "sticky":
                topic = _topic(request, client)
                return lambda backend: (_draw(_hashed(topic, backend.name), backend.settings.weight),)
        return lambda backend: (-backend.settings.priority, not is_loaded(backend))


def _load(backend: Backend) -> int:
    return backend.slots.in_flight + backend.slots.waiting


def _draw(chance: float, weight: int) -> float:
    """Return a number whose smallest of several falls to each as often as its weight says."""
    return -math.log(1.0 - chance) / weight


def _hashed(topic: bytes, name: str) -> float:
    digest = blake2b(topic, key=name.encode("utf-8", "surrogateescape")[:64], digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def _topic(request: Request, client: str) -> bytes:
    """Return what a conversation keeps from its first turn on: who holds it, its model and how it begins."""
    words = [client, model_key(request.target), *_beginning(request)]
    return "\0".join(word[:_LONGEST] for word in words).encode("utf-8", "surrogatepass")


def _beginning(request: Request) -> Sequence[str]:
    match request:
        case ChatRequest():
            opening = next((at for at, one in enumerate(request.messages) if one.role == "user"), 0)
            return [message.content for message in request.messages[: opening + 1]]
        case GenerateRequest():
            # Of a prompt that grows from turn to turn only the beginning stays.
            return [request.system or "", request.prompt[:_SHORT]]
        case RelayRequest():
            return []
        case _:
            # An embedding has no conversation: any backend will do, and the same text finds the same one.
            return list(request.inputs[:1])
