"""``agenthub explain``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import IO

import click

from agenthub.api.described import Described, describe
from agenthub.api.explained import explain_request
from agenthub.api.hub import Hub
from agenthub.canonical import JSON
from agenthub.cli.console import make_console, mute_logging
from agenthub.cli.explanation import print_explanation
from agenthub.cli.opening import open_hub
from agenthub.cli.options import load_settings, settings_options
from agenthub.dialects import jsontext
from agenthub.errors import InvalidRequest
from agenthub.health import Health
from agenthub.middleware import Caller
from agenthub.settings import Settings

PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}
_BODILESS = ("GET", "HEAD", "OPTIONS")


@click.command()
@settings_options
@click.option("--dialect", type=click.Choice(list(PATHS)), default="ollama", help="Whose chat, where no path is given.")
@click.option("--path", metavar="PATH", help="The path, as in /v1/embeddings.")
@click.option("--method", metavar="METHOD", default="POST", show_default=True, help="The method.")
@click.option("--file", "file", type=click.File("rb"), help="The body; - or nothing is stdin.")
@click.option("--header", "headers", metavar="'NAME: VALUE'", multiple=True, help="A header; may be given repeatedly.")
@click.option("--client", metavar="NAME", default="", help="In whose name it is asked, where it shows no key.")
@click.option("--json", "as_json", is_flag=True, help="As POST /hub/explain answers it.")
@click.pass_context
def command(
    ctx: click.Context,
    config: str | None,
    assignments: tuple[str, ...],
    dialect: str,
    path: str | None,
    method: str,
    file: IO[bytes] | None,
    headers: tuple[str, ...],
    client: str,
    as_json: bool,
) -> None:
    """Tell what the hub would do with a request, and why.

    It is explained by the settings, without a running hub; no model is asked.
    Ends with 1 where the hub would refuse the request.

    \b
    agenthub explain --dialect openai --file body.json
    echo '{"model": "llama3.2", "messages": []}' | agenthub explain
    """
    settings = load_settings(config, assignments)
    body = b"" if method.upper() in _BODILESS else _read(file)
    try:
        described = describe(method, path or PATHS[dialect], _headers(headers), body)
    except InvalidRequest as error:
        raise click.UsageError(str(error)) from None
    mute_logging()
    told = asyncio.run(_explain(settings, described, client))
    if as_json:
        click.echo(jsontext.dumps(told).decode("utf-8"))
    else:
        print_explanation(make_console(), told)
    if (told["answer"]["status"] or 0) >= 400:
        ctx.exit(1)


def _read(file: IO[bytes] | None) -> bytes:
    if file is not None:
        return file.read()
    if sys.stdin is None or sys.stdin.isatty():
        raise click.UsageError("there is no body: use --file, or write it to stdin")
    return sys.stdin.buffer.read()


def _headers(given: Sequence[str]) -> dict[str, str | list[str]]:
    found: dict[str, list[str]] = {}
    for header in given:
        name, colon, value = header.partition(":")
        if not colon:
            # Not shown: it may be a secret whose name was forgotten.
            raise click.UsageError("--header: use 'NAME: VALUE', as in --header 'X-Client-Name: vscode'")
        found.setdefault(name.strip().lower(), []).append(value.strip())
    return {"host": "localhost", **found}


async def _explain(settings: Settings, described: Described, client: str) -> dict[str, JSON]:
    async with open_hub(settings) as hub:
        await hub.router.refresh()
        # What a hub that runs finds out in the background: who is up, and what is loaded.
        await Health(hub.router).check()
        return await explain_request(hub, described, _owner(hub, client))


def _owner(hub: Hub, client: str) -> Caller:
    """Return who asks where the request shows no key."""
    if not client:
        return Caller()
    if client not in hub.settings.clients:
        raise click.UsageError(f"--client: there is no client {client} in the settings")
    return Caller(client=client, rights=hub.access.clients.rights[client])
