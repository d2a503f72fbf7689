"""python -m bench: run everything, print the table."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench import hub, processes, report, traffic
from bench.cases import CASES, CONSTANT, Case, Result, first_answer, measure
from bench.processes import BenchError, Program


def main() -> None:
    """Measure and print; end with code 1 only if the measurement broke, never for a slow figure."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=sys.modules["bench"].__doc__)
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    parser.add_argument("--quick", action="store_true", help="short rounds: a look, not a measurement")
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="only this case")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    cases = [case for case in CASES if not arguments.case or case.name in arguments.case]
    try:
        figures, results = run(cases, quick=arguments.quick)
    except BenchError as error:
        sys.exit(f"bench: {error}")
    print(json.dumps(figures, indent=2) if arguments.json else report.render(figures, results))


def run(cases: Sequence[Case], *, quick: bool) -> tuple[dict[str, Any], list[Result]]:
    """Measure all; raise BenchError."""
    rounds, seconds, starts = (2, 0.5, 2) if quick else (6, 1.5, 5)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        port = processes.free_port()
        command = processes.python("bench.upstream", f"--port={port}")
        stack.enter_context(processes.running(command, port, "/api/version", directory, processes.environment()))
        starts_s = [_start_s(port, directory) for _ in range(starts)]
        subject = stack.enter_context(hub.running(port, directory))
        memory = {"start": subject.rss_mb()}
        bare = stack.enter_context(_bare(subject, port, directory))
        client = stack.enter_context(processes.load_client())
        results = []
        for case in cases:
            first_answer(case, subject, traffic.path(case.name))
            if case.path != CONSTANT:
                first_answer(case, bare, case.path)
            results.append(measure(case, client, subject, bare, rounds=rounds, seconds=seconds))
        memory["load"] = subject.rss_mb()
        return report.make_report(subject.loop(), results, starts_s, memory), results


def _start_s(upstream: int, directory: Path) -> float:
    with hub.running(upstream, directory) as program:
        return program.start_s


@contextmanager
def _bare(subject: Program, upstream: int, directory: Path) -> Iterator[Program]:
    """Run the bare programs, on the hub's own loop and with a constant as large as the hub's cached answer."""
    hit = next(case for case in CASES if case.name == "hit")
    size = len(first_answer(hit, subject, traffic.path(hit.name)))
    port = processes.free_port()
    arguments = (f"--port={port}", f"--upstream=http://127.0.0.1:{upstream}", f"--size={size}")
    command = processes.python("bench.bare", *arguments, f"--loop={subject.loop()}")
    with processes.running(command, port, "/", directory, processes.environment()) as program:
        yield program


if __name__ == "__main__":
    main()
