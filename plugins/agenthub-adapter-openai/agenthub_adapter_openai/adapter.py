"""Reaches an upstream through the OpenAI-compatible API. Source: the OpenAI API reference; Ollama docs/openai.md."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeVar

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
    UnknownModel,
    UpstreamError,
    UpstreamProtocol,
    UpstreamStatus,
)
from agenthub.dialects import Codec, jsontext, ollama, openai
from agenthub.dialects.emulation import joined, split
from agenthub.dialects.lane import Lane, make_lane
from agenthub.dialects.losses import losses_to_native, losses_to_openai
from agenthub.dialects.nameless import nameless_tools
from agenthub.dialects.openai import for_ollama
from agenthub_adapter_openai.exchange import exchange
from agenthub_adapter_openai.faults import callers_fault
from agenthub_adapter_openai.load import is_load, may_lack_path, native_lane
from agenthub_adapter_openai.running import Running
from agenthub_adapter_openai.server import AUTO, OLLAMA, Server
from agenthub_adapter_openai.translated import is_translated, translated
from agenthub_adapter_openai.words import Questions, RefusedWords, codecs_for

Asked = TypeVar("Asked", bound=Request)
_OPERATIONS = frozenset({"chat", "generate", "embed", "show", "ps"})
_OF_OLLAMA = _OPERATIONS | {"version", *ollama.VERBS}


def make_adapter(name: str, settings: BackendSettings) -> OpenAIAdapter:
    """Return the adapter of the backend ``name``; its URL may end in ``/v1`` or not."""
    root = settings.url.removesuffix("/v1")
    upstream = HttpUpstream(name, attrs.evolve(settings, url=root), callers_fault=callers_fault)
    return OpenAIAdapter(upstream, Server(upstream, settings.flavour))


@attrs.define
class OpenAIAdapter:
    """An OpenAI-compatible server: Ollama's ``/v1``, llama.cpp, vLLM, OpenAI itself."""

    upstream: HttpUpstream
    server: Server
    running: Running = attrs.field(factory=Running)
    refused: RefusedWords = attrs.field(factory=RefusedWords)
    _ids: frozenset[str] = frozenset()
    _by_key: Mapping[str, ModelInfo] = attrs.field(factory=dict)

    async def __aenter__(self) -> Self:
        await self.upstream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.upstream.__aexit__(kind, error, trace)

    @property
    def operations(self) -> frozenset[str]:
        # A server that is down may be an Ollama: a verb is then refused since it cannot be reached, not as unknown.
        may_be = self.server.setting == AUTO and not self.server.is_identified
        return _OF_OLLAMA if may_be or self.server.flavour == OLLAMA else _OPERATIONS

    @property
    def title(self) -> str:
        """The server and its API, for the start-up line."""
        return self.server.title

    @property
    def is_identified(self) -> bool:
        """Whether ``identify`` would find out nothing more at present."""
        return self.server.is_identified

    async def identify(self) -> None:
        """Find out whether the server is an Ollama; the lists and health checks do so too."""
        await self.server.identify()

    async def ping(self) -> None:
        await self.identify()
        try:
            await self._list()
        except UpstreamError:
            self._doubt()
            raise

    async def models(self) -> Sequence[ModelInfo]:
        await self.identify()
        try:
            # An Ollama says more of its models in its own list: sizes, digests and details.
            models = (await self._list_native() if self.server.flavour == OLLAMA else None) or await self._list()
        except UpstreamError:
            self._doubt()
            raise
        self._ids = frozenset([model.name for model in models])
        self._by_key = {_key(model.name): model for model in reversed(models)}
        return models

    def _doubt(self) -> None:
        """Another server may be there the next time, which takes other words."""
        self.server.doubt()
        self.refused.forget()

    async def _list(self) -> Sequence[ModelInfo]:
        odd: list[JSON] = []
        models = openai.listing.parse_models(await self.upstream.get(openai.listing.MODELS_PATH), odd)
        self.upstream.note_odd(openai.listing.MODELS_PATH, odd)
        self.server.listed(models)
        return models

    async def _list_native(self) -> Sequence[ModelInfo]:
        """Return the models of Ollama's own list; empty where the server has none."""
        odd: list[JSON] = []
        try:
            models = ollama.listing.parse_tags(await self.upstream.get(ollama.listing.TAGS_PATH), odd)
        except (UpstreamStatus, UpstreamProtocol):
            return ()
        self.upstream.note_odd(ollama.listing.TAGS_PATH, odd if models else ())
        return models

    def _respelled(self, request: Asked) -> Asked:
        """Return the request with the model's id as the upstream lists it: unlike Ollama it knows but one spelling.

        Where but ``:latest`` is missing nothing is changed: who lists that is an Ollama.
        """
        target = request.target
        known = None if target in self._ids else self._by_key.get(_key(target))
        listed = target if known is None else known.name
        if listed == request.target or listed.lower() == f"{request.target.lower()}:latest":
            return request
        return attrs.evolve(request, upstream_model=listed)

    def losses(self, request: Request) -> Sequence[Loss]:
        server = self.server
        if server.flavour == OLLAMA and is_load(request):
            return losses_to_native(request)
        fatal = nameless_tools(request, any_server=server.is_guessed) if server.may_be_ollama else ()
        lost = (*fatal, *losses_to_openai(request, server.flavour))
        if self.refused and is_translated(request):
            lost += self.refused.losses(self._respelled(request), server.flavour)
        return lost

    def chat(self, request: ChatRequest) -> AsyncGenerator[Batch, None]:
        return self._ask(request, openai.chat.CODEC)

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Batch, None]:
        own = request.source is not None and request.source.dialect == openai.chat.DIALECT
        if own and request.more_prompts and self.server.flavour == OLLAMA:
            # It takes one prompt at a time; further choices it does not give.
            return joined(split(attrs.evolve(request, choices=1)), self._ask_prompt)
        if own:
            return self._ask(request, openai.completions.CODEC)
        asked, path = translated(request)
        return self._ask(asked, openai.CODECS[path])

    def embed(self, request: EmbedRequest) -> AsyncGenerator[Batch, None]:
        return self._ask(request, openai.embeddings.CODEC)

    def _ask(self, request: Request, codec: Codec) -> AsyncGenerator[Batch, None]:
        request = self._respelled(request)
        self.running.touch(request.target)
        if is_load(request):
            return self._loaded(request)
        lane = self._lane(request, codec)
        return exchange(self.upstream, lane, request, None if lane.raw else self._questions(lane, request))

    def _questions(self, lane: Lane, request: Request) -> Questions:
        """Return how to ask in words that are not the client's own, without those that are known to be refused."""
        known = self.refused.of(request.target)
        questions = Questions(request, lane.codec.path, self.server.flavour, self.refused, self.upstream.name, known)
        if known:
            lane.body = questions.start()
        return questions

    def _lane(self, request: Request, codec: Codec) -> Lane:
        codecs = codecs_for(self.server.flavour)
        lane = make_lane(request, codecs, codecs[codec.path])
        if lane.raw and self.server.flavour == OLLAMA:
            lane.body = for_ollama.rewrite(request, lane.body)
        return lane

    def _ask_prompt(self, request: GenerateRequest) -> AsyncGenerator[Batch, None]:
        """Ask for one of several prompts, in the client's other words, for an answer that is joined to others."""
        request = self._respelled(request)
        self.running.touch(request.target)
        lane = self._lane(request, openai.completions.CODEC)
        lane.raw = False
        if request.stream:
            lane.body = jsontext.set_top_level(lane.body, {"stream_options": {"include_usage": True}})
        return exchange(self.upstream, lane, request)

    async def _loaded(self, request: Request) -> AsyncGenerator[Batch, None]:
        if self.server.flavour == OLLAMA:
            try:
                async with aclosing(
                    self.upstream.ask(native_lane(request), authorization=request.authorization)
                ) as own:
                    async for batch in own:
                        yield batch
                return
            except (UpstreamStatus, UpstreamProtocol) as error:
                if not may_lack_path(error):
                    raise
                await self._listed(request)
        # This API cannot load or unload; it does so by itself when it is asked something.
        reason = "unload" if ollama.fields.is_zero(request.keep_alive) else "load"
        if reason == "unload":
            self.running.forget(request.target)
        else:
            await self._listed(request)
        yield (Started(), Finished(reason))

    def relay(self, request: RelayRequest) -> AsyncGenerator[Batch, None]:
        if request.verb in _OPERATIONS or request.verb not in ollama.VERBS:
            return self._tell(request)
        # The OpenAI API has no such verb; an Ollama has it in its own API.
        return self.upstream.ask(ollama.make_verb_lane(request), authorization=request.authorization)

    async def _tell(self, request: RelayRequest) -> AsyncGenerator[Batch, None]:
        match request.verb:
            case "version":
                path = ollama.listing.VERSION_PATH
                body = await self.upstream.get(path)
            case "ps":
                path = ollama.listing.PS_PATH
                native = await self._running() if self.server.flavour == OLLAMA else None
                body = await self._used() if native is None else native
            case _:
                path = ollama.listing.SHOW_PATH
                shown = await self._shown(request)
                body = ollama.listing.render_show(await self._listed(request)) if shown is None else shown
        yield (Started(raw_path=path), RawFrames(body), Finished())

    async def _running(self) -> bytes | None:
        """Return what Ollama says that it holds in memory; None where it does not say it."""
        try:
            body = await self.upstream.get(ollama.listing.PS_PATH)
            ollama.listing.parse_running(body)
        except (UpstreamStatus, UpstreamProtocol):
            return None
        return body

    async def _used(self) -> bytes:
        """Return what another server is likely to hold in memory, by what was used."""
        known = {model.name: model for model in await self.models()}
        return ollama.listing.render_running(self.running.entries(known))

    async def _shown(self, request: RelayRequest) -> bytes | None:
        """Return the server's own /api/show: Ollama, and newer llama.cpp, know more of a model than /v1 tells.

        None where it has none; some servers answer 200 to paths that they do not know.
        """
        pieces: list[bytes] = []
        try:
            async with aclosing(self.upstream.ask(ollama.make_verb_lane(self._respelled(request)))) as batches:
                async for batch in batches:
                    pieces += [event.data for event in batch if isinstance(event, RawFrames)]
        except (UpstreamStatus, UpstreamProtocol):
            return None
        body = b"".join(pieces)
        if not ollama.show.is_shown(body) or self.server.flavour == OLLAMA:
            return body if ollama.show.is_shown(body) else None
        return ollama.show.complete_by_list(body, self._by_key.get(_key(request.target)))

    async def _listed(self, request: Request) -> ModelInfo:
        """Return the model as the server lists it; raise UnknownModel, or UpstreamError where it answers nothing."""
        for model in await self.models():
            if _key(model.name) == _key(request.target):
                return model
        raise UnknownModel(request.model)


def _key(model: str) -> str:
    return model.lower().removesuffix(":latest")
