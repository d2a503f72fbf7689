"""Failing over: sends a request to its backend when a place is free there, and to the next one when that fails.

After the first event a request is never sent again: the client has seen a part of the answer. Before it, in this order:

===============================================  ===============================================================
failure                                          what is done
===============================================  ===============================================================
the breaker is open, the queue is full           the next backend, at once; nothing was sent
unreachable, broken off, silent, garbage, 5xx    the next backend, at once
404, 429, 501, the hub's key is refused          the next backend, at once
429 or 503, and there is no other backend        the same again, after Retry-After or a short wait
a reused connection was closed without a byte    the next backend, at once; where there is no other, the same again
a second backend broke off                       the answer, 502: what kills one backend is not tried on all
a mistake of the client, a missing tool call     the answer
===============================================  ===============================================================

``retries.attempts`` bounds how often it is sent in all, ``retries.budget_s`` how long after the first failure. Whether
the client need not ask again (``is_final``) has no say in this.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING

import attrs
import structlog

from agenthub.canonical import Batch, Finished, RelayRequest
from agenthub.errors import (
    AgentHubError,
    BackendUnavailable,
    DispatchError,
    KeyRefused,
    UnreadableAnswer,
    UpstreamError,
    UpstreamStatus,
)
from agenthub.middleware import Backend, Dispatch, Handler, MiddlewareContext
from agenthub.middleware.retry_after import BUSY, retry_after_s
from agenthub.offload import offload
from agenthub.settings import RetrySettings

if TYPE_CHECKING:
    from stamina import Attempt

_ELSEWHERE = frozenset({404, 429, 501})
_FIRST_WAIT_S, _LONGEST_WAIT_S, _LONGEST_REST_S = 0.1, 2.0, 60.0
_log = structlog.get_logger("agenthub")


@attrs.define
class Failover:
    """The middleware. What manages models is sent once, without a place; only show may be asked of the next backend."""

    retries: RetrySettings
    clock: Callable[[], float] = time.monotonic

    def __call__(self, dispatch: Dispatch, handler: Handler) -> AsyncGenerator[Batch, None]:
        return self._sent(dispatch, handler) if self.cares(dispatch) else handler(dispatch)

    def cares(self, dispatch: Dispatch) -> bool:
        """Say whether a dispatch needs a place, and may go to another backend."""
        request = dispatch.request
        return dispatch.backend is not None and (not isinstance(request, RelayRequest) or request.verb == "show")

    async def _sent(self, dispatch: Dispatch, handler: Handler) -> AsyncGenerator[Batch, None]:
        moves: Moves | None = None
        dispatch.attempts_left = self.retries.attempts - 1 if self.retries.budget_s else 0
        # To show a model costs the backend next to nothing, and who asks for it waits for a list to come up.
        needs_place = not isinstance(dispatch.request, RelayRequest)
        while True:
            assert dispatch.backend is not None
            slots, has_place, begun, is_over = dispatch.backend.slots, False, False, False
            failure: DispatchError | None = None
            final: DispatchError | None = None
            batches: AsyncGenerator[Batch, None] | None = None
            try:
                if needs_place and not slots.take():
                    await slots.wait()
                has_place = needs_place
                batches = handler(dispatch)
                async for batch in batches:
                    begun = True
                    if has_place and type(batch[-1]) is Finished:
                        # The upstream has done its work; the client may take its time.
                        slots.give_back()
                        has_place = False
                    yield batch
                is_over = True
                return
            except DispatchError as error:
                if begun:
                    raise
                failure = error
            finally:
                # What has ended is closed; aclosing would ask it once more, at the price of a batch.
                try:
                    if not (is_over or batches is None):
                        await batches.aclose()
                finally:
                    if has_place:
                        slots.give_back()
            moves = moves or Moves(dispatch, self.retries, self.clock)
            try:
                if (final := await moves.after(failure)) is not None:
                    moves = None
                    raise final
            finally:
                # Else it would stand in a circle with its traceback, which takes what this request held along.
                failure = final = None


class _Failed(Exception):
    """Stands for a failure where stamina would keep that, with its traceback, in a circle of its own."""


@attrs.define
class Moves:
    """Where one request goes after each of its failures."""

    dispatch: Dispatch
    retries: RetrySettings
    clock: Callable[[], float]
    _tried: list[Backend] = attrs.field(factory=list)
    _broke_off: list[str] = attrs.field(factory=list)
    _stale: Backend | None = None
    _sent: int = 1
    _last: DispatchError | None = None
    _attempts: AsyncIterator[Attempt] | None = None
    _attempt: Attempt | None = None
    _failure: DispatchError | None = None

    async def after(self, failure: DispatchError) -> DispatchError | None:
        """Give the dispatch to the backend that is asked next, having waited as long as needed; else return the error.

        That is returned and not raised, so that no frame of this class is in its traceback.
        """
        backend = self.dispatch.backend
        assert backend is not None
        if backend not in self._tried:
            self._tried.append(backend)
        if isinstance(failure, UpstreamError):
            self._last = failure
            self._rest(backend, failure)
            if failure.broke_off and backend.name not in self._broke_off:
                self._broke_off.append(backend.name)
                if len(self._broke_off) > 1:
                    self._last = None
                    return _deadly(self._broke_off, failure)
        if isinstance(failure, BackendUnavailable):
            # Nothing was sent, so that this is no attempt.
            if self._move(failure) or self._return(failure):
                return None
            final, self._last = self._last or failure, None
            final.is_final = True
            return final
        self._failure = failure
        has_next = await self._next_attempt()
        self._failure = None
        if not has_next:
            self._last = None
            failure.is_final = self._sent > 1 or failure.is_final
            return failure
        is_stale = isinstance(failure, UpstreamError) and failure.is_stale
        if await self._moved(failure):
            self._stale = backend if is_stale else None
        elif not is_stale and failure.status not in BUSY:
            self._last = None
            return failure
        self._sent += 1
        self.dispatch.attempts_left -= 1
        return None

    async def _next_attempt(self) -> bool:
        """Let stamina count the attempts, keep the budget and wait; say whether there is another."""
        if self._verdict(_Failed()) is False:
            return False
        if self._attempts is None:
            self._attempts = _attempts(self.retries, self._verdict)
            self._attempt = await anext(self._attempts)
        assert self._attempt is not None
        try:
            with self._attempt:
                raise _Failed
            self._attempt = await anext(self._attempts)
        except _Failed:
            return False
        return True

    def _verdict(self, failed: Exception) -> bool | float:
        """Say whether to send again, and after how many seconds: True leaves the wait to stamina."""
        failure = self._failure
        if not self.retries.budget_s or not isinstance(failure, UpstreamError):
            return False
        status = failure.status if isinstance(failure, UpstreamStatus) else None
        is_elsewhere = isinstance(failure, KeyRefused | UnreadableAnswer) or status in _ELSEWHERE
        may_move = (failure.counted or is_elsewhere) and len(self._tried) < len(self.dispatch.candidates)
        if failure.is_stale or may_move:
            return 0.0
        if status not in BUSY:
            return False
        wait_s = retry_after_s(failure)
        return True if wait_s is None else wait_s <= self.retries.budget_s and wait_s

    async def _moved(self, failure: DispatchError) -> bool:
        return await offload(self.dispatch.request.size_bytes, self._move, failure)

    def _move(self, failure: DispatchError) -> bool:
        """Give the dispatch to the next backend, and log it."""
        before = self.dispatch.backend
        assert before is not None
        if not self.turn():
            return False
        self._log_move(before, failure)
        return True

    def _return(self, failure: DispatchError) -> bool:
        """Give the dispatch back to the backend that may not have read it, where no other takes it; False for none."""
        before, backend = self.dispatch.backend, self._stale
        self._stale = None
        if backend is None or before is None:
            return False
        self.dispatch.assign(backend)
        self._log_move(before, failure)
        return True

    def _log_move(self, before: Backend, failure: DispatchError) -> None:
        assert self.dispatch.backend is not None
        facts = {"request_id": self.dispatch.caller.request_id, "backend": before.name, "error": str(failure)}
        _log.info("agenthub.request_moved", to=self.dispatch.backend.name, **facts)

    def turn(self) -> bool:
        """Give the dispatch to the best backend that was not tried and takes it; False where there is none."""
        before = self.dispatch.backend
        assert before is not None
        if before not in self._tried:
            self._tried.append(before)
        for backend in self.dispatch.candidates:
            if backend in self._tried:
                continue
            try:
                self.dispatch.assign(backend)
            except AgentHubError:
                self._tried.append(backend)
                self.dispatch.assign(before)
                continue
            return True
        return False

    def _rest(self, backend: Backend, failure: UpstreamError) -> None:
        wait_s = retry_after_s(failure)
        if wait_s and len(self.dispatch.candidates) > 1:
            backend.rests_until = self.clock() + min(wait_s, _LONGEST_REST_S)


def _deadly(backends: list[str], failure: UpstreamError) -> UpstreamError:
    """Return the answer to a request that two backends did not survive."""
    text = f"the request broke off {' and '.join(backends)}, so it is sent to no other backend: {failure}"
    error = UpstreamError(text)
    error.is_final = error.broke_off = True
    return error


def _attempts(retries: RetrySettings, verdict: Callable[[Exception], bool | float]) -> AsyncIterator[Attempt]:
    # Imported at the first failure: most processes start without one.
    import stamina
    import stamina.instrumentation

    stamina.instrumentation.set_on_retry_hooks([])  # our own line says more
    context = stamina.retry_context(
        on=verdict,
        attempts=retries.attempts,
        timeout=retries.budget_s,
        wait_initial=_FIRST_WAIT_S,
        wait_max=_LONGEST_WAIT_S,
        wait_jitter=_FIRST_WAIT_S,
    )
    return aiter(context)


def make_failover(context: MiddlewareContext) -> Failover:
    """Return the middleware for the settings."""
    return Failover(context.settings.retries, context.clock)
