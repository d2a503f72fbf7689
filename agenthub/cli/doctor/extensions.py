"""The plugins as doctor sees them: loaded, blocked, broken and why; and what can be looked at in spite of them."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from importlib.metadata import entry_points

import attrs

from agenthub import __version__
from agenthub.cli.findings import Finding, Level
from agenthub.cli.plugins import PUBLISHED, brings, missing, problems
from agenthub.errors import PluginError
from agenthub.plugins import GROUP, PluginInfo, Plugins, install_command, make_plugins
from agenthub.settings import Settings


@attrs.frozen
class Extensions:
    """The plugins that doctor goes on with; in ``error`` why the hub itself could not."""

    plugins: Plugins
    error: str = ""


def load_extensions(settings: Settings) -> Extensions:
    """Load the plugins, those that are broken left out; where that cannot be, those of this project alone."""
    leniently = attrs.evolve(settings.plugins, on_error="skip")
    try:
        return Extensions(make_plugins(leniently))
    except PluginError as error:
        own = {}
        for entry in entry_points(group=GROUP):
            if entry.dist is not None and entry.dist.name == PUBLISHED.get(entry.name):
                own[entry.name] = entry
        return Extensions(make_plugins(leniently, found=list(own.values())), str(error))


def examine_plugins(settings: Settings, found: Extensions) -> Iterator[Finding]:
    """Yield each plugin and what is wrong with it, and then what the settings ask for and no plugin brings."""
    plugins = found.plugins
    if found.error:
        text = f"{found.error}; doctor goes on with the adapters of AgentHub alone"
        yield Finding("plugin.refused", Level.ERROR, text, [*_uninstalls(found.error)])
    for plugin in plugins.found:
        yield _describe(plugins, plugin)
    installed = [plugin.name for plugin in plugins.found]
    for name in settings.plugins.disabled:
        if name not in installed:
            near = [f"Did you mean {other}?" for other in get_close_matches(name, installed, 1)]
            text = f"plugins.disabled names {name}, which no distribution brings"
            yield Finding("plugin.unknown", Level.INFO, text, near, name)
    needed = list(problems(settings, plugins))
    yield from needed
    told = {finding.subject for finding in needed} | {*installed}
    yield from (note for note in missing(settings, plugins) if note.subject not in told)


def _describe(plugins: Plugins, plugin: PluginInfo) -> Finding:
    title = f"plugin {plugin.name} ({plugin.distribution} {plugin.version})"
    if plugin.problem == "disabled":
        text = f"{title} is blocked by plugins.disabled"
        return Finding("plugin.blocked", Level.INFO, text, subject=plugin.name)
    if plugin.problem:
        text = f"{title} is broken: {plugin.problem}"
        remedies = [f"pip install --force-reinstall {plugin.distribution}"] if plugin.distribution else []
        return Finding("plugin.skipped", Level.WARNING, text, remedies, plugin.name)
    if plugin.distribution == PUBLISHED.get(plugin.name) and plugin.version != __version__:
        text = f"{title} is of another version than agenthub {__version__}"
        remedies = [install_command(plugin.name)]
        return Finding("plugin.version", Level.WARNING, text, remedies, plugin.name)
    text = f"{title} is loaded and brings: {brings(plugins, plugin.name)}"
    return Finding("plugin.loaded", Level.OK, text, subject=plugin.name)


def _uninstalls(error: str) -> Iterator[str]:
    """Yield how to be rid of the distributions that an error names, but for those of this project."""
    for distribution in sorted({entry.dist.name for entry in entry_points(group=GROUP) if entry.dist is not None}):
        if f"from {distribution} " in error and distribution not in PUBLISHED.values():
            yield f"pip uninstall {distribution}"
