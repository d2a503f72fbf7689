"""From the name that a client wrote to the backends that can answer: aliases, the list of models, the api mode."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextvars import Context
from itertools import count

import attrs
import structlog

from agenthub.abilities import kept_lacks, set_capabilities
from agenthub.absence import absence, may_have, named_but_down
from agenthub.adapter import Adapter
from agenthub.canonical import JSON, ModelInfo
from agenthub.errors import AgentHubError, InvalidRequest, UpstreamError, UpstreamStatus
from agenthub.hops import HOPS, HUB_ID, Hops, came_from_hub
from agenthub.identities import Identities
from agenthub.middleware import Backend, Caller
from agenthub.middleware.cache_key import model_key
from agenthub.modes import AUTO, standing, wished_mode
from agenthub.patterns import fits
from agenthub.probing import may_choose, probe
from agenthub.settings import ModelSettings, Settings

_log = structlog.get_logger("agenthub")
_MOST_ROUTES, _LONGEST_NAME = 1024, 512


@attrs.frozen
class Route:
    """Where a model's requests go: its name upstream, the backends that have it (best first), an alias's settings.

    ``alias`` is the name of these settings as they are written, empty where there are none. ``key`` is the one spelling
    of the name upstream. ``capabilities`` are those that a setting gives the model.
    """

    upstream_model: str
    candidates: Sequence[Backend]
    api_mode: str = ""
    cache_scope: str = ""
    options: Mapping[str, JSON] = attrs.field(factory=dict)
    alias: str = ""
    capabilities: tuple[str, ...] = ()
    key: str = attrs.field(init=False)

    @key.default
    def _key(self) -> str:
        return model_key(self.upstream_model)


@attrs.define
class Router:
    """Knows what each backend has. The lists are fetched by ``refresh``, in the background after the first time."""

    settings: Settings
    backends: Mapping[str, Backend]
    _models: dict[str, dict[str, ModelInfo]] = attrs.field(factory=dict)
    _errors: dict[str, AgentHubError] = attrs.field(factory=dict)
    _refreshing: asyncio.Task[None] | None = None
    _aliases: dict[str, tuple[str, ModelSettings]] = attrs.field(init=False)
    _routes: dict[str, Route] = attrs.field(factory=dict)
    _turns: Iterator[int] = attrs.field(factory=count)
    _known: dict[str, int] = attrs.field(factory=dict)
    _probing: asyncio.Task[None] | None = None
    autos: set[str] = attrs.field(init=False)
    """The names of the backends at which ``auto`` may choose, whose APIs are therefore asked for."""
    identities: Identities = attrs.field(init=False)
    hub_id: str = attrs.field(factory=HUB_ID.get)
    """The hub's name in the ``Via`` of all that it sends."""
    _looped: set[str] = attrs.field(factory=set)
    is_ready: bool = False
    """True once each backend was asked for its list, with or without success."""

    def __attrs_post_init__(self) -> None:
        self._aliases = {model_key(name): (name, alias) for name, alias in self.settings.models.items()}
        self.autos = {name for name, backend in self.backends.items() if may_choose(self.settings, backend)}
        self.identities = Identities.of(self.settings, self.backends, self.hub_id)

    async def close(self) -> None:
        """Stop what is under way."""
        tasks = [task for task in (self._refreshing, self._probing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, self.identities.close(), return_exceptions=True)

    async def refresh(self) -> None:
        """Fetch all lists again, each within ``ping_timeout_s``; callers at the same time share one fetch.

        A request of another hub has its own: that hub may be waiting for the very fetch that would be shared.
        """
        if came_from_hub():
            await self._refresh_all()
            return
        if self._refreshing is None or self._refreshing.done():
            # In nobody's name, since it is for all.
            self._refreshing = asyncio.create_task(self._refresh_own(), context=Context())
        await asyncio.shield(self._refreshing)

    async def _refresh_own(self) -> None:
        hops = Hops.start(self.hub_id)
        HOPS.set(hops)
        await self._refresh_all()
        for name, way in hops.loops.items():
            if name not in self._looped:
                self._looped.add(name)
                _log.warning("agenthub.backend_loops", backend=name, way=way, remedy="agenthub check")

    async def _refresh_all(self) -> None:
        await asyncio.gather(*(self._refresh(backend) for backend in self.backends.values()))
        self.forget_routes()
        self.is_ready = True

    def forget_routes(self) -> None:
        """Decide again where each model's requests go, since a list or the state of a backend is another."""
        # Names come from clients, so the memory of them ends with each list, and is bounded between.
        self._routes.clear()

    async def refresh_one(self, backend: Backend) -> None:
        """Fetch the list of one backend anew, after its models were changed, and forget what was learned of them."""
        backend.lacks = {}
        await self._refresh(backend)
        self.forget_routes()

    async def _refresh(self, backend: Backend) -> None:
        # A backend that does not answer keeps its last list: its models are still its models.
        turn = next(self._turns)
        try:
            if backend.name in self.autos and not backend.answers:
                await probe(backend, self.settings.health.ping_timeout_s)
            await self.identities.refresh(backend)
            async with asyncio.timeout(self.settings.health.ping_timeout_s or None):
                models = await self.adapter(backend).models()
        except Exception as error:
            if turn < self._known.get(backend.name, -1):
                return  # a later one had its answer already
            if _is_loop(error) and came_from_hub() and backend.name in self._known:
                return  # the circle is that request's: what the hub asks for itself is answered
            failure = (
                error if isinstance(error, AgentHubError) else UpstreamError(str(error) or "did not answer in time")
            )
            if backend.name not in self._errors:
                about = {"backend": backend.name, "at_start": not self.is_ready}
                _log.warning("agenthub.backend_unreachable", **about, error=str(failure))
            self._errors[backend.name] = failure
            return
        if turn < self._known.get(backend.name, -1):
            # Asked for before the list that is known by now, as happens when a model was changed meanwhile.
            return
        self._known[backend.name] = turn
        self._errors.pop(backend.name, None)
        before = self._models.get(backend.name, {})
        self._models[backend.name] = {model_key(model.name): model for model in models}
        backend.lacks = kept_lacks(backend.lacks, before, self._models[backend.name])

    async def detect(self) -> None:
        """Return when each backend was asked which APIs it answers: only the first that asks for ``auto`` waits."""
        if self._probing is None:
            self._probing = asyncio.create_task(self._detect())
        await asyncio.shield(self._probing)

    async def _detect(self) -> None:
        # From now on the health checks ask, too.
        self.autos.update(self.backends)
        unknown = [backend for backend in self.backends.values() if not backend.answers]
        timeout_s = self.settings.health.ping_timeout_s
        await asyncio.gather(*(probe(backend, timeout_s) for backend in unknown), return_exceptions=True)

    def error(self, backend: Backend) -> AgentHubError | None:
        """Return why the backend's list could not be fetched the last time, or None."""
        return self._errors.get(backend.name)

    def has_list(self, backend: Backend) -> bool:
        """Say whether the backend's list was ever fetched; the last one stays while the backend is down."""
        return backend.name in self._models

    def listed(self, backend: Backend, key: str) -> ModelInfo | None:
        """Return the model as the backend lists it."""
        return self._models.get(backend.name, {}).get(key)

    def models(self) -> list[ModelInfo]:
        """Return the union of all lists without duplicates, and the aliases whose target is in it."""
        union: dict[str, ModelInfo] = {}
        for backend in self.backends.values():
            for key, model in self._models.get(backend.name, {}).items():
                if self._serves(backend, model.name):
                    union.setdefault(key, model)
        for alias, settings in self.settings.models.items():
            target = union.get(model_key(settings.target))
            if target is not None:
                union.setdefault(model_key(alias), attrs.evolve(target, name=alias))
        told = [(model, set_capabilities(self._aliases, model.name)) for model in union.values()]
        return [attrs.evolve(model, capabilities=able) if able else model for model, able in told]

    def find(self, name: str) -> ModelInfo | None:
        """Return the model as it is listed, by its name or an alias in any case."""
        wanted = model_key(name)
        return next((model for model in self.models() if model_key(model.name) == wanted), None)

    def resolve(self, model: str) -> Route:
        """Return the route of a model; where no backend lists it, that of the default one.

        Raises UnknownModel where none has it, and BackendUnavailable where one that may have it is down.
        """
        route = self._routes.get(model)
        if route is None:
            route = self._resolve(model)
            if len(self._routes) < _MOST_ROUTES and len(model) <= _LONGEST_NAME:
                self._routes[model] = route
        return route

    def _resolve(self, model: str) -> Route:
        route = self.route(model)
        candidates = self.holders(route)
        if not candidates and (default := self._default_for(route)) is not None:
            candidates = [default]
        if not candidates:
            raise absence(self, route, model, may_have(self, route))
        # An answer of a model is none of another that was later pulled or created under its name.
        scope = f"{route.cache_scope}@{digest}" if (digest := self._digest(candidates[0], route)) else route.cache_scope
        return attrs.evolve(route, candidates=candidates, cache_scope=scope)

    def _default_for(self, route: Route) -> Backend | None:
        """Return the default backend where it may be asked for the model, and no other that is down is named for it."""
        default = self.default
        if default is None or default not in route.candidates or not self.serves(default, route):
            return None
        return None if any(other is not default for other in named_but_down(self, route)) else default

    def _digest(self, backend: Backend, route: Route) -> str:
        model = self.listed(backend, route.key)
        return str(model.entry.get("digest") or "") if model is not None else ""

    def route(self, model: str) -> Route:
        """Return the route of a model whether it is there or not: candidates are all backends that an alias allows."""
        name, alias = self._aliases.get(model_key(model), ("", None))
        if alias is None:
            return Route(model, list(self.backends.values()))
        allowed = [self.backends[name] for name in alias.backends] or list(self.backends.values())
        # Settings of a model under its own name leave the client its spelling.
        target = model if model_key(alias.target) == model_key(model) else alias.target
        able = set_capabilities(self._aliases, model)
        return Route(target, allowed, alias.api_mode, ",".join(alias.backends), alias.options, name, able)

    def aliases_of(self, model: str) -> list[str]:
        """Return the aliases that stand for a model."""
        key = model_key(model)
        return [
            alias
            for alias, settings in self.settings.models.items()
            if model_key(settings.target) == key != model_key(alias)
        ]

    def holders(self, route: Route) -> list[Backend]:
        """Return those of the candidates that have the model, as far as is known, and are meant to serve it."""
        listing = [backend for backend in route.candidates if self.listed(backend, route.key) is not None]
        return [backend for backend in listing if self.serves(backend, route)]

    def serves(self, backend: Backend, route: Route) -> bool:
        """Say whether the backend is meant to serve the model, by its patterns."""
        return self._serves(backend, route.upstream_model)

    def is_named(self, backend: Backend, route: Route) -> bool:
        """Say whether an alias or a pattern of its own names the backend for the model."""
        by_pattern = backend.settings.models != ("*",) and self.serves(backend, route)
        return by_pattern or (bool(route.cache_scope) and self.serves(backend, route))

    @property
    def default(self) -> Backend | None:
        """The backend for a model that none lists: the configured one, or the only one."""
        if self.settings.default_backend:
            return self.backends[self.settings.default_backend]
        return next(iter(self.backends.values())) if len(self.backends) == 1 else None

    def _serves(self, backend: Backend, model: str) -> bool:
        return fits(model, backend.settings.models)

    def wished_mode(self, backend: Backend, caller: Caller | None = None, route: Route | None = None) -> str:
        """Return the kind of adapter to use, or ``auto``; raise InvalidRequest for one that is not installed."""
        mode = wished_mode(self.settings, backend, caller, route)
        if mode not in backend.adapters and mode != AUTO:
            known = ", ".join((*backend.adapters, AUTO))
            raise InvalidRequest(f"api mode {mode!r} is not one of {known}", param="api_mode")
        return mode

    def api_mode(
        self, backend: Backend, caller: Caller | None = None, route: Route | None = None, verb: str = ""
    ) -> str:
        """Return the kind of adapter to use for a verb, or for the upkeep of the backend; raise InvalidRequest."""
        mode = self.wished_mode(backend, caller, route)
        return standing(backend, verb) if mode == AUTO else mode

    def adapter(self, backend: Backend, verb: str = "") -> Adapter:
        """Return the adapter that the backend's own settings choose."""
        return backend.adapters[self.api_mode(backend, verb=verb)]


def _is_loop(error: Exception) -> bool:
    return isinstance(error, UpstreamStatus) and error.is_loop
