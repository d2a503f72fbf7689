"""``agenthub doctor``."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import click

from agenthub.cli.console import make_console, mute_logging
from agenthub.cli.doctor.configured import Configured, configure
from agenthub.cli.doctor.looking import look
from agenthub.cli.doctor.report import EXIT_STATUS, Cleaner, Printer, Report
from agenthub.cli.options import flag_option, setting_option, settings_options


@click.command()
@settings_options
@setting_option("host", "ADDRESS")
@setting_option("port", "NUMBER")
@setting_option("workers", "NUMBER")
@setting_option("api_mode", "MODE")
@flag_option("insecure")
@click.option("--all", "everything", is_flag=True, help="Show each setting, those at their defaults too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, which docs/doctor.md describes.")
@click.pass_context
def command(
    ctx: click.Context,
    config: str | None,
    assignments: tuple[str, ...],
    host: str | None,
    port: str | None,
    workers: str | None,
    api_mode: str | None,
    insecure: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Find out why it does not work, in detail.

    Looks at everything, also where the settings do not load: each setting with the
    place that it comes from and what it hides, plugins, each backend through each
    adapter, aliases, the port, this machine; and says what to do. Give it what you
    give agenthub serve. It changes nothing, and whatever it asks has
    health.ping_timeout_s to answer. The quick yes or no is agenthub check.

    Exit status: 0 well, 1 something keeps requests from working, 3 warnings only,
    2 wrong usage.
    """
    mute_logging()
    given = {"host": host, "port": port, "workers": workers, "api_mode": api_mode, "insecure": insecure}
    found = configure(config, assignments, given)
    report = asyncio.run(_examine(found, everything=everything, as_json=as_json))
    if as_json:
        click.echo(report.as_json())
    ctx.exit(EXIT_STATUS[report.worst])


async def _examine(found: Configured, *, everything: bool, as_json: bool) -> Report:
    report = Report(found.rows(everything=everything))
    printer = Printer(make_console(), report.rows or ())
    cleaner = Cleaner.of(found.settings) if found.settings is not None else Cleaner(())
    async with aclosing(look(found, report.rows or ())) as findings:
        async for group, finding in findings:
            report.add(group, cleaner.clean(finding))
            if not as_json:
                printer.show(*report.findings[-1])
    if not as_json:
        printer.end(report.verdict)
    return report
