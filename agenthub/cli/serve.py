"""``agenthub serve``."""

from __future__ import annotations

import click

from agenthub.cli.options import flag_option, load_settings, setting_option, settings_options
from agenthub.cli.serving import run, serve
from agenthub.log import configure_logging


@click.command()
@settings_options
@setting_option("host", "ADDRESS")
@setting_option("port", "NUMBER")
@setting_option("api_mode", "MODE")
@setting_option("log.level", "LEVEL")
@setting_option("log.format", "FORMAT")
@flag_option("insecure")
def command(
    config: str | None,
    assignments: tuple[str, ...],
    host: str | None,
    port: str | None,
    api_mode: str | None,
    log_level: str | None,
    log_format: str | None,
    insecure: str | None,
) -> None:
    """Run the hub until SIGTERM or Ctrl-C.

    It then takes no new requests, and running ones may finish for up to drain_s
    seconds; a second signal ends it at once.

    Settings, later wins: defaults, the TOML file, .env in the working directory,
    environment, command line.
    """
    given = {"host": host, "port": port, "api_mode": api_mode, "log.level": log_level, "log.format": log_format}
    given["insecure"] = insecure
    settings = load_settings(config, assignments, given)
    configure_logging(settings.log)
    run(serve(settings))
