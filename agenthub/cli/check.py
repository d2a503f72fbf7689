"""``agenthub check``."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import click

from agenthub.cli.console import make_console, mute_logging, print_finding
from agenthub.cli.examining import examine
from agenthub.cli.findings import Level
from agenthub.cli.options import load_settings, settings_options
from agenthub.settings import Settings


@click.command()
@settings_options
@click.option("--model", metavar="NAME", help="Also find out who would answer for this model or alias.")
@click.pass_context
def command(ctx: click.Context, config: str | None, assignments: tuple[str, ...], model: str | None) -> None:
    """Find out quickly whether the hub would work, and what to do if not.

    The short yes or no: reads the settings, asks each backend for an answer and
    for its models the way a request would, and looks for the target of each
    alias and the models of enhancement rules. Ends with 0 when all is well, else with 1. For the reasons (where each
    setting comes from, every adapter, plugins, the port, this machine), and when
    the settings do not even load, there is agenthub doctor.
    """
    settings = load_settings(config, assignments)
    mute_logging()
    if not asyncio.run(_print_findings(settings, model)):
        ctx.exit(1)


async def _print_findings(settings: Settings, model: str | None) -> bool:
    console, all_ok = make_console(), True
    async with aclosing(examine(settings, model)) as findings:
        async for finding in findings:
            print_finding(console, finding)
            all_ok = all_ok and finding.level is not Level.ERROR
    return all_ok
