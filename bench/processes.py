"""Starts the programs of a measurement, looks at them from outside, and ends them."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

ROOT: Final = Path(__file__).resolve().parent.parent
_START_S: Final = 30.0
_STOP_S: Final = 10.0
_POLL_S: Final = 0.005


class BenchError(Exception):
    """The measurement could not be made."""


@attrs.frozen
class Program:
    """A running program that answers on ``port``; ``start_s`` is how long it took to answer."""

    port: int
    pid: int
    start_s: float

    def rss_mb(self) -> float | None:
        """Return its resident memory in units of 2**20 bytes, None where there is no /proc."""
        for line in _proc(self.pid, "status").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return None

    def cpu_s(self) -> float:
        """Return the processor time that it used so far, 0 where there is no /proc."""
        fields = _proc(self.pid, "stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0

    def loop(self) -> str:
        """Return the event loop that it runs on, as what it has loaded shows."""
        return "uvloop" if "/uvloop/" in _proc(self.pid, "maps") else "asyncio"


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def python(*arguments: str) -> list[str]:
    """Return the command that runs a module with this interpreter."""
    return [sys.executable, "-m", *arguments]


def environment(**more: str) -> dict[str, str]:
    """Return the environment without settings of a hub that is meant for something else."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTHUB_", "OLLAMA_"))}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str], port: int, ready: str, directory: Path, environ: Mapping[str, str]
) -> Iterator[Program]:
    """Run a program until the block ends; it is there when it answers ``ready`` with a status below 500."""
    log = directory / f"{port}.log"
    with log.open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=directory, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            _wait(process, port, ready, log)
            yield Program(port, process.pid, time.perf_counter() - began)
        finally:
            _end(process)


def _wait(process: subprocess.Popen[bytes], port: int, ready: str, log: Path) -> None:
    ends_at = time.perf_counter() + _START_S
    while time.perf_counter() < ends_at and process.poll() is None:
        try:
            if ask(port, "GET", ready)[0] < 500:
                return
        except OSError:
            time.sleep(_POLL_S)
    raise BenchError(f"{process.args!r} did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}")


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers (names in lower case) and body of one request; raise OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_START_S)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


@attrs.define
class Client:
    """The process that makes the load."""

    process: subprocess.Popen[str]

    def run(self, **job: Any) -> dict[str, Any]:
        """Run one round; raise BenchError if anything but the expected answers came."""
        assert self.process.stdin is not None, "started with a pipe"
        assert self.process.stdout is not None, "started with a pipe"
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise BenchError("the load client ended")
        result: dict[str, Any] = json.loads(line)
        if result["problem"] or not result["answers"]:
            raise BenchError(f"{job}: {result['problem'] or 'no answers'}")
        return result


@contextmanager
def load_client() -> Iterator[Client]:
    """Run the load client until the block ends."""
    command, pipe = python("bench.client"), subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Client(process)
        finally:
            _end(process)
