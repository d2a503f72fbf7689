"""``agenthub demo``: the hub in front of a real Ollama, or of the stand-in where there is none."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from agenthub.cli.console import make_console
from agenthub.cli.demo.gate import Gate
from agenthub.cli.demo.show import Show
from agenthub.cli.demo.upstream import find_upstream, ollama_url
from agenthub.cli.server import Server
from agenthub.cli.serving import run
from agenthub.cli.signals import on_signals
from agenthub.log import configure_logging
from agenthub.log_streams import own_stderr
from agenthub.settings import BackendSettings, LogSettings, Settings

_SPARE_PORTS = 20
_DRAIN_S = 2.0


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=9090, show_default=True, help="Port of the hub.")
@click.option("--model", metavar="NAME", help="The model to ask, instead of the smallest that can chat.")
@click.option("--stand-in", is_flag=True, help="Use the stand-in even where an Ollama answers.")
@click.option("--exit", "exit_after", is_flag=True, help="End after the show instead of serving on.")
@click.pass_context
def command(ctx: click.Context, port: int, model: str | None, stand_in: bool, exit_after: bool) -> None:
    """Show what the hub does, with or without an Ollama.

    Uses the Ollama at OLLAMA_HOST (default 127.0.0.1:11434) when one answers and
    has a chat model, else a stand-in that is started here. Asks one question
    through each dialect and each adapter, shows a cached answer, then serves on
    until Ctrl-C. Settings files are not read, but for OLLAMA_HOST in .env.
    """
    gate = Gate(own_stderr())
    configure_logging(LogSettings(), gate.as_text_io())
    url = "" if stand_in else ollama_url(os.environ, Path.cwd())
    if not run(_demo(url, port, model, gate, exit_after=exit_after)):
        ctx.exit(1)


async def _demo(url: str, port: int, model: str | None, gate: Gate, *, exit_after: bool) -> bool:
    """Run the show; return whether each lane answered and the cache had the second answer."""
    async with find_upstream(url, model) as upstream:
        settings = Settings(port=port, drain_s=_DRAIN_S, backends={"ollama": BackendSettings(upstream.url)})
        spare_ports = (*range(port + 1, min(port + _SPARE_PORTS, 65536)), 0)
        server, stop = Server(settings, spare_ports), asyncio.Event()
        async with server as hub_url:
            show = Show(make_console(), hub_url, upstream.model)
            show.introduce(upstream, wanted_port=port)
            all_well = await show.ask_in_each_lane()
            all_well = await show.ask_the_cache() and all_well
            if exit_after:
                show.say_how_to_stay()
            else:
                show.invite()
                await server.write_log()
                with on_signals(stop.set, server.cut), gate.opened():
                    show.say_serving()
                    await stop.wait()
    return all_well
