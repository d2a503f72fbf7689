"""Reaches an upstream through Ollama's own API. Source: Ollama docs/api.md."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self

import attrs

from agenthub import (
    JSON,
    BackendSettings,
    Batch,
    ChatRequest,
    EmbedRequest,
    Finished,
    GenerateRequest,
    HttpUpstream,
    Loss,
    ModelInfo,
    RawFrames,
    RelayRequest,
    Request,
    Started,
    TextRequest,
    Unsupported,
    UpstreamProtocol,
    UpstreamStatus,
    ask_again,
)
from agenthub.dialects import Codec, jsontext, ollama
from agenthub.dialects.emulation import emulated, emulated_chat
from agenthub.dialects.lane import Lane, make_lane
from agenthub.dialects.losses import losses_to_native

_LEVEL = Loss(
    "reasoning_effort", reason="this Ollama knows no levels of thinking: reasoning_effort only makes it think"
)
_NO_LEVEL = re.compile(r"json: cannot unmarshal string into Go struct field [\w.]+\.think of type bool")
"""The whole of what an older Ollama says: in the middle of another error such words may be the client's."""
_KEPT_S = 600.0
"""How long it is believed that an Ollama knows levels of thinking or does not: it may be updated."""
_GET = {"ps": ollama.listing.PS_PATH, "version": ollama.listing.VERSION_PATH}
_OPERATIONS = frozenset({"chat", "generate", "embed", *_GET, *ollama.VERBS})


def make_adapter(name: str, settings: BackendSettings) -> NativeAdapter:
    """Return the adapter of the backend ``name``."""
    return NativeAdapter(HttpUpstream(name, settings, callers_fault=callers_fault))


def callers_fault(message: str) -> bool:
    """Say whether Ollama blames the request: it answers 500 to options of a wrong type and to unknown formats."""
    return message.startswith(('option "', "invalid format", "invalid JSON schema"))


def knows_no_level(error: UpstreamStatus) -> bool:
    """Say whether an older Ollama refuses a level of thinking."""
    return error.status == 400 and _NO_LEVEL.fullmatch(str(error)) is not None


def just_thinking(lane: Lane) -> Lane:
    """Return the lane for an older Ollama, which thinks or does not, but knows no levels."""
    return attrs.evolve(lane, body=jsontext.replace_top_level(lane.body, "think", True))


def has_level(request: Request) -> bool:
    """Say whether a request that is translated says how much to think."""
    is_own = request.source is not None and request.source.dialect == ollama.chat.DIALECT
    return isinstance(request, TextRequest) and isinstance(request.think, str) and not is_own


@attrs.define
class NativeAdapter:
    """An Ollama server, or one that speaks its API."""

    upstream: HttpUpstream
    operations: frozenset[str] = _OPERATIONS
    clock: Callable[[], float] = time.monotonic
    _knows_levels: bool | None = None
    _believed_until: float = 0.0

    async def __aenter__(self) -> Self:
        await self.upstream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.upstream.__aexit__(kind, error, trace)

    async def ping(self) -> None:
        try:
            ollama.listing.parse_version(await self.upstream.get(ollama.listing.VERSION_PATH))
        except UpstreamProtocol as error:
            # Some servers answer 200 to paths that they do not know: these are up, but are no Ollama.
            error.counted = False
            raise

    async def models(self) -> Sequence[ModelInfo]:
        odd: list[JSON] = []
        models = ollama.listing.parse_tags(await self.upstream.get(ollama.listing.TAGS_PATH), odd)
        self.upstream.note_odd(ollama.listing.TAGS_PATH, odd)
        return models

    def losses(self, request: Request) -> Sequence[Loss]:
        lost = losses_to_native(request)
        return (*lost, _LEVEL) if has_level(request) and self._known_levels() is False else lost

    def _known_levels(self) -> bool | None:
        """Return whether the server knows levels of thinking, None where that is to be found out by asking."""
        return self._knows_levels if self.clock() < self._believed_until else None

    def chat(self, request: ChatRequest) -> AsyncGenerator[Batch, None]:
        if request.source is not None and request.source.dialect == ollama.chat.DIALECT:
            return self._ask(request, ollama.chat.CODEC)
        return emulated_chat(request, lambda part: self._ask(part, ollama.chat.CODEC))

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Batch, None]:
        if request.source is not None and request.source.dialect == ollama.chat.DIALECT:
            return self._ask(request, ollama.generate.CODEC)
        return emulated(request, lambda part: self._ask(part, ollama.generate.CODEC))

    def embed(self, request: EmbedRequest) -> AsyncGenerator[Batch, None]:
        return self._ask(request, ollama.embed.CODEC)

    def _ask(self, request: Request, codec: Codec) -> AsyncGenerator[Batch, None]:
        lane = make_lane(request, ollama.CODECS, codec)
        if not lane.raw and has_level(request):
            knows = self._known_levels()
            if knows is None:
                return self._ask_at_level(request, lane)
            if not knows:
                return self._ask_without_level(request, lane)
        return self.upstream.ask(lane, authorization=request.authorization)

    def _ask_at_level(self, request: Request, lane: Lane) -> AsyncGenerator[Batch, None]:
        def learned(knows: bool) -> None:
            self._knows_levels, self._believed_until = knows, self.clock() + _KEPT_S

        return ask_again(
            self.upstream.ask(lane, authorization=request.authorization),
            lambda: self._ask_without_level(request, lane),
            knows_no_level,
            learned,
        )

    async def _ask_without_level(self, request: Request, lane: Lane) -> AsyncGenerator[Batch, None]:
        if request.strict:
            raise Unsupported(_LEVEL.reason, param=_LEVEL.field)
        async with aclosing(self.upstream.ask(just_thinking(lane), authorization=request.authorization)) as batches:
            async for batch in batches:
                if isinstance(started := batch[0], Started):
                    batch = (attrs.evolve(started, losses=(*started.losses, _LEVEL)), *batch[1:])
                yield batch

    async def relay(self, request: RelayRequest) -> AsyncGenerator[Batch, None]:
        if request.verb in _GET:
            path = _GET[request.verb]
            yield (Started(raw_path=path), RawFrames(await self.upstream.get(path)), Finished())
            return
        lane = ollama.make_verb_lane(request)
        async with aclosing(self.upstream.ask(lane, authorization=request.authorization)) as batches:
            async for batch in batches:
                yield batch
