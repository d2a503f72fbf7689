"""Dispatcher: from a canonical request to the chain of middleware and the adapter at its end."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import NoReturn

import attrs

from agenthub.abilities import lacks_by_setting, refuse_lacking
from agenthub.adapter import Adapter
from agenthub.balancing import Balancer
from agenthub.canonical import (
    Batch,
    ChatRequest,
    EmbedRequest,
    Finished,
    GenerateRequest,
    Loss,
    RelayRequest,
    Request,
    TextRequest,
)
from agenthub.contexts import is_long, note_length
from agenthub.errors import AgentHubError, InvalidRequest, Unsupported, UpstreamReport
from agenthub.identities import is_identified
from agenthub.middleware import Backend, Caller, Dispatch, Handler, Middleware, build_chain
from agenthub.middleware.watching import watch
from agenthub.modes import AUTO, pick
from agenthub.offload import is_large, offload
from agenthub.placing import place
from agenthub.plugins import Plugins
from agenthub.rights import EVERYTHING
from agenthub.routing import Route, Router

CHANGING = frozenset({"pull", "create", "copy", "delete"})
"""The verbs after which a backend has other models than before."""
_MOST_USED = 256
_HEADS: Mapping[str, Callable[..., Request]] = {"chat": ChatRequest, "generate": GenerateRequest, "embed": EmbedRequest}


@attrs.define
class Dispatcher:
    """Selects a backend and an adapter for each request and runs the chain.

    Backends remember what they are used for, unless it ``only_explains``.
    """

    router: Router
    plugins: Plugins
    balancer: Balancer
    middleware: Sequence[Middleware] = ()
    only_explains: bool = False
    chain: Handler = attrs.field(init=False)
    _select: Callable[..., Backend] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.chain = build_chain(self.middleware, self._ask)
        self._select = self.plugins.only_call("agenthub_select_backend")

    async def dispatch(self, request: Request, caller: Caller) -> Dispatch:
        """Return the dispatch, decided but not run. Only the very first waits for the backends' lists of models.

        A request that cannot be sent becomes a dispatch with a ``refusal``, so that the middleware sees it too.
        """
        if not self.router.is_ready:
            await self.router.refresh()
        if caller.api_mode:
            await (self.router.detect() if caller.api_mode == AUTO else self.router.identities.learn(caller.api_mode))
        dispatch = await self._decided(request, caller)
        if self._is_guess(dispatch) and await self._settle(dispatch):
            dispatch = await self._decided(request, caller)
        return dispatch

    def _is_guess(self, dispatch: Dispatch) -> bool:
        """Say whether it may hang on what a server is, while nobody knows that."""
        if dispatch.adapter is None:
            return isinstance(dispatch.refusal, Unsupported)
        return not is_identified(dispatch.adapter)

    async def _settle(self, dispatch: Dispatch) -> bool:
        """Have the servers identified that it may go to; return whether any was to be."""
        router = self.router
        backends = list(router.backends.values()) if dispatch.adapter is None else dispatch.candidates
        wished = partial(router.wished_mode, caller=dispatch.caller, route=router.route(dispatch.request.model))
        try:
            up = [backend for backend in backends if backend.is_up]
            return await router.identities.settle(up or backends, wished)
        except InvalidRequest:
            return False

    async def _decided(self, request: Request, caller: Caller) -> Dispatch:
        dispatch = Dispatch(request, caller, request.model)
        try:
            if is_large(request.size_bytes):
                await offload(request.size_bytes, self._decide, dispatch)
            else:
                self._decide(dispatch)
        except AgentHubError as error:
            dispatch.refusal, dispatch.backend, dispatch.adapter = error, None, None
        return dispatch

    def _decide(self, dispatch: Dispatch) -> None:
        caller = dispatch.caller
        if caller.rights is not EVERYTHING:
            caller.rights.check(dispatch.request)
        route = self.route(dispatch)
        request = dispatch.request = apply_alias(dispatch.request, route)
        if self.is_strict(caller):
            request = dispatch.request = attrs.evolve(request, strict=True)
        if self.router.settings.sidecar:
            request = dispatch.request = attrs.evolve(request, sidecar=True)
        dispatch.upstream_model, dispatch.cache_scope = route.upstream_model, route.cache_scope
        candidates = route.candidates
        if len(candidates) > 1 and not isinstance(request, RelayRequest):
            candidates = self.balancer.order(candidates, request, caller.client)
        chosen = self._select(request=request, candidates=candidates)
        if chosen is not candidates[0]:
            candidates = [chosen, *(backend for backend in candidates if backend is not chosen)]
        dispatch.assigner = partial(self._assign, route)
        dispatch.candidates = candidates
        try:
            dispatch.assign(chosen)
        except AgentHubError as refusal:
            dispatch.candidates = self._assign_another(dispatch, candidates, refusal)

    def _assign_another(
        self, dispatch: Dispatch, candidates: Sequence[Backend], refusal: AgentHubError
    ) -> Sequence[Backend]:
        """Give the dispatch to the first of the others that takes it; return the order; raise ``refusal`` for none.

        Whether a request can be sent must not hang on whose turn it is.
        """
        for backend in candidates[1:]:
            with suppress(AgentHubError):
                dispatch.assign(backend)
                return [backend, *(other for other in candidates if other is not backend)]
        raise refusal

    def _assign(self, route: Route, dispatch: Dispatch, backend: Backend) -> None:
        request, caller, dispatch.backend = dispatch.request, dispatch.caller, backend
        mode, losses = self.router.wished_mode(backend, caller, route), None
        if mode == AUTO:
            picked = pick(backend, request)
            mode, losses = picked.kind, picked.losses
        dispatch.api_mode = mode
        adapter = dispatch.adapter = backend.adapters[dispatch.api_mode]
        if request.operation not in adapter.operations:
            text = f"{request.operation} is not supported by backend {backend.name} through its {dispatch.api_mode} API"
            raise Unsupported(text, status=501)
        dispatch.losses = adapter.losses(request) if losses is None else losses
        if dispatch.losses:
            refuse_losses(dispatch.losses, dispatch.api_mode, strict=request.strict)
        if isinstance(request, TextRequest):
            self._weigh_model(dispatch, backend, route, request)

    def _weigh_model(self, dispatch: Dispatch, backend: Backend, route: Route, request: TextRequest) -> None:
        """Refuse what the model is known not to be able to do, and note what is too long for it."""
        lacks = lacks_by_setting(route.capabilities) if route.capabilities else backend.lacks.get(route.key)
        if lacks is None:
            if len(backend.used) < _MOST_USED and not self.only_explains:
                backend.used.add(route.key)
        elif lacks:
            refuse_lacking(request, dispatch.api_mode, lacks, dispatch.losses)
        loaded = backend.contexts.get(route.key, 0)
        if loaded or "num_ctx" in request.options:
            note = note_length(request, loaded, dispatch.losses)
            dispatch.losses = dispatch.losses if note is None else (*dispatch.losses, note)
        elif not backend.has_long_prompts and is_long(request):
            backend.has_long_prompts = not self.only_explains

    def route(self, dispatch: Dispatch) -> Route:
        """Return where it may go, best first; raise UnknownModel where there is no place for it."""
        request, caller = dispatch.request, dispatch.caller
        if not isinstance(request, RelayRequest):
            return self.router.resolve(request.model)

        def has_verb(backend: Backend, route: Route) -> bool:
            return (
                request.verb in backend.adapters[self.router.api_mode(backend, caller, route, request.verb)].operations
            )

        return place(self.router, request, has_verb)

    def close(self) -> None:
        """Tell the middleware that no dispatch is under way and none will come."""
        for layer in self.middleware:
            if (close := getattr(layer, "close", None)) is not None:
                close()

    def is_strict(self, caller: Caller) -> bool:
        """Say whether what would be dropped is refused instead: as the request, its client or the settings say."""
        settings = self.router.settings
        client = settings.clients.get(caller.client)
        return caller.strict or settings.strict or (client is not None and client.strict)

    def run(self, dispatch: Dispatch) -> AsyncGenerator[Batch, None]:
        """Return the answer, batch by batch; raises AgentHubError. The caller closes it, also when it breaks off."""
        if self.plugins.observes("agenthub_dispatch_started"):
            self.plugins.notify("agenthub_dispatch_started", dispatch=dispatch)
        if not self.plugins.observes("agenthub_dispatch_finished"):
            return self.chain(dispatch)
        return watch(
            dispatch,
            self.chain,
            lambda dispatch, outcome: self.plugins.notify(
                "agenthub_dispatch_finished", dispatch=dispatch, outcome=outcome
            ),
        )

    async def refusal(self, caller: Caller) -> AgentHubError | None:
        """Return why no request of the caller is answered at the moment, whatever its body; nothing is counted."""
        for layer in self.middleware:
            if (refusal := getattr(layer, "refusal", None)) is not None:
                error: AgentHubError | None = await refusal(caller)
                if error is not None:
                    return error
        return None

    async def refuse(self, operation: str, caller: Caller, error: AgentHubError) -> NoReturn:
        """Raise ``error`` through the middleware, for a request of which only the head was read."""
        request = _HEADS[operation](model="") if operation in _HEADS else RelayRequest(verb=operation, model="")
        async with aclosing(self.run(Dispatch(request, caller, "", refusal=error))) as batches:
            await anext(batches)
        raise error

    def _ask(self, dispatch: Dispatch) -> AsyncGenerator[Batch, None]:
        """The innermost handler: ask the adapter."""
        if dispatch.refusal is not None or dispatch.adapter is None:
            raise dispatch.refusal or AgentHubError("no adapter")
        dispatch.asked_at = time.perf_counter()
        if is_large(dispatch.request.size_bytes):
            answer = ask_offloaded(dispatch.adapter, dispatch.request)
        else:
            answer = ask_adapter(dispatch.adapter, dispatch.request)
        return self._relisted(dispatch, answer) if dispatch.request.operation in CHANGING else answer

    async def _relisted(self, dispatch: Dispatch, answer: AsyncGenerator[Batch, None]) -> AsyncGenerator[Batch, None]:
        """Yield the answer; before its end leaves, the backend's list of models is fetched anew.

        So a client that was told that its model is there can use it at once.
        """
        assert dispatch.backend is not None
        try:
            async with aclosing(answer) as batches:
                async for batch in batches:
                    if type(batch[-1]) is Finished:
                        await self.router.refresh_one(dispatch.backend)
                    yield batch
        except UpstreamReport as report:
            # The client has read it, and may leave before the list is there.
            dispatch.report = report
            # Ollama may report an error and make the model all the same.
            await self.router.refresh_one(dispatch.backend)
            raise


def ask_adapter(adapter: Adapter, request: Request) -> AsyncGenerator[Batch, None]:
    """Return the adapter's answer to ``request``."""
    if isinstance(request, RelayRequest):
        return adapter.relay(request)
    asked: AsyncGenerator[Batch, None] = getattr(adapter, request.operation)(request)
    return asked


async def ask_offloaded(adapter: Adapter, request: Request) -> AsyncGenerator[Batch, None]:
    """Yield the same for a large request, of which adapters render the body as they are asked."""
    async with aclosing(await offload(request.size_bytes, ask_adapter, adapter, request)) as batches:
        async for batch in batches:
            yield batch


def apply_alias(request: Request, route: Route) -> Request:
    """Return the request with the upstream's name, and the alias's options under the client's own.

    Options are for asking a model something, not for managing it.
    """
    if isinstance(request, RelayRequest):
        route = attrs.evolve(route, options={})
        request = attrs.evolve(request, capabilities=route.capabilities) if route.capabilities else request
    if route.upstream_model == request.model and not route.options:
        return request
    defaults = {name: value for name, value in route.options.items() if name not in request.options}
    name = "" if route.upstream_model == request.model else route.upstream_model
    return attrs.evolve(request, upstream_model=name, options={**defaults, **request.options}, defaults=defaults)


def refuse_losses(losses: Sequence[Loss], api_mode: str, *, strict: bool) -> None:
    """Raise Unsupported for the first loss that may not be."""
    for loss in losses:
        if loss.rejected or (strict and not loss.is_note):
            text = loss.reason or f"{loss.field} is not supported by the {api_mode} API of this backend"
            raise Unsupported(text, param=loss.field)
