"""The load: connections that ask again as soon as they are answered. Jobs come in and results go out as JSON lines.

It reads no more of an answer than it takes to see its status and its end, so that it is never what is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from typing import Any, Final, cast

import attrs

from bench import loops, traffic
from bench.upstream import content_length

_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_PATIENCE_S: Final = 20.0


@attrs.define
class Round:
    """What all connections of one round share."""

    requests: Iterator[bytes]
    ends_at: float
    finished: asyncio.Event
    running: int = 0
    answers: int = 0
    problem: str = ""

    def answered(self) -> bool:
        """Count an answer; say whether to ask again."""
        if time.perf_counter() >= self.ends_at:
            return False
        self.answers += 1
        return True

    def closed(self, problem: str) -> None:
        """Note that a connection is done; the last one ends the round."""
        self.problem = self.problem or problem
        self.running -= 1
        if not self.running or self.problem:
            self.finished.set()


class Connection(asyncio.Protocol):
    """Asks, waits for the end of the answer, asks again."""

    def __init__(self, shared: Round) -> None:
        self._round = shared
        self._problem = "the connection was closed before its answer was complete"
        self._seen = b""
        self._missing: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(next(self._round.requests))

    def data_received(self, data: bytes) -> None:
        if self._missing is not None:  # in a body of known size
            self._missing -= len(data)
            ended = self._missing <= 0
        else:
            self._seen += data
            ended = self._read_head()
        if ended:
            self._ended()

    def _read_head(self) -> bool:
        if self._seen.startswith(b"HTTP/1.1"):
            end = self._seen.find(b"\r\n\r\n")
            if end < 0:
                return False
            if not self._seen.startswith(b"HTTP/1.1 200"):
                self._stop(self._seen[:200].decode("latin-1"))
                return False
            if size := content_length(self._seen[: end + 2]):
                self._missing = end + 4 + size - len(self._seen)
                return self._missing <= 0
        # In chunks: enough is kept to know the end, which is no part of any JSON.
        ended = self._seen.endswith(_LAST_CHUNK)
        self._seen = b"." + self._seen[-len(_LAST_CHUNK) :]
        return ended

    def _ended(self) -> None:
        self._seen, self._missing = b"", None
        if self._round.answered():
            self._transport.write(next(self._round.requests))
        else:
            self._stop("")

    def _stop(self, problem: str) -> None:
        self._problem = problem
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._round.closed(self._problem)


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run one round; return ``answers``, ``seconds`` and ``problem``, empty if all went well."""
    loop = asyncio.get_running_loop()
    requests = itertools.cycle(traffic.http_requests(job["case"], job["port"], job["path"], job.get("headers", "")))
    started = time.perf_counter()
    shared = Round(requests, started + job["seconds"], asyncio.Event(), job["connections"])
    for _ in range(job["connections"]):
        await loop.create_connection(lambda: Connection(shared), "127.0.0.1", job["port"])
    try:
        async with asyncio.timeout(job["seconds"] + _PATIENCE_S):
            await shared.finished.wait()
    except TimeoutError:
        shared.problem = "an answer did not end"
    return {"answers": shared.answers, "seconds": job["seconds"], "problem": shared.problem}


def main() -> None:
    """Run jobs until the input ends."""
    with asyncio.Runner(loop_factory=loops.factory(loops.best())) as runner:
        for line in sys.stdin:
            print(json.dumps(runner.run(run(json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
