"""The command line: one module a command, each imported only when it is used."""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import Any

import click

from agenthub import __version__
from agenthub.cli.output import OutputClosed
from agenthub.errors import AgentHubError, ConfigError

COMMANDS = {
    "serve": "Run the hub until SIGTERM or Ctrl-C.",
    "demo": "Show what the hub does, with or without an Ollama.",
    "check": "Find out quickly whether the hub would work, and what to do if not.",
    "doctor": "Find out why it does not work, in detail.",
    "explain": "Tell what the hub would do with a request, and why.",
    "plugins": "List the plugins and the middleware chain.",
    "enhance": "Put a prompt better by the rules of the hub.",
    "models": "List the models of all backends, and the aliases.",
}
"""Each command, its module's name and its line in ``agenthub --help``; in the order of a newcomer's interest."""

_INTERRUPTED = 130


class Commands(click.Group):
    """Imports a command when it is called, and turns every failure into one line on stderr and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"agenthub.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AgentHubError as error:
            _complain(f"agenthub: {error}")
            ctx.exit(error.exit_status if isinstance(error, ConfigError) else 1)
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        except OutputClosed:
            ctx.exit(1)


def _complain(line: str) -> None:
    try:
        click.echo(line, err=True)
    except OSError:  # nobody is there to read it; the exit status still tells
        sys.stderr = io.StringIO()  # the interpreter's own end would try again, and end with 120


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="New here? agenthub demo",
)
@click.version_option(__version__, prog_name="agenthub", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """One small gateway in front of every Ollama and OpenAI-compatible model server you run.

    Exit status: 0 well, 1 something failed, 2 wrong usage or settings.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
