"""``agenthub plugins``."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import click

from agenthub import __version__
from agenthub.cli.console import make_console, make_table, mute_logging
from agenthub.cli.findings import Finding, Level
from agenthub.cli.options import load_settings, settings_options
from agenthub.modes import AUTO
from agenthub.plugins import BUILTIN, Plugins, install_command, make_plugins
from agenthub.settings import Settings

# The two adapters that the project itself publishes; with one of them the hub works, but in one mode only.
PUBLISHED = {"native": "agenthub-adapter-native", "openai": "agenthub-adapter-openai"}


@click.command()
@settings_options
@click.pass_context
def command(ctx: click.Context, config: str | None, assignments: tuple[str, ...]) -> None:
    """List the plugins and the middleware chain.

    Says of each plugin which distribution it comes from, what it brings, and
    whether it was loaded. Ends with 1 when the hub would not start with them.
    """
    settings = load_settings(config, assignments)
    mute_logging()
    # A broken plugin is to stand in the table, not to stop it.
    found = make_plugins(attrs.evolve(settings.plugins, on_error="skip"))
    _print_plugins(found)
    _print_chain(settings, found)
    wrong = list(problems(settings, found))
    for finding in wrong:
        click.echo(f"agenthub: {finding.text}", err=True)
    for finding in missing(settings, found):
        click.echo(finding.text)
    if wrong:
        ctx.exit(1)


def _print_plugins(found: Plugins) -> None:
    console = make_console()
    table = make_table(console, "plugin", "distribution", "brings", "state", unbroken=("plugin", "distribution"))
    table.add_row(BUILTIN, f"agenthub {__version__}", brings(found, BUILTIN), "loaded")
    for plugin in found.found:
        distribution = f"{plugin.distribution} {plugin.version}".strip()
        state = {"": "loaded", "disabled": "disabled"}.get(plugin.problem, f"broken: {plugin.problem}")
        table.add_row(plugin.name, distribution, brings(found, plugin.name), state)
    console.print(table)


def brings(found: Plugins, plugin: str) -> str:
    """Return the adapter and the middleware of a plugin, "-" where it has none."""
    adapter = [f"adapter {plugin}"] if plugin in found.adapters else []
    layers = [name for name, origin in found.origins.items() if origin == plugin]
    return ", ".join(adapter + [f"middleware {' '.join(layers)}"] * bool(layers)) or "-"


def _print_chain(settings: Settings, found: Plugins) -> None:
    click.echo("\nMiddleware around each dispatch, outermost first:")
    for number, name in enumerate(settings.middleware, 1):
        origin = found.origins.get(name)
        click.echo(f"  {number}. {name}, " + (f"from {origin}" if origin else "which no plugin brings"))
    if not settings.middleware:
        click.echo("  none")


def problems(settings: Settings, found: Plugins) -> Iterator[Finding]:
    """Yield what keeps the hub from starting with these plugins."""
    if settings.plugins.on_error == "stop":
        for plugin in found.found:
            if plugin.problem not in ("", "disabled"):
                text = (
                    f"the hub will not start with the broken plugin {plugin.name}: repair or remove it, "
                    f'or set plugins.on_error = "skip"'
                )
                remedies = [f"pip uninstall {plugin.distribution}"] if plugin.distribution else []
                yield Finding("plugin.broken", Level.ERROR, text, remedies, plugin.name)
    for name in settings.middleware:
        if name not in found.middleware:
            text = f"the hub will not start: no plugin brings the middleware {name}"
            remedies = [f'Take "{name}" out of middleware.']
            yield Finding("plugin.middleware", Level.ERROR, text, remedies, name)
    if settings.api_mode not in (AUTO, *found.adapters):
        text = f"the hub will not start: no adapter {settings.api_mode}, which api_mode asks for"
        yield Finding("plugin.adapter", Level.ERROR, text, _without(settings, found), settings.api_mode)


def _without(settings: Settings, found: Plugins) -> list[str]:
    """Return how to get the adapter that api_mode asks for, or to do without."""
    kind = settings.api_mode
    if any(plugin.name == kind and plugin.problem == "disabled" for plugin in found.found):
        remedies = [f'Take "{kind}" out of plugins.disabled ({settings.sources.get("plugins.disabled", "")}).']
    else:
        remedies = [install_command(kind)] if kind in PUBLISHED else []
    return remedies + [f"Or use another: OLLAMA_API_MODE={other}" for other in found.adapters]


def missing(settings: Settings, found: Plugins) -> Iterator[Finding]:
    """Yield a note for each of the two usual adapters that is not there."""
    installed = {plugin.name for plugin in found.found}
    for kind in PUBLISHED:
        if kind not in installed:
            text = f"The {kind} adapter is not installed. To have that mode too: {install_command(kind)}"
            yield Finding("plugin.missing", Level.INFO, text, subject=kind)
        elif kind in settings.plugins.disabled:
            text = f"The {kind} adapter is switched off by plugins.disabled."
            yield Finding("plugin.blocked", Level.INFO, text, subject=kind)
