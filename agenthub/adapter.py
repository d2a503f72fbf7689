"""What an adapter is: code that speaks one upstream API, opened once for each backend."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

import attrs

from agenthub.canonical import Batch, ChatRequest, EmbedRequest, GenerateRequest, Loss, ModelInfo, RelayRequest, Request
from agenthub.settings import BackendSettings


class Adapter(Protocol):
    """One upstream, reached through one API.

    ``operations`` are those of ``chat``, ``generate``, ``embed`` and the verbs of ``relay`` that it has; the hub
    answers 501 to any other before it asks. An async generator yields batches, the first of which begins with Started
    and the last of which ends with Finished; it raises nothing but AgentHubError. Closing it early must close the
    upstream's connection.

    For a request of more than 256 kB (``agenthub.offload``) ``losses``, ``chat``, ``generate`` and ``embed`` are called
    in a thread, so that what they work out at once does not stop the event loop. What they return runs in the loop.

    One that asks by an ``HttpUpstream`` in its attribute ``upstream``, and by nothing else, can be explained: a copy of
    it (``copy.deepcopy``) is asked the same while nothing is sent, see ``agenthub.upstream.rehearsal``.

    One whose requests depend on the software behind the upstream has a method ``async identify()``, which finds out
    what that is and remembers it for a while: it is called before the first request, and then now and again. It takes a
    second or two at most, and raises nothing where the upstream fails. ``operations`` may change by it. Where its
    attribute ``is_identified`` is False, it is called again before the next request, since the upstream was down
    before. An attribute
    ``title`` then says for the start-up line what was found, in place of the ``title`` of its AdapterType.
    """

    @property
    def operations(self) -> frozenset[str]: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def ping(self) -> None:
        """Return if the upstream answers this API; raise UpstreamError if not."""

    async def models(self) -> Sequence[ModelInfo]:
        """Return what the upstream has; raise UpstreamError."""

    def losses(self, request: Request) -> Sequence[Loss]:
        """Return what of the request this API cannot carry. No I/O."""

    def chat(self, request: ChatRequest) -> AsyncGenerator[Batch, None]: ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Batch, None]: ...

    def embed(self, request: EmbedRequest) -> AsyncGenerator[Batch, None]: ...

    def relay(self, request: RelayRequest) -> AsyncGenerator[Batch, None]:
        """Answer a management verb; the answer is RawFrames in the dialect that has the verb."""


@attrs.frozen
class AdapterType:
    """What a plugin registers. ``kind`` equals the entry point's name and is the api mode that selects it.

    ``title`` completes the start-up line "Using …"; ``make`` takes the backend's name and its settings.
    """

    kind: str
    title: str
    make: Callable[[str, BackendSettings], Adapter]
