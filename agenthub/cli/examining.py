"""Looks at everything that a request of a client would need, one finding after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from difflib import get_close_matches
from urllib.parse import urlsplit

import attrs

from agenthub.api.access import REMEDIES, exposure
from agenthub.canonical import ModelInfo
from agenthub.cli.addresses import explain_itself, leads_to
from agenthub.cli.diagnosis import OLLAMA_PORT, Trouble, diagnose, one_line
from agenthub.cli.findings import Finding, Level
from agenthub.cli.opening import open_hub
from agenthub.cli.rule_models import examine_rules
from agenthub.errors import AgentHubError, BackendUnavailable, UnknownModel, UpstreamError, UpstreamStatus
from agenthub.hops import HOPS, Hops, make_hub_id
from agenthub.middleware import Backend
from agenthub.middleware.cache_key import model_key
from agenthub.modes import AUTO, preferred, standing, wished_mode
from agenthub.routing import Router
from agenthub.settings import Settings
from agenthub.shared import Shared

_SHOWN = 12
Listed = dict[str, list[str]]
"""The names of the models that each backend lists, by the backend's name; no entry for one that does not answer."""


@attrs.define
class Probes:
    """What a backend answers through each of its adapters; each is asked once, when somebody wants to know."""

    router: Router
    backend: Backend
    models: Sequence[ModelInfo] = ()
    """Those that it lists, once they were asked for."""
    _errors: dict[str, Exception | None] = attrs.field(factory=dict)

    async def error(self, kind: str) -> Exception | None:
        """Return why the backend does not answer that API in time, or None."""
        if kind not in self._errors:
            self._errors[kind] = await self._ping(kind)
        return self._errors[kind]

    async def answering(self) -> list[str]:
        """Return the kinds of adapter that it answers."""
        return [kind for kind in self.backend.adapters if await self.error(kind) is None]

    async def mode(self) -> str:
        """Return the kind of adapter that the settings choose; for ``auto`` one that answers, where no request says."""
        wished = wished_mode(self.router.settings, self.backend)
        if wished != AUTO:
            return wished
        self.backend.answers = frozenset(await self.answering())
        return standing(self.backend)

    async def ask_all(self) -> None:
        """Ask through all adapters at the same time."""
        await asyncio.gather(*map(self.error, self.backend.adapters))

    async def _ping(self, kind: str) -> Exception | None:
        try:
            async with asyncio.timeout(self.router.settings.health.ping_timeout_s or None):
                await self.backend.adapters[kind].ping()
        except (AgentHubError, TimeoutError) as error:
            return error
        except Exception as error:  # somebody else's adapter
            return UpstreamError(f"the adapter failed: {error!r}")
        return None


async def examine(settings: Settings, model: str | None) -> AsyncGenerator[Finding, None]:
    """Yield what is found about the settings, each backend, alias and rule, and ``model``; raises ConfigError."""
    async with open_hub(settings) as hub:
        sources = ", ".join(dict.fromkeys(settings.sources.values())) or "defaults only"
        yield Finding("settings.loaded", Level.OK, f"settings: {sources}")
        for finding in examine_exposure(settings):
            yield finding
        yield Finding("plugin.loaded", Level.OK, f"adapters: {', '.join(hub.plugins.adapters)}")
        if hub.shared is not None:
            yield await examine_redis(hub.shared)
        listed: Listed = {}
        for backend in hub.router.backends.values():
            yield await examine_backend(Probes(hub.router, backend), listed)
        await hub.router.refresh()
        for alias in settings.models:
            yield examine_model(hub.router, alias, listed)
        if model is not None and model not in settings.models:
            yield examine_model(hub.router, model, listed)
        for finding in examine_rules(settings.enhancement, lambda name: examine_model(hub.router, name, listed)):
            yield finding


def examine_exposure(settings: Settings) -> Iterator[Finding]:
    """Yield the finding about an address that lets anyone in, if it does."""
    if problem := exposure(settings):
        yield Finding("server.exposed", Level.ERROR, f"host: {problem}", REMEDIES)


async def examine_redis(shared: Shared) -> Finding:
    """Look whether Redis answers, and let go of it."""
    name = shared.link.server.name
    try:
        problem = await shared.link.probe()
    finally:
        await shared.link.close()
    if not problem:
        return Finding("server.redis", Level.OK, f"redis: {name} answers")
    text = f"redis: {name} does not: {problem}; each hub keeps to itself what they would share"
    return Finding("server.redis", Level.ERROR, text, ["Start it, or name another with caching.url."])


async def examine_backend(probes: Probes, listed: Listed, hub_id: str = "") -> Finding:
    """Return whether a backend answers as its settings have it asked, or why not; put its models into ``listed``.

    ``hub_id`` is the name of the hub that asks, where that serves.
    """
    router, backend, url = probes.router, probes.backend, probes.backend.settings.url
    # Beside the event loop, since names may have to be looked up.
    if await asyncio.to_thread(leads_to, url, router.settings.host, router.settings.port):
        text, remedies = explain_itself(router.settings, backend.name)
        return _about(backend, "itself", Level.ERROR, text, remedies)
    hops = Hops.start(hub_id or make_hub_id())
    HOPS.set(hops)
    mode = await probes.mode()
    if mode not in backend.adapters:
        text = f"it is to be asked through the {mode} API, for which no adapter is loaded"
        return _about(backend, "no_adapter", Level.ERROR, text)
    error = await probes.error(mode)
    is_loop = isinstance(error, UpstreamStatus) and error.is_loop
    if error is not None and not is_loop:
        return diagnose(Trouble(router.settings, backend, mode, error, await probes.answering()))
    try:
        async with asyncio.timeout(router.settings.health.ping_timeout_s or None):
            probes.models = await backend.adapters[mode].models()
    except Exception as failure:
        if is_loop or hops.loops:
            return _about_loop(backend, hops)
        is_foreign = not isinstance(failure, AgentHubError | TimeoutError)
        why = repr(failure) if is_foreign else one_line(failure) or "no answer in time"
        return _about(backend, "list", Level.ERROR, f"{url} answers, but does not list its models: {why}")
    if is_loop or hops.loops:
        return _about_loop(backend, hops)
    names = listed[backend.name] = sorted(model.name for model in probes.models)
    shown = f"{mode} API"
    if wished_mode(router.settings, backend) == AUTO:
        shown = f"{' and '.join(preferred(backend.answers))} API (auto)"
    text = f"{url} answers through the {shown}"
    if names:
        return _about(backend, "answers", Level.OK, f"{text} with {_count(names)}: {_some(names)}")
    return _about(backend, "answers", Level.OK, f"{text}, but has no model yet", [f"Get one: {_pull(url, 'llama3.2')}"])


def _about(backend: Backend, id: str, level: Level, text: str, remedies: Sequence[str] = ()) -> Finding:
    return Finding(f"backend.{id}", level, f"backend {backend.name}: {text}", remedies, backend.name)


def _about_loop(backend: Backend, hops: Hops) -> Finding:
    way = hops.loops.get(backend.name, backend.name)
    text = f"{backend.settings.url} is an AgentHub from which requests come back to it, by the backends {way}"
    remedies = ["Each hub must lead to model servers in the end: take one of these backends out of its hub's settings."]
    return _about(backend, "loop", Level.ERROR, text, remedies)


def examine_model(router: Router, name: str, listed: Listed) -> Finding:
    """Return who would answer for a model or an alias; the router has its lists."""
    wanted = router.route(name).upstream_model
    title = f"model {name}" if wanted == name else f"alias {name} -> {wanted}"

    def about(id: str, level: Level, text: str, remedies: Sequence[str] = ()) -> Finding:
        return Finding(f"model.{id}", level, f"{title}: {text}", remedies, name)

    try:
        candidates = router.resolve(name).candidates
    except (UnknownModel, BackendUnavailable):
        silent = [backend for backend in router.backends if backend not in listed]
        if silent:
            return about("unknown", Level.ERROR, f"not known, since backend {silent[0]} does not answer")
        return about("missing", Level.ERROR, "no backend has it", _elsewhere(wanted, listed))
    holders = [backend.name for backend in candidates if _has(listed, backend.name, wanted)]
    if holders:
        return about("found", Level.OK, f"on {', '.join(holders)}")
    backend = candidates[0]
    if backend.name not in listed:
        return about("unknown", Level.ERROR, f"not known, since backend {backend.name} does not answer")
    remedies = [*_elsewhere(wanted, listed), f"Get it: {_pull(backend.settings.url, wanted)}"]
    return about("missing", Level.ERROR, f"backend {backend.name} does not have {wanted}", remedies)


def _has(listed: Listed, backend: str, model: str) -> bool:
    return model_key(model) in map(model_key, listed.get(backend, ()))


def _elsewhere(wanted: str, listed: Listed) -> list[str]:
    names = sorted({name for models in listed.values() for name in models})
    near = get_close_matches(wanted, names, 1)
    remedies = [f"Did you mean {near[0]}?"] if near else []
    return [*remedies, f"There are: {_some(names)}"] if names else remedies


def _pull(url: str, model: str) -> str:
    parts = urlsplit(url)
    usual = parts.hostname in ("127.0.0.1", "localhost") and parts.port == OLLAMA_PORT
    return f"ollama pull {model}" if usual else f"OLLAMA_HOST={parts.netloc} ollama pull {model}"


def _count(names: Collection[str]) -> str:
    return f"{len(names)} model{'' if len(names) == 1 else 's'}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more, see agenthub models" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
