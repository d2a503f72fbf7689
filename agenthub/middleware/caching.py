"""Caching: a finished answer is kept and served again, to any dialect, whole or streamed."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

import attrs
import structlog
from aiocache.base import BaseCache

from agenthub.canonical import (
    Batch,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Event,
    Finished,
    GenerateRequest,
    RawFrames,
    ReasoningDelta,
    Request,
    Started,
    TextDelta,
    ToolCallDelta,
)
from agenthub.dialects.losses import is_representable
from agenthub.middleware import Dispatch, Handler, MiddlewareContext
from agenthub.middleware.cache_key import make_key
from agenthub.middleware.cache_store import BoundedMemoryCache
from agenthub.settings import CachingSettings

# What CPython takes for a small object with its string, and for a float in a list.
_EVENT_BYTES, _FLOAT_BYTES = 128, 32
_log = structlog.get_logger("agenthub")


@attrs.frozen
class Entry:
    """A finished answer as one batch; an estimate of its size in memory.

    ``is_counted`` is False for an OpenAI stream without ``include_usage``: its counts never came, so it is good for
    such streams only.
    """

    batch: Batch
    size_bytes: int
    is_counted: bool


@attrs.define
class Recording:
    """The events of one answer so far, given up as soon as they are larger than the whole cache may be."""

    max_bytes: int
    events: list[Event] = attrs.field(factory=list)
    size_bytes: int = 0

    def add(self, batch: Batch) -> None:
        """Take in a batch, without its raw frames."""
        if self.size_bytes > self.max_bytes:
            return
        for event in batch:
            if type(event) is not RawFrames and type(event) is not Started:
                self.events.append(event)
                self.size_bytes += _size(event)
        if self.size_bytes > self.max_bytes:
            self.events.clear()

    @property
    def is_finished(self) -> bool:
        return bool(self.events) and type(self.events[-1]) is Finished

    def entry(self) -> Entry:
        """Return what is to be kept: the events behind a Started that belongs to no connection."""
        finished = self.events[-1]
        is_counted = isinstance(finished, Finished) and finished.usage is not None
        return Entry((Started(), *self.events), self.size_bytes, is_counted)


def _size(event: Event) -> int:
    match event:
        case TextDelta() | ReasoningDelta():
            return _EVENT_BYTES + len(event.text)
        case ToolCallDelta():
            return _EVENT_BYTES + len(event.arguments)
        case Embeddings():
            return _EVENT_BYTES + sum(_FLOAT_BYTES * len(vector) for vector in event.vectors)
    return 4 * _EVENT_BYTES


@attrs.define
class Caching:
    """The middleware. A failure of the cache is a miss, never an error."""

    settings: CachingSettings
    store: BaseCache

    def __call__(self, dispatch: Dispatch, handler: Handler) -> AsyncGenerator[Batch, None]:
        if dispatch.refusal is not None or not is_cacheable(dispatch.request, self.settings.policy):
            return handler(dispatch)
        return self._cached(dispatch, handler)

    async def _cached(self, dispatch: Dispatch, handler: Handler) -> AsyncGenerator[Batch, None]:
        key = make_key(dispatch.request, dispatch.upstream_model, dispatch.cache_scope)
        if not (dispatch.caller.no_cache or dispatch.caller.no_store):
            batch = await self._read(key, dispatch.request)
            if batch is not None:
                dispatch.cache = "hit"
                yield batch
                return
            dispatch.cache = "miss"
        recording = Recording(0 if dispatch.caller.no_store else self.settings.max_bytes or sys.maxsize)
        async with aclosing(handler(dispatch)) as batches:
            async for batch in batches:
                recording.add(batch)
                if recording.is_finished:
                    # Before the client has its end: one that leaves with it takes nothing away.
                    await self._write(key, recording.entry())
                yield batch

    async def _read(self, key: str, request: Request) -> Batch | None:
        try:
            entry = await self.store.get(key)
        except Exception as error:
            _log.warning("agenthub.cache_failed", operation="read", error=str(error))
            return None
        if not isinstance(entry, Entry) or (request.wants_usage and not entry.is_counted):
            return None
        return entry.batch

    async def _write(self, key: str, entry: Entry) -> None:
        try:
            await self.store.set(key, entry, ttl=self.settings.ttl_s or None)
        except Exception as error:
            _log.warning("agenthub.cache_failed", operation="write", error=str(error))


def is_cacheable(request: Request, policy: str) -> bool:
    """Say whether the answer to ``request`` may be stored and served again.

    ``deterministic`` takes answers that would be the same again (temperature 0, or a seed) and embeddings. An answer of
    which the canonical events hold only a part (several choices) is never stored.
    """
    match request:
        case EmbedRequest():
            wanted = True
        case ChatRequest() | GenerateRequest():
            seed = request.options.get("seed")
            wanted = policy == "all" or request.options.get("temperature") == 0 or (seed is not None and seed != -1)
        case _:
            wanted = False
    return wanted and policy != "off" and not request.loads_only and is_representable(request)


def make_caching(context: MiddlewareContext) -> Caching:
    """Return the middleware for the settings, with a cache in memory: the last hub's, if [caching] is the same."""
    settings = context.settings.caching

    def make() -> BoundedMemoryCache:
        return BoundedMemoryCache(max_bytes=settings.max_bytes, clock=context.clock)

    return Caching(settings, context.kept.keep("caching", settings, make))
