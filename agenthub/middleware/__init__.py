"""Around each dispatch: what flows through the chain, and the chain."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from agenthub.canonical import Answer, Batch, Finished, Loss, Request, Started, Usage
from agenthub.errors import AgentHubError
from agenthub.kept import Kept
from agenthub.middleware.slots import Slots
from agenthub.rights import EVERYTHING, Rights
from agenthub.settings import BackendSettings, Settings

if TYPE_CHECKING:
    from agenthub.adapter import Adapter
    from agenthub.shared import Shared

_UNFIT = re.compile(r"[^!-+\--~]")
_LONGEST_NAME, _MOST_NAMES = 64, 32
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@attrs.define(eq=False)
class Backend:
    """One configured upstream with the adapters that are open for it, by kind."""

    name: str
    settings: BackendSettings
    adapters: Mapping[str, Adapter] = attrs.field(factory=dict, repr=False)
    slots: Slots = attrs.field(
        default=attrs.Factory(lambda self: Slots(self.name, self.settings), takes_self=True), repr=False
    )
    is_up: bool = True
    """False while the health checks find that it does not answer."""
    loaded: frozenset[str] = frozenset()
    """The keys of the models that it holds in memory, where it tells."""
    answers: frozenset[str] = frozenset()
    """The kinds of the adapters whose API the upstream speaks; empty as long as nobody asked, or it answers nothing."""
    contexts: Mapping[str, int] = attrs.field(factory=dict)
    """The context of each model that it holds in memory, in tokens by the model's key, where it tells."""
    lacks: dict[str, frozenset[str]] = attrs.field(factory=dict, repr=False)
    """What its models cannot do, by their keys, in Ollama's words; empty where they can do all, or it does not tell."""
    used: set[str] = attrs.field(factory=set, repr=False)
    """The keys of models that were used and of which nothing is known in ``lacks``."""
    has_long_prompts: bool = False
    """True as soon as a prompt was so long that it matters with which context its model is loaded."""
    rests_until: float = 0.0
    """Until when, in monotonic seconds, it asked not to be asked."""


@attrs.define
class Caller:
    """What the HTTP request says beside its body: who asks, and how."""

    request_id: str = ""
    client: str = ""
    dialect: str = ""
    api_mode: str = ""
    strict: bool = False
    no_cache: bool = False
    no_store: bool = False
    reply_headers: Mapping[str, str] = _NO_HEADERS
    """What each answer to it carries in its headers, an error as well."""
    cut: AgentHubError | None = None
    """Why the hub itself breaks its request off, by cancelling; None where the client has left."""
    hubs: tuple[str, ...] = ()
    """The hubs that its request has come through, by their names in ``Via``."""
    rights: Rights = EVERYTHING
    shows_key: bool = False
    """True where its Authorization header holds a key of the hub's, which goes no further."""
    is_counted: bool = False
    """True once its minute is charged: what the hub asks on its behalf and its own request are one to its limit."""
    enhanced: str = ""
    """By which ``rule@version`` its prompt was put better, or why not; empty where nobody wanted that."""


@attrs.define(eq=False)
class Dispatch:
    """One request on its way, with what was decided about it and what became of it so far. Times are monotonic seconds.

    ``refusal`` is why it cannot be sent at all: then there is no backend and no adapter, and the innermost handler
    raises it. ``candidates`` are the backends that may answer it, the chosen one first; ``assign`` gives it to another
    of them, and raises AgentHubError where that one cannot take it. ``upstream_model`` is the name that the backend is
    asked for. ``cache`` is hit, miss, shared or bypass; ``cache_scope`` names the backends that an alias is pinned to,
    whose answers are for that alias only, and the digest of the model where it is known.
    """

    request: Request
    caller: Caller
    upstream_model: str
    api_mode: str = ""
    backend: Backend | None = None
    adapter: Adapter | None = None
    losses: Sequence[Loss] = ()
    candidates: Sequence[Backend] = ()
    assigner: Callable[[Dispatch, Backend], None] | None = None
    refusal: AgentHubError | None = None
    cache: str = "bypass"
    cache_scope: str = ""
    started_at: float = attrs.field(factory=time.perf_counter)
    asked_at: float | None = None
    first_event_at: float | None = None
    finished: Finished | None = None
    report: AgentHubError | None = None
    """What the upstream has reported in its stream, which decides what became of the dispatch."""
    answer: Answer | None = None
    """What its events come to, where that is known already; nobody may change it."""
    status: int | None = None
    attempts_left: int = 0
    """How often it may be sent again before its first event; the middleware ``failover`` counts."""
    bytes_sent: int = 0
    enhancing: str = ""
    """The ``rule@version`` where the hub itself asks how to put a prompt: kept under it, whatever the policy."""

    def assign(self, backend: Backend) -> None:
        """Give it to another of the ``candidates``; raises AgentHubError where that one cannot take it."""
        assert self.assigner is not None, "it was refused"
        self.assigner(self, backend)

    def began(self, batch: Batch) -> None:
        """Take up what the asking showed to be lost; to be called with the first batch, before headers are made."""
        started = batch[0]
        if type(started) is Started and started.losses:
            self.losses = (*self.losses, *(loss for loss in started.losses if loss not in self.losses))

    def sent(self, batch: Batch, size_bytes: int) -> None:
        """The consumer passed a batch on, as ``size_bytes`` on the wire; to be called before it pulls the next."""
        self.bytes_sent += size_bytes
        if self.first_event_at is None:
            self.first_event_at = time.perf_counter()
        last = batch[-1]
        if type(last) is Finished:
            self.finished = last

    @property
    def usage(self) -> Usage | None:
        return self.finished.usage if self.finished is not None else None


def field_names(losses: Sequence[Loss]) -> list[str]:
    """Return the fields' names for a header or a log line: they come from the client, so they are bounded and tamed."""
    names = [_UNFIT.sub("?", loss.field[:_LONGEST_NAME]) for loss in losses[:_MOST_NAMES]]
    return names if len(losses) <= _MOST_NAMES else [*names, "..."]


@attrs.define
class Outcome:
    """What became of a dispatch: ok, cached, shared, rejected (the client's fault), failed or abandoned (it left)."""

    name: str
    status: int | None
    total_s: float
    error: str = ""


Handler = Callable[[Dispatch], AsyncGenerator[Batch, None]]
"""The rest of the chain to the right of a middleware."""


class Middleware(Protocol):
    """Stands around each dispatch: passes batches on, may answer by itself, sees how it ends.

    One that has a method ``close()`` is told when the hub ends and no dispatch is under way. One that has a method
    ``async refusal(caller)`` is asked, before the body of a request is read, whether it would refuse it; it returns the
    AgentHubError, or None, and counts nothing.
    """

    def __call__(self, dispatch: Dispatch, handler: Handler) -> AsyncGenerator[Batch, None]: ...


@attrs.frozen
class MiddlewareContext:
    """What a middleware is made of: the settings, monotonic time in seconds, and the observers of hooks.

    ``kept.keep`` is for its state that a reload of the configuration leaves as it is. ``shared`` is what replicas have
    in common, None where there is nothing.
    """

    settings: Settings
    clock: Callable[[], float] = time.monotonic
    notify: Callable[..., None] = lambda hook, **facts: None
    kept: Kept = attrs.field(factory=Kept, repr=False)
    shared: Shared | None = None


@attrs.frozen
class MiddlewareType:
    """What a plugin registers: a name for the setting ``middleware``, and how to make it.

    ``make`` returns None where the settings leave it nothing to do: then no request passes through it.
    """

    name: str
    make: Callable[[MiddlewareContext], Middleware | None]


def build_chain(middleware: Sequence[Middleware], innermost: Handler) -> Handler:
    """Return one handler: the first middleware is the outermost."""
    handler: Any = innermost
    for layer in reversed(middleware):
        handler = partial(layer, handler=handler)
    return handler  # type: ignore[no-any-return]
