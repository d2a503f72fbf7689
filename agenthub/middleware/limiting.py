"""Limits of clients: requests a minute, and requests at once; what is over is refused before anything is asked."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial

import attrs

from agenthub.canonical import Batch, Event, Started
from agenthub.errors import ConfigError, RateLimited, UpstreamStatus
from agenthub.middleware import Caller, Dispatch, Handler, MiddlewareContext
from agenthub.middleware.quotas import REFUSED, MemoryQuotas, Quotas, Verdict
from agenthub.settings import ClientSettings, Settings

_BUSY_S = 1.0
"""When to ask again while all places are taken: nobody knows when the next becomes free."""

_COUNTS = frozenset({f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset")})


@attrs.define
class Limits:
    """The middleware; ``clients`` are those that have a limit."""

    clients: Mapping[str, ClientSettings]
    quotas: Quotas

    def __call__(self, dispatch: Dispatch, handler: Handler) -> AsyncGenerator[Batch, None]:
        client = self.clients.get(dispatch.caller.client)
        if client is None:
            return handler(dispatch)
        return _limited(self.quotas, client, dispatch, handler)

    async def refusal(self, caller: Caller) -> RateLimited | None:
        """Return why a request of the caller would be refused, as far as this process knows; nothing is counted."""
        client = self.clients.get(caller.client)
        if client is None:
            return None
        if client.max_concurrency and self.quotas.is_full(caller.client, client.max_concurrency):
            return _no_place(caller.client, client.max_concurrency)
        if client.requests_per_minute:
            verdict = await self.quotas.look(caller.client, client.requests_per_minute)
            return None if verdict.is_allowed else _used_up(caller.client, verdict)
        return None

    def close(self) -> None:
        """The hub ends."""
        self.quotas.close()


async def _limited(
    quotas: Quotas, client: ClientSettings, dispatch: Dispatch, handler: Handler
) -> AsyncGenerator[Batch, None]:
    caller = dispatch.caller
    name, places, ticket = caller.client, client.max_concurrency, REFUSED
    try:
        # A place first: a request that finds none has not used up any of its minute.
        if places and (ticket := await quotas.enter(name, places)) == REFUSED:
            raise _no_place(name, places)
        if client.requests_per_minute and not caller.is_counted:
            _admit(caller, await quotas.hit(name, client.requests_per_minute))
        async with aclosing(handler(dispatch)) as batches:
            async for batch in batches:
                first = batch[0]
                is_told = type(first) is Started and first.headers and client.requests_per_minute
                yield (_without_counts(first), *batch[1:]) if is_told else batch
    except UpstreamStatus as error:
        if client.requests_per_minute:
            error.headers = _hide_counts(error.headers)
        raise
    finally:
        if ticket != REFUSED:
            quotas.leave(name, ticket)


def _without_counts(started: Event) -> Event:
    assert isinstance(started, Started)
    return attrs.evolve(started, headers=_hide_counts(started.headers))


def _hide_counts(headers: Mapping[str, str]) -> dict[str, str]:
    # A client that the hub limits has one limit, not two that contradict each other.
    return {name: value for name, value in headers.items() if name.lower() not in _COUNTS}


def _admit(caller: Caller, verdict: Verdict) -> None:
    caller.reply_headers = {**caller.reply_headers, **make_rate_headers(caller.dialect, verdict)}
    if not verdict.is_allowed:
        raise _used_up(caller.client, verdict)
    caller.is_counted = True


def _no_place(client: str, places: int) -> RateLimited:
    return RateLimited(f"client {client} may have at most {places} of its requests running", retry_after_s=_BUSY_S)


def _used_up(client: str, verdict: Verdict) -> RateLimited:
    text = f"client {client} may send at most {verdict.limit} requests a minute"
    return RateLimited(text, retry_after_s=max(verdict.reset_s, 1.0))


def make_rate_headers(dialect: str, verdict: Verdict) -> dict[str, str]:
    """Return what an answer says of the limit: OpenAI's headers to its clients, else those of the IETF's draft.

    Sources: platform.openai.com/docs/guides/rate-limits; draft-ietf-httpapi-ratelimit-headers, up to its version 07.
    """
    reset = math.ceil(verdict.reset_s)
    if dialect == "openai":
        return {
            "x-ratelimit-limit-requests": str(verdict.limit),
            "x-ratelimit-remaining-requests": str(verdict.remaining),
            "x-ratelimit-reset-requests": f"{reset // 60}m{reset % 60}s" if reset >= 60 else f"{reset}s",
        }
    return {
        "RateLimit-Limit": str(verdict.limit),
        "RateLimit-Remaining": str(verdict.remaining),
        "RateLimit-Reset": str(reset),
    }


def check_limits(settings: Settings) -> None:
    """Raise ConfigError for a client whose limit nothing would hold."""
    if "limits" in settings.middleware:
        return
    for name, client in settings.clients.items():
        for limit in ("requests_per_minute", "max_concurrency"):
            if getattr(client, limit):
                key = f"clients.{name}.{limit}"
                source = settings.sources.get(key, "default")
                raise ConfigError(f'{source}: {key}: no limit holds without "limits" in middleware: add it there')


def make_limits(context: MiddlewareContext) -> Limits | None:
    """Return the middleware for the settings; None where no client has a limit."""
    found = context.settings.clients.items()
    clients = {name: client for name, client in found if client.requests_per_minute or client.max_concurrency}
    if not clients:
        return None
    # What a reload leaves as it is: whoever has used up its minute has done so under the new settings too.
    return Limits(clients, context.kept.keep("limits", context.shared, partial(_make_quotas, context)))


def _make_quotas(context: MiddlewareContext) -> Quotas:
    if context.shared is None:
        return MemoryQuotas(context.clock)
    from agenthub.middleware.quotas_shared import make_shared_quotas

    return make_shared_quotas(context.shared)
