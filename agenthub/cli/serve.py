"""``agenthub serve``."""

from __future__ import annotations

from functools import partial

import click

from agenthub import signal_hold
from agenthub.cli.options import flag_option, load_settings, setting_option, settings_options
from agenthub.cli.serving import allow_many_files, run, serve
from agenthub.cli.workers import serve_with_workers
from agenthub.log import configure_logging


@click.command()
@settings_options
@setting_option("host", "ADDRESS")
@setting_option("port", "NUMBER")
@setting_option("workers", "NUMBER")
@setting_option("api_mode", "MODE")
@setting_option("log.level", "LEVEL")
@setting_option("log.format", "FORMAT")
@flag_option("insecure")
def command(
    config: str | None,
    assignments: tuple[str, ...],
    host: str | None,
    port: str | None,
    workers: str | None,
    api_mode: str | None,
    log_level: str | None,
    log_format: str | None,
    insecure: str | None,
) -> None:
    """Run the hub until SIGTERM or Ctrl-C.

    It then takes no new requests, and running ones may finish for up to drain_s
    seconds; a second signal ends it at once. SIGHUP loads the settings anew.

    Settings, later wins: defaults, the TOML file, .env in the working directory,
    environment, command line.
    """
    given = {"host": host, "port": port, "workers": workers, "api_mode": api_mode, "insecure": insecure}
    given |= {"log.level": log_level, "log.format": log_format}
    load = partial(load_settings, config, assignments, given)
    settings = load()
    configure_logging(settings.log)
    allow_many_files()
    try:
        if settings.workers > 1:
            serve_with_workers(settings, load)
        else:
            run(serve(settings, load))
    finally:
        signal_hold.settle()
