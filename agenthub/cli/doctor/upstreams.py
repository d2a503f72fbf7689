"""The backends as doctor sees them: what each answers through each adapter, and which of them is used and why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from datetime import timedelta

import attrs

from agenthub.app import make_backends
from agenthub.cli.diagnosis import Trouble, explain
from agenthub.cli.doctor.listening import Listener, identify
from agenthub.cli.doctor.origins import Origins
from agenthub.cli.examining import Listed, Probes, examine_backend, examine_model
from agenthub.cli.findings import Finding, Level
from agenthub.cli.rule_models import examine_rules
from agenthub.kept import Kept
from agenthub.middleware import Backend
from agenthub.modes import AUTO, explain_mode
from agenthub.opening import open_adapters
from agenthub.plugins import Plugins
from agenthub.routing import Router
from agenthub.settings import Settings

_CLOCK_OFF = timedelta(seconds=60)


@attrs.frozen
class _Looked:
    """One backend and all that was asked of it."""

    probes: Probes
    finding: Finding
    listener: Listener | None


async def examine_backends(
    settings: Settings, plugins: Plugins, origins: Origins, limit_s: float
) -> AsyncGenerator[tuple[str, Finding], None]:
    """Yield group and finding: of each backend, of each alias, of the rules. Nothing takes longer than ``limit_s``."""
    # 0 would mean for ever, and doctor is to have an end.
    health = attrs.evolve(settings.health, ping_timeout_s=limit_s)
    settings = attrs.evolve(settings, health=health)
    try:
        router, listed = Router(settings, make_backends(settings, plugins, Kept())), Listed()
    except Exception as error:  # somebody else's adapter
        yield "plugins", Finding("plugin.make", Level.ERROR, f"an adapter cannot be made: {error!r}")
        return
    async with open_adapters(router):
        looks = (_look(Probes(router, backend), listed, limit_s) for backend in router.backends.values())
        looked = await asyncio.gather(*looks)
        for one in looked:
            async for finding in _tell(one, origins):
                yield "backends", finding
        for finding in _wishes(settings):
            yield "backends", finding
        if all(one.finding.level is Level.ERROR and one.finding.id != "backend.list" for one in looked):
            text = "no backend is of use: every request for a model will fail"
            yield "backends", Finding("backends.none", Level.ERROR, text)
        await router.refresh()
        for alias in settings.models:
            yield "models", examine_model(router, alias, listed)
        for finding in examine_rules(settings.enhancement, lambda name: examine_model(router, name, listed)):
            yield "models", finding


async def _look(probes: Probes, listed: Listed, limit_s: float) -> _Looked:
    url = probes.backend.settings.url.removesuffix("/v1")
    _, listener = await asyncio.gather(probes.ask_all(), identify(url, limit_s))
    return _Looked(probes, await examine_backend(probes, listed), listener)


async def _tell(looked: _Looked, origins: Origins) -> AsyncGenerator[Finding, None]:
    probes, backend = looked.probes, looked.probes.backend
    yield looked.finding
    yield _mode(probes.router.settings, backend, origins, await probes.mode())
    if looked.finding.id == "backend.itself":
        return
    for kind in backend.adapters:
        error = await probes.error(kind)
        if error is None:
            text = f"backend {backend.name}: through {kind}: answers"
            yield Finding("backend.adapter_answers", Level.OK, text, subject=backend.name)
            continue
        _, text, _ = explain(Trouble(probes.router.settings, backend, kind, error))
        text = f"backend {backend.name}: through {kind}: {text}"
        yield Finding("backend.adapter_fails", Level.INFO, text, subject=backend.name)
    if looked.listener is not None and looked.listener.kind == "agenthub":
        text = f"backend {backend.name}: {backend.settings.url} is an AgentHub too, which must not ask this one again"
        yield Finding("backend.hub", Level.INFO, text, subject=backend.name)
    if looked.listener is not None and looked.listener.ahead is not None:
        for finding in _clock(backend, looked.listener.ahead):
            yield finding


def _mode(settings: Settings, backend: Backend, origins: Origins, mode: str) -> Finding:
    """Return the mode that requests without a word of their own go by, and whose word it is."""
    wish = explain_mode(settings, backend)
    key = wish.rule if wish.level == "backend" else "api_mode"
    origin = origins.find(settings.sources.get(key, ""), key)
    rule = "the default" if wish.level == "default" else f"{key} ({origin})"
    how = wish.mode if wish.mode != AUTO else _auto(backend, mode)
    text = f"backend {backend.name}: asked through {how}, by {rule}"
    if wish.level == "backend" and wish.mode != settings.api_mode and "api_mode" in settings.sources:
        of_hub = origins.find(settings.sources["api_mode"], "api_mode")
        text += f", which goes before api_mode = {settings.api_mode} ({of_hub})"
    return Finding("backend.mode", Level.INFO, text, subject=backend.name)


def _auto(backend: Backend, mode: str) -> str:
    if len(backend.answers) < 2:
        return f"auto, which is {mode} here"
    return f"auto, which is {mode} here unless a request loses less through another"


def _wishes(settings: Settings) -> Iterator[Finding]:
    """Yield who goes before the backends' own modes."""
    wishes = [(f"of client {name}", name, client.api_mode) for name, client in settings.clients.items()]
    wishes += [(f"for alias {name}", name, alias.api_mode) for name, alias in settings.models.items()]
    for whose, name, mode in wishes:
        if mode:
            text = f"requests {whose} go through {mode}, whatever the backend and the hub say"
            yield Finding("backend.mode_of", Level.INFO, text, subject=name)


def _clock(backend: Backend, ahead: timedelta) -> Iterator[Finding]:
    if abs(ahead) < _CLOCK_OFF:
        return
    side = "ahead of" if ahead > timedelta() else "behind"
    # Tenths of a second would be noise: the header has whole ones.
    text = f"the clock of this machine is {timedelta(seconds=abs(ahead) // timedelta(seconds=1))} {side} "
    text += f"that of backend {backend.name} ({backend.settings.url})"
    remedies = ["timedatectl set-ntp true", "If it is the other machine's that is wrong, the same there."]
    yield Finding("backend.clock", Level.WARNING, text, remedies, backend.name)
