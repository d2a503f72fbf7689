"""Looks at everything that a request of a client would need, one finding after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from difflib import get_close_matches
from urllib.parse import urlsplit

from agenthub.api.access import REMEDIES, exposure
from agenthub.api.hub import Hub
from agenthub.cli.diagnosis import OLLAMA_PORT, Finding, Trouble, diagnose
from agenthub.cli.opening import open_hub
from agenthub.errors import AgentHubError, UnknownModel
from agenthub.middleware import Backend
from agenthub.middleware.cache_key import model_key
from agenthub.modes import AUTO, preferred
from agenthub.probing import probe
from agenthub.settings import Settings
from agenthub.shared import Shared

_SHOWN = 12
Listed = dict[str, list[str]]
"""The names of the models that each backend lists, by the backend's name; no entry for one that does not answer."""


async def examine(settings: Settings, model: str | None) -> AsyncIterator[Finding]:
    """Yield what is found about the settings, each backend, each alias, and ``model``; raises ConfigError."""
    async with open_hub(settings) as hub:
        sources = ", ".join(dict.fromkeys(settings.sources.values())) or "defaults only"
        yield Finding(True, f"settings: {sources}")
        if problem := exposure(settings):
            yield Finding(False, f"host: {problem}", REMEDIES)
        yield Finding(True, f"adapters: {', '.join(hub.plugins.adapters)}")
        if hub.shared is not None:
            yield await _examine_redis(hub.shared)
        listed: Listed = {}
        for backend in hub.router.backends.values():
            yield await _examine_backend(hub, backend, listed)
        await hub.router.refresh()
        for alias in settings.models:
            yield _examine_model(hub, alias, listed)
        if model is not None and model not in settings.models:
            yield _examine_model(hub, model, listed)


async def _examine_redis(shared: Shared) -> Finding:
    name = shared.link.server.name
    try:
        problem = await shared.link.probe()
    finally:
        await shared.link.close()
    if not problem:
        return Finding(True, f"redis: {name} answers")
    text = f"redis: {name} does not: {problem}; each hub keeps to itself what they would share"
    return Finding(False, text, ["Start it, or name another with caching.url."])


async def _examine_backend(hub: Hub, backend: Backend, listed: Listed) -> Finding:
    mode, url = hub.router.api_mode(backend), backend.settings.url
    if _is_hub_itself(hub.settings, url):
        text = f"backend {backend.name}: {url} is this hub itself, which would ask itself without end"
        return Finding(False, text, ["Point it to the model server, or give the hub another port."])
    if hub.router.wished_mode(backend) == AUTO:
        with suppress(AgentHubError):
            await probe(backend, hub.settings.health.ping_timeout_s)
        mode = hub.router.api_mode(backend)
    error = await _ping(hub, backend, mode)
    if error is not None:
        others = [kind for kind in backend.adapters if kind != mode and await _ping(hub, backend, kind) is None]
        return diagnose(Trouble(hub.settings, backend, mode, error, others))
    try:
        async with asyncio.timeout(hub.settings.health.ping_timeout_s or None):
            names = sorted(model.name for model in await backend.adapters[mode].models())
    except (AgentHubError, TimeoutError) as error:
        why = str(error) or "no answer in time"
        return Finding(False, f"backend {backend.name}: {url} answers, but does not list its models: {why}")
    listed[backend.name] = names
    shown = f"{mode} API"
    if hub.router.wished_mode(backend) == AUTO:
        shown = f"{' and '.join(preferred(backend.answers))} API (auto)"
    text = f"backend {backend.name}: {url} answers through the {shown}"
    if names:
        return Finding(True, f"{text} with {_count(names)}: {_some(names)}")
    return Finding(True, f"{text}, but has no model yet", [f"Get one: {_pull(url, 'llama3.2')}"])


async def _ping(hub: Hub, backend: Backend, kind: str) -> Exception | None:
    try:
        async with asyncio.timeout(hub.settings.health.ping_timeout_s or None):
            await backend.adapters[kind].ping()
    except (AgentHubError, TimeoutError) as error:
        return error
    return None


def _examine_model(hub: Hub, name: str, listed: Listed) -> Finding:
    try:
        route = hub.router.resolve(name)
    except UnknownModel:
        alias = hub.settings.models.get(name)
        wanted = alias.target if alias is not None else name
        title = f"model {name}" if wanted == name else f"alias {name} -> {wanted}"
        silent = [backend for backend in hub.router.backends if backend not in listed]
        if silent:
            return Finding(False, f"{title}: not known, since backend {silent[0]} does not answer")
        return Finding(False, f"{title}: no backend has it", _elsewhere(wanted, listed))
    target = route.upstream_model
    title = f"model {name}" if target == name else f"alias {name} -> {target}"
    holders = [backend.name for backend in route.candidates if _has(listed, backend.name, target)]
    if holders:
        return Finding(True, f"{title}: on {', '.join(holders)}")
    backend = route.candidates[0]
    if backend.name not in listed:
        return Finding(False, f"{title}: not known, since backend {backend.name} does not answer")
    remedies = [*_elsewhere(target, listed), f"Get it: {_pull(backend.settings.url, target)}"]
    return Finding(False, f"{title}: backend {backend.name} does not have {target}", remedies)


def _has(listed: Listed, backend: str, model: str) -> bool:
    return model_key(model) in map(model_key, listed.get(backend, ()))


def _elsewhere(wanted: str, listed: Listed) -> list[str]:
    names = sorted({name for models in listed.values() for name in models})
    near = get_close_matches(wanted, names, 1)
    remedies = [f"Did you mean {near[0]}?"] if near else []
    return [*remedies, f"There are: {_some(names)}"] if names else remedies


def _is_hub_itself(settings: Settings, url: str) -> bool:
    parts = urlsplit(url)
    local = {settings.host, "localhost", "127.0.0.1", "::1"}
    return parts.hostname in local and parts.port == settings.port


def _pull(url: str, model: str) -> str:
    parts = urlsplit(url)
    usual = parts.hostname in ("127.0.0.1", "localhost") and parts.port == OLLAMA_PORT
    return f"ollama pull {model}" if usual else f"OLLAMA_HOST={parts.netloc} ollama pull {model}"


def _count(names: Collection[str]) -> str:
    return f"{len(names)} model{'' if len(names) == 1 else 's'}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more, see agenthub models" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
