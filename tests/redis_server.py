"""A real Redis for tests: started on a free port in a directory of its own, broken in several ways, ended by its id."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
from redis.asyncio import Redis

from tests.ports import free_port

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
needs_redis = pytest.mark.skipif(PROGRAM is None, reason="needs redis-server or valkey-server")
LIMIT_S = 20.0


@attrs.define
class RedisServer:
    """A server on ``port`` of this machine; what is started again is empty."""

    directory: Path
    port: int
    options: tuple[str, ...] = ()
    _process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Return when it takes connections."""
        assert PROGRAM is not None
        port = () if "--port" in self.options else ("--port", str(self.port))
        self._process = await asyncio.create_subprocess_exec(
            PROGRAM,
            *("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self.directory)),
            *(*port, *self.options),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        said = b""
        async with asyncio.timeout(LIMIT_S):
            while line := await self._process.stdout.readline():
                said += line
                if b"Ready to accept connections" in line:
                    return
        raise AssertionError(f"{PROGRAM} did not start: {said.decode()}")

    def hang(self) -> None:
        """Let it take connections and answer nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    async def kill(self) -> None:
        """End it as kill -9 does; it can be started again."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.communicate()
            self._process = None

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Redis]:
        """A plain client, to look at what is there."""
        client: Redis = Redis(port=self.port)
        try:
            yield client
        finally:
            await client.aclose()


@asynccontextmanager
async def running_redis(directory: Path, *options: str, port: int = 0) -> AsyncIterator[RedisServer]:
    """Run a server for the length of the block; further ``options`` are of its command line."""
    server = RedisServer(directory, port or free_port(), options)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


@pytest.fixture
async def redis_server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A server of the test's own; without one installed the test is skipped."""
    if PROGRAM is None:
        pytest.skip("needs redis-server or valkey-server")
    async with running_redis(tmp_path) as server:
        yield server
