"""``python -m agenthub.standin``: run the stand-in until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Sequence

from . import Standin, running


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the first line printed says the URL."""
    options = _parser().parse_args(arguments)
    standin = Standin(text=options.text, endless=options.endless, pace_s=options.pace, burst=options.burst)
    if options.model:
        standin.models = options.model
    if options.version:
        standin.version = options.version
    asyncio.run(serve(standin, options.host, options.port))


async def serve(standin: Standin, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; any event loop will do."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    async with running(standin, host, port) as url:
        names = ", ".join(model.name for model in standin.models)
        print(f"stand-in Ollama on {url} with {names}", flush=True)
        await over.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m agenthub.standin", description="A stand-in Ollama without a model.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=11434, help="port to listen on, 0 for a free one (%(default)s)")
    parser.add_argument("--pace", type=float, default=0.02, help="seconds between two tokens (%(default)s)")
    parser.add_argument("--model", action="append", help="a model's name; may be given more than once")
    parser.add_argument("--text", help="answer this to everything")
    parser.add_argument("--endless", action="store_true", help="repeat the text without end")
    parser.add_argument("--burst", type=int, default=1, help="tokens put into one write (%(default)s)")
    parser.add_argument("--version", help="Ollama's version, 0.9.3 for the older wire shapes")
    return parser


if __name__ == "__main__":
    main()
