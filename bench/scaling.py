"""python -m bench.scaling: what a request costs where there is much of something, against where there is little."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import attrs

from bench import processes, traffic
from bench.cases import CONNECTIONS
from bench.processes import BenchError, Client, Program

AIM: Final = 1.05
_CASE: Final = "dispatch"


@attrs.frozen
class Dimension:
    """Something that there may be ``many`` of. ``settings`` are those of a hub with so many, in TOML."""

    name: str
    settings: Callable[[int, str], str]
    few: int = 1
    many: int = 1000
    headers: str = ""


def _backends(count: int, url: str) -> str:
    return "".join(f'[backends.b{number}]\nurl = "{url}"\n' for number in range(count))


def _keys(count: int, url: str) -> str:
    clients = "".join(f'[clients.c{number}]\napi_key = "key-of-client-{number}"\n' for number in range(1, count))
    return f'{_backends(1, url)}[clients.c0]\napi_key = "key-of-client-0"\n{clients}'


def _aliases(count: int, url: str) -> str:
    aliases = "".join(f'[models.alias-{number}]\ntarget = "{traffic.MODEL}"\n' for number in range(count))
    return _backends(1, url) + aliases


def _minute(limit: int, url: str) -> str:
    return f"{_backends(1, url)}[clients.c0]\nrequests_per_minute = {limit}\n"


DIMENSIONS: Final = (
    Dimension("client keys", _keys, headers="Authorization: Bearer key-of-client-0\r\n"),
    Dimension("aliases", _aliases),
    Dimension("backends that have the model", _backends, many=50),
    Dimension("a limit of requests a minute", _minute, few=0, many=10_000_000, headers="X-Client-Name: c0\r\n"),
)


def main() -> None:
    """Measure and print; end with code 1 only if the measurement broke, never for a slow figure."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short rounds: a look, not a measurement")
    rounds, seconds = (3, 0.5) if parser.parse_args().quick else (8, 1.0)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory, processes.load_client() as client:
            print(f"{'CPU time an answer, microseconds':42}{'few':>10}{'many':>10}{'ratio':>8}{'aim':>8}")
            for dimension in DIMENSIONS:
                print(_row(dimension, *_measure(dimension, client, Path(directory), rounds, seconds)), flush=True)
    except BenchError as error:
        sys.exit(f"bench: {error}")


def _row(dimension: Dimension, few: Sequence[float], many: Sequence[float]) -> str:
    ratio = statistics.median([much / little for little, much in zip(few, many, strict=True)])
    title = f"{dimension.name}: {dimension.few} and {dimension.many:,}"
    return f"{title:42}{statistics.median(few):10.0f}{statistics.median(many):10.0f}{ratio:8.2f}{AIM:8.2f}"


def _measure(
    dimension: Dimension, client: Client, directory: Path, rounds: int, seconds: float
) -> tuple[list[float], list[float]]:
    """Return the processor time of an answer, round by round, with few and with many."""
    port = processes.free_port()
    command = processes.python("bench.upstream", f"--port={port}")
    with ExitStack() as stack:
        stack.enter_context(processes.running(command, port, "/api/version", directory, processes.environment()))
        counts = (dimension.few, dimension.many)
        hubs = [stack.enter_context(_hub(dimension, count, port, directory)) for count in counts]
        measured: tuple[list[float], list[float]] = ([], [])
        for number in range(rounds + 1):
            for which in (0, 1) if number % 2 else (1, 0):
                spent = _turn(client, hubs[which], dimension.headers, seconds)
                if number:  # the first round warms up
                    measured[which].append(spent)
        return measured


@contextmanager
def _hub(dimension: Dimension, count: int, upstream: int, directory: Path) -> Iterator[Program]:
    port = processes.free_port()
    config = directory / f"{port}.toml"
    config.write_text(f'[log]\nformat = "json"\n{dimension.settings(count, f"http://127.0.0.1:{upstream}")}')
    environ = processes.environment(AGENTHUB_PORT=str(port))
    command = processes.python("agenthub", "serve", "--config", str(config))
    with processes.running(command, port, "/health", directory, environ) as program:
        yield program


def _turn(client: Client, program: Program, headers: str, seconds: float) -> float:
    before, path = program.cpu_s(), traffic.path(_CASE)
    job = {"port": program.port, "path": path, "seconds": seconds, "connections": CONNECTIONS, "headers": headers}
    done = client.run(case=_CASE, **job)
    return float(1e6 * (program.cpu_s() - before) / done["answers"])


if __name__ == "__main__":
    main()
