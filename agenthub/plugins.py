"""Finds and loads plugins: the entry points of the group ``agenthub`` in all installed distributions."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import attrs
import pluggy
import structlog

from agenthub.adapter import AdapterType
from agenthub.errors import PluginError
from agenthub.middleware import MiddlewareType
from agenthub.modes import AUTO
from agenthub.settings import PluginsSettings

GROUP = "agenthub"
BUILTIN = "builtin"
_OBSERVED = ("agenthub_dispatch_started", "agenthub_dispatch_finished", "agenthub_breaker_changed")
_log = structlog.get_logger("agenthub")


@attrs.frozen
class PluginInfo:
    """One plugin that was found; ``problem`` is empty unless it was disabled or could not be loaded."""

    name: str
    distribution: str
    version: str
    problem: str = ""


@attrs.define
class Plugins:
    """What the loaded plugins bring."""

    manager: pluggy.PluginManager
    found: list[PluginInfo] = attrs.field(factory=list)
    adapters: dict[str, AdapterType] = attrs.field(factory=dict)
    middleware: dict[str, MiddlewareType] = attrs.field(factory=dict)
    origins: dict[str, str] = attrs.field(factory=dict)
    _observers: Mapping[str, Sequence[tuple[str, Callable[..., Any]]]] = attrs.field(factory=dict)

    def observes(self, hook: str) -> bool:
        """Say whether any plugin implements an observing hook."""
        return bool(self._observers.get(hook))

    def only_call(self, hook: str) -> Callable[..., Any]:
        """Return the hook's caller, or its only implementation, which need not go through pluggy at each dispatch."""
        caller = getattr(self.manager.hook, hook)
        implementations = caller.get_hookimpls()
        return implementations[0].function if len(implementations) == 1 else caller  # type: ignore[no-any-return]

    def notify(self, hook: str, **facts: Any) -> None:
        """Call each plugin's implementation of an observing hook; one that raises is logged and silences no other."""
        for name, call in self._observers.get(hook, ()):
            try:
                call(**facts)
            except Exception as error:
                _log.error("agenthub.hook_failed", hook=hook, plugin=name, error=repr(error))


def make_plugins(settings: PluginsSettings, *, found: Sequence[EntryPoint] | None = None) -> Plugins:
    """Load the built-in plugin and every entry point that is not disabled.

    ``found`` stands in for the installed entry points. Raises PluginError, which names the entry point and its
    distribution; with ``on_error = "skip"`` a plugin that cannot be loaded is left out and logged.
    """
    from agenthub import builtin, hookspecs

    plugins = Plugins(pluggy.PluginManager(GROUP))
    plugins.manager.add_hookspecs(hookspecs)
    plugins.manager.register(builtin, BUILTIN)
    entries = sorted(entry_points(group=GROUP) if found is None else found, key=lambda entry: entry.name)
    _refuse_clashes(entries)
    for name in settings.disabled:
        plugins.manager.set_blocked(name)
    for entry in entries:
        plugins.found.append(_load(plugins.manager, entry, settings))
    try:
        plugins.manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"plugin {plugins.manager.get_name(error.plugin)}: {error}") from error
    _register(plugins, settings)
    plugins._observers = {hook: _observers(plugins.manager, hook) for hook in _OBSERVED}
    return plugins


def describe(entry: EntryPoint) -> str:
    """Return an entry point and its distribution as error texts name them."""
    distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "no distribution"
    return f"plugin {entry.name} ({entry.value}, from {distribution})"


def _refuse_clashes(entries: Sequence[EntryPoint]) -> None:
    # pluggy keeps the first of one name and says nothing.
    by_name: dict[str, dict[str, EntryPoint]] = defaultdict(dict)
    for entry in entries:
        by_name[entry.name][entry.dist.name if entry.dist is not None else ""] = entry
    for name, offers in by_name.items():
        if name == BUILTIN or len(offers) > 1:
            raise PluginError(f"{' and '.join(map(describe, offers.values()))}: the name {name!r} is taken")


def _load(manager: pluggy.PluginManager, entry: EntryPoint, settings: PluginsSettings) -> PluginInfo:
    info = PluginInfo(entry.name, entry.dist.name if entry.dist else "", entry.dist.version if entry.dist else "")
    if manager.is_blocked(entry.name):
        return attrs.evolve(info, problem="disabled")
    if manager.has_plugin(entry.name):  # a distribution that is installed twice, as editable and as wheel
        return info
    try:
        manager.register(entry.load(), entry.name)
    except Exception as error:
        message = f"{describe(entry)} cannot be loaded: {error!r}"
        if settings.on_error == "stop":
            raise PluginError(message) from error
        _log.error("agenthub.plugin_skipped", plugin=entry.name, error=message)
        return attrs.evolve(info, problem=repr(error))
    return info


def _register(plugins: Plugins, settings: PluginsSettings) -> None:
    # One plugin at a time, so that a failure and a clash name their plugin.
    for name, plugin in plugins.manager.list_name_plugin():
        if plugin is None:
            continue
        try:
            adapters = [
                kind for kinds in _call_one(plugins.manager, name, "agenthub_register_adapters") for kind in kinds
            ]
            layers = [
                kind for kinds in _call_one(plugins.manager, name, "agenthub_register_middleware") for kind in kinds
            ]
        except Exception as error:
            raise PluginError(f"plugin {name} failed to register: {error!r}") from error
        for adapter in adapters:
            if adapter.kind != name:
                raise PluginError(
                    f"plugin {name}: its adapter's kind is {adapter.kind!r}, but must equal the plugin's name"
                )
            if name == AUTO:
                raise PluginError(f"plugin {name}: no adapter may have this name: it is the api mode that chooses one")
            plugins.adapters[name] = adapter
        for layer in layers:
            if layer.name in plugins.middleware:
                raise PluginError(f"plugin {name}: middleware {layer.name!r} is taken by {plugins.origins[layer.name]}")
            plugins.middleware[layer.name], plugins.origins[layer.name] = layer, name


def _call_one(manager: pluggy.PluginManager, name: str, hook: str) -> list[Any]:
    others = [plugin for other, plugin in manager.list_name_plugin() if other != name and plugin is not None]
    result: list[Any] = manager.subset_hook_caller(hook, others)()
    return result


def _observers(manager: pluggy.PluginManager, hook: str) -> list[tuple[str, Callable[..., Any]]]:
    named = [(name, plugin) for name, plugin in manager.list_name_plugin() if plugin is not None]
    callers: list[tuple[str, Callable[..., Any]]] = []
    for name, plugin in named:
        if hook in {caller.name for caller in manager.get_hookcallers(plugin) or ()}:
            others = [other for _, other in named if other is not plugin]
            callers.append((name, manager.subset_hook_caller(hook, others)))
    return callers


def install_command(kind: str) -> str:
    """Return how to install one of AgentHub's own adapters: from its sources, since no package index has it."""
    name = f"agenthub-adapter-{kind}"
    sources = Path(__file__).parent.parent / "plugins" / name
    if (sources / "setup.cfg").is_file():
        return f"pip install {shlex.quote(str(sources))}"
    return f"pip install plugins/{name} (in AgentHub's source tree)"
