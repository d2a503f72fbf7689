"""Caching: a finished answer is kept and served again, one under way is shared; to any dialect, whole or streamed."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterator
from contextlib import aclosing
from functools import partial

import attrs
import structlog
from aiocache.base import BaseCache

from agenthub.canonical import Batch, ChatRequest, EmbedRequest, GenerateRequest, Request, TextRequest
from agenthub.dialects.losses import is_representable
from agenthub.middleware import Dispatch, Handler, MiddlewareContext
from agenthub.middleware.cache_entry import Entry, Recording, Room
from agenthub.middleware.cache_key import make_key
from agenthub.middleware.cache_shared import make_shared_cache
from agenthub.middleware.cache_store import BoundedMemoryCache
from agenthub.middleware.flight import Flight, Flights
from agenthub.offload import is_large, offload
from agenthub.settings import CachingSettings

_log = structlog.get_logger("agenthub")


@attrs.define
class Caching:
    """The middleware. A failure of the cache is a miss, never an error.

    ``clock`` gives monotonic seconds, which ``sleep`` lets pass.
    """

    settings: CachingSettings
    store: BaseCache
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    flights: Flights = attrs.field(factory=Flights)
    room: Room = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.room = Room(self.settings.max_bytes or sys.maxsize)

    def __call__(self, dispatch: Dispatch, handler: Handler) -> AsyncGenerator[Batch, None]:
        if self.bypassed(dispatch):
            return handler(dispatch)
        return self._renewed(dispatch, handler) if dispatch.caller.no_cache else self._cached(dispatch, handler)

    def bypassed(self, dispatch: Dispatch) -> str:
        """Return why the answer is neither looked up nor kept; empty where it may be."""
        if dispatch.refusal is not None:
            return "the request is refused"
        if dispatch.caller.no_store:
            return "Cache-Control: no-store"
        policy = self.settings.policy
        if dispatch.enhancing and policy != "off":
            # One good way to put a prompt is as good as another.
            policy = "all"
        return uncacheable(dispatch.request, policy)

    async def look(self, dispatch: Dispatch) -> tuple[str, str]:
        """Return the key of a dispatch that is not bypassed, and hit, shared or miss: what it would be just now.

        Nothing is changed by that, not even the order in which entries are forgotten.
        """
        key = await _offloaded_key(dispatch)
        if dispatch.caller.no_cache:
            return key, "miss"
        if self.flights.find(_alike(key, dispatch)) is not None:
            return key, "shared"
        return key, "miss" if await self._read(self.store.peek, key, dispatch.request) is None else "hit"

    def close(self) -> None:
        """Stop what is under way: only the storing of answers whose clients have left."""
        self.flights.stop()

    async def _cached(self, dispatch: Dispatch, handler: Handler) -> AsyncGenerator[Batch, None]:
        key = await _offloaded_key(dispatch)
        # First who is under way: that costs nothing, and reading may mean to ask a server.
        flight = self.flights.find(_alike(key, dispatch)) if self.flights else None
        if flight is None:
            entry = await self._read(self.store.get, key, dispatch.request)
            if entry is not None:
                dispatch.cache = "hit"
                if not dispatch.request.wants_stream:
                    dispatch.answer = entry.answer
                    yield entry.batch
                    return
                if self.settings.replay == "at_once":
                    yield entry.batch
                    return
                async for batch in self._replayed(entry):
                    yield batch
                return
            flight = self.flights.find(_alike(key, dispatch)) if self.flights else None
        if flight is None:
            dispatch.cache = "miss"
            (reader,) = self._start(key, dispatch, handler).readers
        else:
            dispatch.cache = "shared"
            reader = flight.join(dispatch)
        try:
            while (taken := await reader.take()) is not None:
                yield taken
        finally:
            await reader.leave()

    def _start(self, key: str, dispatch: Dispatch, handler: Handler) -> Flight:
        flight = Flight(dispatch, handler, self._recording(), partial(self._keep, key, dispatch, dispatch.api_mode))
        self.flights.add(next(_alike(key, dispatch)), flight)
        return flight

    async def _renewed(self, dispatch: Dispatch, handler: Handler) -> AsyncGenerator[Batch, None]:
        """Yield a new answer, shared with nobody, and keep it in the place of the old one."""
        api_mode = dispatch.api_mode
        key = await _offloaded_key(dispatch)
        recording = self._recording()
        try:
            async with aclosing(handler(dispatch)) as batches:
                async for batch in batches:
                    recording.add(batch, dispatch.losses)
                    if recording.is_finished:
                        # Before the client has its end: one that leaves with it takes nothing away.
                        await self._keep(key, dispatch, api_mode, recording.entry())
                    yield batch
        finally:
            recording.release()

    async def _replayed(self, entry: Entry) -> AsyncGenerator[Batch, None]:
        started_at = self.clock()
        for batch, offset_s in zip(entry.batches, entry.offsets_s, strict=True):
            if (wait_s := started_at + offset_s - self.clock()) > 0:
                await self.sleep(wait_s)
            yield batch

    def _recording(self) -> Recording:
        return Recording(self.room.max_bytes, self.clock, self.room)

    async def _read(self, get: Callable[[str], Awaitable[object]], key: str, request: Request) -> Entry | None:
        try:
            entry = await get(key)
        except Exception as error:
            _log.warning("agenthub.cache_failed", operation="read", error=str(error))
            return None
        if not isinstance(entry, Entry) or (request.wants_usage and not entry.is_counted):
            return None
        return entry

    async def _keep(self, key: str, dispatch: Dispatch, api_mode: str, entry: Entry) -> None:
        # Another backend may have answered through another API, which carried less of it, or more.
        await self._write(key if dispatch.api_mode == api_mode else await _offloaded_key(dispatch), entry)

    async def _write(self, key: str, entry: Entry) -> None:
        try:
            await self.store.set(key, entry, ttl=self.settings.ttl_s or None)
        except Exception as error:
            _log.warning("agenthub.cache_failed", operation="write", error=str(error))


async def _offloaded_key(dispatch: Dispatch) -> str:
    if is_large(dispatch.request.size_bytes):
        return await offload(dispatch.request.size_bytes, cache_key, dispatch)
    return cache_key(dispatch)


def cache_key(dispatch: Dispatch) -> str:
    """Return the name under which the answer is kept."""
    request, scope = dispatch.request, dispatch.cache_scope
    if isinstance(request, TextRequest) and request.choices > 1:
        # One API ignores the wish for several, another grants it, and for a third the hub asks several times.
        scope = f"{scope} {dispatch.api_mode}"
    if dispatch.losses:
        # The answer to a request that lost a part on its way is none to one that lost nothing, or something else.
        lost = [loss.field for loss in dispatch.losses if not loss.is_note and loss.field != "keep_alive"]
        scope = f"{scope} -{','.join(sorted(lost))}" if lost else scope
    if dispatch.enhancing:
        scope = f"{scope} {dispatch.enhancing}"
    return make_key(request, dispatch.upstream_model, scope)


def _alike(key: str, dispatch: Dispatch) -> Iterator[Hashable]:
    """Yield what names the flights that a dispatch may join: its own kind first.

    A stream is good for a client that wants the whole answer; not the other way round, since that comes at its end. An
    answer with token counts is good for a client that wants none. A request of another hub joins only what came the
    same way: two hubs in a ring would else wait for each other's answer.
    """
    request = dispatch.request
    alike = (key, dispatch.api_mode, request.strict, dispatch.caller.hubs)
    yield (*alike, request.wants_stream, request.wants_usage)
    yield (*alike, True, True)


def uncacheable(request: Request, policy: str) -> str:
    """Return why the answer to ``request`` may not be stored and served again; empty where it may.

    ``deterministic`` takes answers that would be the same again (temperature 0, or a seed) and embeddings. An answer of
    which the canonical events hold only a part (several choices) is never stored.
    """
    if policy == "off":
        return "caching.policy is off"
    match request:
        case EmbedRequest():
            pass
        case ChatRequest() | GenerateRequest():
            seed = request.options.get("seed")
            if not (policy == "all" or request.options.get("temperature") == 0 or (seed is not None and seed != -1)):
                return "caching.policy is deterministic, and the request has neither temperature 0 nor a seed"
        case _:
            return "only answers of models are kept"
    if request.loads_only:
        return "the model is only loaded or unloaded"
    return "" if is_representable(request) else "it asks for what only its own dialect can answer"


def make_caching(context: MiddlewareContext) -> Caching:
    """Return the middleware for the settings, with a cache in memory: the last hub's, if [caching] is the same."""
    settings = context.settings.caching

    def make() -> BaseCache:
        memory = BoundedMemoryCache(max_bytes=settings.max_bytes, clock=context.clock)
        return memory if context.shared is None else make_shared_cache(memory, context.shared)

    return Caching(settings, context.kept.keep("caching", settings, make), context.clock)
