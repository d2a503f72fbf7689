"""Circuit breaking, one breaker a backend: after failures in a row it is left alone for a while, then probed."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from functools import partial

import attrs
import structlog

from agenthub.canonical import Batch, Finished, RelayRequest, Request
from agenthub.errors import BackendUnavailable, UpstreamError
from agenthub.middleware import Dispatch, Handler, MiddlewareContext
from agenthub.settings import CircuitBreakerSettings
from agenthub.shared.board import place_name

_log = structlog.get_logger("agenthub")

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"
_NO_TICKET = -1


@attrs.define
class Breaker:
    """closed: all pass; open: none for ``open_for_s``; half_open: ``half_open_probes`` at a time, which decide.

    ``admit`` before each call, then exactly one of ``succeeded``, ``failed`` and ``released`` (no verdict) with what
    ``admit`` returned. A verdict counts only in the state that the call was admitted in.

    Replicas of the hub may share it: ``moved`` is told of what happens here, ``adopt`` of what happened elsewhere, and
    ``is_wanted`` says that a call was refused since it opened.
    """

    name: str
    settings: CircuitBreakerSettings
    clock: Callable[[], float] = time.monotonic
    changed: Callable[[str, str, str], None] = lambda name, old, new: None
    state: str = CLOSED
    failures: int = 0
    opened_at: float = 0.0
    probes: int = 0
    is_wanted: bool = False
    moved: Callable[[], None] = lambda: None
    _epoch: int = 0

    @property
    def wait_s(self) -> float:
        """How long it is until a probe may pass, where it is open; negative if one might have long since."""
        return self.opened_at + self.settings.open_for_s - self.clock()

    def admit(self, *, is_probe: bool = True) -> int:
        """Return a ticket, or raise BackendUnavailable with the seconds until the next probe.

        What is no probe passes as probes do, but its verdict counts only while the breaker is closed.
        """
        if self.state == CLOSED:
            return self._epoch
        if (refusal := self.refusal(is_probe=is_probe)) is not None:
            self.is_wanted = True
            raise refusal
        if not is_probe:
            return _NO_TICKET
        if self.state == OPEN:
            self._change(HALF_OPEN)
        self.probes += 1
        return self._epoch

    def refusal(self, *, is_probe: bool = True) -> BackendUnavailable | None:
        """Return what ``admit`` would raise at this moment, None where the call would pass; changes nothing."""
        if self.state == CLOSED:
            return None
        wait = self.wait_s
        is_over = self.state == OPEN and wait <= 0
        is_taken = self.state == HALF_OPEN and is_probe and self.probes >= self.settings.half_open_probes
        if is_over or (self.state == HALF_OPEN and not is_taken):
            return None
        return BackendUnavailable(
            f"backend {self.name} is unavailable: its circuit breaker is open", retry_after_s=max(wait, 1.0)
        )

    def is_probe(self, ticket: int) -> bool:
        """Say whether a call under way is one that the breaker waits for."""
        return ticket == self._epoch and self.state == HALF_OPEN

    def proved(self, ticket: int) -> int:
        """The backend began to answer a probe: close, and return the ticket for the rest of the call."""
        self.succeeded(ticket)
        return self._epoch

    def succeeded(self, ticket: int) -> None:
        """The backend answered; a probe that succeeds closes the breaker."""
        if ticket != self._epoch:
            return
        self.failures = 0
        if self.state == HALF_OPEN:
            self._change(CLOSED)

    def failed(self, ticket: int) -> None:
        """The backend failed; a probe that fails opens the breaker again."""
        if ticket != self._epoch:
            return
        self.failures += 1
        threshold = self.settings.failure_threshold
        if self.state == HALF_OPEN or (threshold and self.failures >= threshold):
            self._change(OPEN)

    def released(self, ticket: int) -> None:
        """The call ended without a verdict: give its probe back."""
        if ticket == self._epoch and self.state == HALF_OPEN:
            self.probes -= 1

    def reset(self) -> None:
        """Close the breaker by hand, and those of the other replicas, even where this one is closed."""
        if self.state != CLOSED:
            self._change(CLOSED)
        else:
            self.failures = 0
            self.moved()

    def adopt(self, state: str, left_s: float = 0.0) -> None:
        """Follow another replica: closed, open for ``left_s`` seconds more, or half_open, probed there for so long.

        A probe of its own goes on beside another's, but has no say any more where the other's verdict is in.
        """
        if state == CLOSED:
            if self.state != CLOSED:
                self._change(CLOSED, is_own=False)
        elif state == OPEN or self.state != HALF_OPEN:
            if self.state != OPEN:
                self._change(OPEN, is_own=False)
            self.opened_at = self.clock() + left_s - self.settings.open_for_s

    def _change(self, new: str, *, is_own: bool = True) -> None:
        old, self.state = self.state, new
        self._epoch += 1
        self.probes = self.failures = 0
        self.is_wanted = False
        if new == OPEN:
            self.opened_at = self.clock()
        self.changed(self.name, old, new)
        if is_own:
            self.moved()


@attrs.define
class CircuitBreaker:
    """The middleware: admits each dispatch to its backend and reports the verdict."""

    make: Callable[[str], Breaker]
    breakers: dict[str, Breaker] = attrs.field(factory=dict)

    def breaker(self, name: str) -> Breaker:
        """Return the breaker of a backend."""
        breaker = self.breakers.get(name)
        if breaker is None:
            breaker = self.breakers[name] = self.make(name)
        return breaker

    def __call__(self, dispatch: Dispatch, handler: Handler) -> AsyncGenerator[Batch, None]:
        if dispatch.backend is None:
            return handler(dispatch)
        return _guarded(self.breaker(dispatch.backend.name), dispatch, handler)


def is_fit_to_probe(request: Request) -> bool:
    """Say whether the answer may decide: a client takes its time for an upload, and before its end nothing is known."""
    return not isinstance(request, RelayRequest) or request.content is None


async def _guarded(breaker: Breaker, dispatch: Dispatch, handler: Handler) -> AsyncGenerator[Batch, None]:
    relayed = dispatch.request if isinstance(dispatch.request, RelayRequest) else None
    ticket = breaker.admit(is_probe=is_fit_to_probe(dispatch.request))
    verdict = breaker.released
    # The end of an answer may be minutes away, that of a pull hours, and others wait for what a probe finds.
    is_probe = breaker.is_probe(ticket)
    batches: AsyncGenerator[Batch, None] | None = None
    is_over = False
    try:
        batches = handler(dispatch)
        async for batch in batches:
            if type(batch[-1]) is Finished:
                # Whatever the client does now, the backend has done its work.
                verdict = breaker.succeeded
            elif is_probe:
                is_probe, ticket = False, breaker.proved(ticket)
            elif relayed is not None and verdict == breaker.released:
                breaker.succeeded(ticket)
                verdict = breaker.succeeded
            yield batch
        is_over = True
    except UpstreamError as error:
        # An error below 500 is the backend doing its work: it is up. A stale connection tells neither, so it is left to
        # the next attempt; where there is none, the client has seen a failure.
        if not (error.is_stale and dispatch.attempts_left):
            verdict = breaker.failed if error.counted else breaker.succeeded
        raise
    finally:
        # What has ended is closed; aclosing would ask it once more, at the price of a batch.
        try:
            if not (is_over or batches is None):
                await batches.aclose()
        finally:
            verdict(ticket)


def make_circuit_breaker(context: MiddlewareContext) -> CircuitBreaker:
    """Return the middleware for the settings; each transition is logged and told to the plugins.

    After a reload the breaker of a backend goes on as it is, unless the backend's URL is another.
    """

    def changed(backend: str, old: str, new: str) -> None:
        _log.warning("agenthub.breaker_changed", backend=backend, old=old, new=new)
        context.notify("agenthub_breaker_changed", backend=backend, old=old, new=new)

    def make(name: str) -> Breaker:
        return Breaker(name, context.settings.circuit_breaker, context.clock, changed)

    kept = {
        name: context.kept.keep(f"circuit_breaker.{name}", backend.url, partial(make, name))
        for name, backend in context.settings.backends.items()
    }

    if context.shared is not None:
        for name, breaker in kept.items():
            context.shared.board.join(place_name(name, context.settings.backends[name].url), breaker)

    def adopt(name: str) -> Breaker:
        # At the first dispatch, when the hub before takes none any more: from now on it goes by the new settings.
        breaker = kept.get(name) or make(name)
        breaker.settings, breaker.changed = context.settings.circuit_breaker, changed
        return breaker

    return CircuitBreaker(adopt)
