"""``agenthub models``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import click

from agenthub.api.hub import Hub
from agenthub.canonical import ModelInfo
from agenthub.cli.console import make_console, make_table, mute_logging, tame
from agenthub.cli.opening import open_hub
from agenthub.cli.options import load_settings, settings_options
from agenthub.dialects.ollama.listing import render_entry
from agenthub.settings import Settings

_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


@click.command()
@settings_options
@click.pass_context
def command(ctx: click.Context, config: str | None, assignments: tuple[str, ...]) -> None:
    """List the models of all backends, and the aliases.

    Each with the backends that would answer for it. Ends with 1 when no backend
    answers; agenthub check says why.
    """
    settings = load_settings(config, assignments)
    mute_logging()
    if not asyncio.run(_print_models(settings)):
        ctx.exit(1)


async def _print_models(settings: Settings) -> bool:
    async with open_hub(settings) as hub:
        await hub.router.refresh()
        rows = list(_rows(hub))
        errors = {name: hub.router.error(backend) for name, backend in hub.router.backends.items()}
    console = make_console()
    if rows:
        table = make_table(console, "model", "backends", "size", "modified")
        for row in rows:
            table.add_row(*map(tame, row))
        console.print(table)
    for name, error in errors.items():
        if error is not None:
            click.echo(f"agenthub: backend {name} gave no list, see agenthub check: {tame(str(error))}", err=True)
    if not rows and not all(errors.values()):
        console.print("No models yet. Get one: ollama pull llama3.2", soft_wrap=True)
    return not all(errors.values())


def _rows(hub: Hub) -> Iterator[tuple[str, ...]]:
    aliases = hub.settings.models
    for model in sorted(hub.router.models(), key=lambda model: model.name):
        target = aliases[model.name].target if model.name in aliases else model.name
        name = model.name if target == model.name else f"{model.name} -> {target}"
        holders = ", ".join(backend.name for backend in hub.router.resolve(model.name).candidates)
        yield (name, holders, *_facts(model))
    for alias, settings in aliases.items():
        if hub.router.find(alias) is None:
            name = alias if settings.target == alias else f"{alias} -> {settings.target}"
            yield name, "none has it", "", ""


def _facts(model: ModelInfo) -> tuple[str, str]:
    entry = render_entry(model)
    size, modified = entry.get("size"), str(entry.get("modified_at") or "")
    known = modified and not modified.startswith("1970")
    return format_bytes(size) if isinstance(size, int) else "", modified[:16].replace("T", " ") if known else ""


def format_bytes(size: int) -> str:
    """Return a size as Ollama shows it, in decimal units; empty for 0, which means not known."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} B" if size else ""
