"""``agenthub plugins``."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import click

from agenthub import __version__
from agenthub.cli.console import make_console, make_table, mute_logging
from agenthub.cli.options import load_settings, settings_options
from agenthub.modes import AUTO
from agenthub.plugins import BUILTIN, Plugins, make_plugins
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
    problems = list(_problems(settings, found))
    for problem in problems:
        click.echo(f"agenthub: {problem}", err=True)
    for hint in _missing(settings, found):
        click.echo(hint)
    if problems:
        ctx.exit(1)


def _print_plugins(found: Plugins) -> None:
    console = make_console()
    table = make_table(console, "plugin", "distribution", "brings", "state", unbroken=("plugin", "distribution"))
    table.add_row(BUILTIN, f"agenthub {__version__}", _brings(found, BUILTIN), "loaded")
    for plugin in found.found:
        distribution = f"{plugin.distribution} {plugin.version}".strip()
        state = {"": "loaded", "disabled": "disabled"}.get(plugin.problem, f"broken: {plugin.problem}")
        table.add_row(plugin.name, distribution, _brings(found, plugin.name), state)
    console.print(table)


def _brings(found: Plugins, plugin: str) -> str:
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


def _problems(settings: Settings, found: Plugins) -> Iterator[str]:
    if settings.plugins.on_error == "stop":
        broken = [plugin.name for plugin in found.found if plugin.problem not in ("", "disabled")]
        yield from (
            f"the hub will not start with the broken plugin {name}: repair or remove it, "
            f'or set plugins.on_error = "skip"'
            for name in broken
        )
    for name in settings.middleware:
        if name not in found.middleware:
            yield f"the hub will not start: no plugin brings the middleware {name}"
    if settings.api_mode not in (*found.adapters, AUTO):
        yield f"the hub will not start: no adapter {settings.api_mode}, which api_mode asks for"


def _missing(settings: Settings, found: Plugins) -> Iterator[str]:
    """Yield a line for each of the two usual adapters that is not installed."""
    installed = {plugin.name for plugin in found.found}
    for kind, distribution in PUBLISHED.items():
        if kind not in installed:
            yield f"The {kind} adapter is not installed. To have that mode too: pip install {distribution}"
        elif kind in settings.plugins.disabled:
            yield f"The {kind} adapter is switched off by plugins.disabled."
