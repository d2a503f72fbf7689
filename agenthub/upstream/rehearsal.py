"""What an adapter would send, found out by the very code that sends, up to the moment before a connection is taken.

Each request that an adapter makes by an ``HttpUpstream`` is noted and stays here, and the adapter is given an answer
without any content, so that one request of a client that becomes several goes on to the next.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import NoReturn

import aiohttp
import attrs
from aiohttp.client_middlewares import ClientHandlerType

from agenthub.canonical import Batch, Finished, Started, ToolCallDelta
from agenthub.errors import AgentHubError

_STAND_IN: Batch = (Started(), ToolCallDelta(0), Finished())
"""An answer that satisfies every reader, also where the model must call a tool: which one is left open."""

_MOST_BYTES = 16 * 2**20
"""A large request may become hundreds; of more than this the first are enough."""


@attrs.frozen
class Sending:
    """One HTTP request as an upstream would get it, secrets included.

    ``body`` is None where it is passed on as it comes in. Where not ``is_certain``, whether it is sent hangs on the
    answer to the one before.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = attrs.field(repr=False)
    body: bytes | None = attrs.field(repr=False)
    is_certain: bool = True


class Rehearsed(Exception):
    """Instead of an answer: nothing was sent, since a rehearsal is under way. No AgentHubError, and no failure."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        super().__init__("nothing is sent in a rehearsal")
        self.rehearsal = rehearsal

    def answer(self, *, is_verb: bool) -> Batch:
        """Return what the adapter gets in the place of an answer; that of a verb may be less than it needs.

        Raises itself where no more requests are noted.
        """
        if self.rehearsal.size_bytes > _MOST_BYTES:
            raise self
        self.rehearsal.is_certain = not is_verb
        return _STAND_IN


@attrs.define
class Rehearsal:
    """What was found: the requests in their order, and why there may be more of them, empty where these are all.

    ``error`` is why the adapter refuses the request, ``size_bytes`` what the bodies come to.
    """

    sendings: list[Sending] = attrs.field(factory=list)
    open_end: str = ""
    error: AgentHubError | None = None
    is_certain: bool = True
    size_bytes: int = 0

    async def __call__(self, request: aiohttp.ClientRequest, handler: ClientHandlerType) -> NoReturn:
        """Stand in aiohttp's way to its connections, behind all that it adds to a request by itself."""
        headers = tuple(request.headers.items())
        body = await _body(request)
        self.size_bytes += len(body or b"")
        self.sendings.append(Sending(request.method, str(request.url), headers, body, self.is_certain))
        raise Rehearsed(self)


async def _body(request: aiohttp.ClientRequest) -> bytes | None:
    match request.body:
        case bytes() as body:
            return body
        case aiohttp.AsyncIterablePayload():
            return None  # to read it now would be to take it away
        case payload:
            return await payload.as_bytes()


STAGE: ContextVar[tuple[Rehearsal] | None] = ContextVar("stage", default=None)
"""The rehearsal that is under way, as aiohttp takes it: a request's client middleware."""
