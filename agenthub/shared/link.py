"""The connection to Redis, guarded: a server that is slow or dead costs its users next to nothing.

Time is counted in ticks of the event loop, 25 ms or longer each: when the process itself is held up, its ticks are too,
and an answer that has come meanwhile is read before the next. So a busy hub does not take its own delay for Redis's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import structlog

from agenthub.errors import ConfigError
from agenthub.settings.redis_url import RedisServer

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool, Redis

T = TypeVar("T")
_log = structlog.get_logger("agenthub")

TICK_S, PATIENCE = 0.025, 8
"""Ticks that may be spent on waiting, by one or one after the other, before Redis counts as gone: 0.2 s."""
_FORGOTTEN = 0.1
"""What is forgotten of them in each tick without any such wait."""
_QUEUED = 40
"""Ticks that an operation may wait for a connection, while others get theirs and Redis answers quickly."""
_CONNECTIONS = 64
_PROBE, _CLOSE_S = 20, 0.5
_EVERY_S, _SILENT_S, _SELDOM_S, _STABLE_S, _QUIET_S = 1.0, 4.0, 30.0, 10.0, 60.0
_SILENT = f"no answer within {_PROBE * TICK_S:g} s"


class Away(Exception):
    """Redis did not do it: it is down, or it refused."""


@attrs.define(eq=False)
class _Ask:
    """One operation under way: when it came, when it got a connection, and how many ticks it may wait for one."""

    limit: asyncio.Timeout
    came: int
    began: int = -1
    patience: int = _QUEUED


@attrs.define(eq=False)
class Link:
    """Runs operations on Redis while it is up; once it is lost, each is ``Away`` at once until it is back.

    Of many that wait when it hangs, all are let go together. ``sleep`` is between two looks whether it is back.
    """

    server: RedisServer
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    is_up: bool = False
    on_back: list[Callable[[], None]] = attrs.field(factory=list)
    """Told each time that Redis is there again, the first time included."""
    _client: Redis = attrs.field(init=False, repr=False)
    _places: asyncio.Semaphore = attrs.field(factory=lambda: asyncio.Semaphore(_CONNECTIONS))
    _asking: set[_Ask] = attrs.field(factory=set)
    _lost: asyncio.Event = attrs.field(factory=asyncio.Event)
    _watching: asyncio.Task[None] | None = None
    _ticks: int = 0
    _ticking: asyncio.TimerHandle | None = None
    _strain: float = 0.0
    _was_strained: bool = False
    _calm_since: float = 0.0
    _back_at: float = 0.0
    _refused_at: float = float("-inf")

    def __attrs_post_init__(self) -> None:
        self._client = make_client(self.server)

    @property
    def pool(self) -> ConnectionPool:
        """The connections, for a library that has a client of its own; to be used within ``run`` only."""
        return self._client.connection_pool

    async def open(self) -> None:
        """Look whether Redis is there, for half a second at most, and keep watch from now on."""
        problem = await self.probe()
        if problem:
            self._tell_down(problem)
            self._lost.set()
        else:
            self._take_up()
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Let go of everything; operations are ``Away`` from now on."""
        self.is_up = False
        for ask in list(self._asking):
            self._let_go(ask)
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        await self._disconnect()

    async def run(self, operation: Callable[[Redis], Awaitable[T]]) -> T:
        """Return what ``operation`` returns; raise ``Away`` where Redis is down, refuses or takes too long."""
        if not self.is_up:
            raise Away("down")
        ask = _Ask(asyncio.timeout(None), self._ticks)
        self._begin(ask)
        from redis import exceptions as redis

        try:
            try:
                async with ask.limit, self._places:
                    ask.began = self._ticks
                    return await operation(self._client)
            finally:
                self._asking.discard(ask)
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            if not ask.limit.expired():  # then it was let go, and why is known
                self._lose(str(error) or type(error).__name__)
            raise Away(str(error)) from error
        except redis.RedisError as error:
            self._tell_refused(error)
            raise Away(str(error)) from error

    def _begin(self, ask: _Ask) -> None:
        self._asking.add(ask)
        if self._ticking is None:
            loop = asyncio.get_running_loop()
            self._strain = max(0.0, self._strain - _FORGOTTEN * (loop.time() - self._calm_since) / TICK_S)
            self._ticking = loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._ticks += 1
        # A wait is one that saw a whole tick pass; its first tick counts with the second.
        waiting = any(ask.began >= 0 and self._ticks - ask.began >= 2 for ask in self._asking)
        if waiting:
            self._strain += 1 if self._was_strained else 2
        else:
            self._strain = max(0.0, self._strain - _FORGOTTEN)
        self._was_strained = waiting
        if self._strain >= PATIENCE:
            self._lose(f"no answer within {PATIENCE * TICK_S:g} s")
        for ask in [ask for ask in self._asking if ask.began < 0 and self._ticks - ask.came >= ask.patience]:
            self._let_go(ask)
        if self._asking:
            self._ticking = loop.call_later(TICK_S, self._tick)
        else:
            self._ticking, self._was_strained, self._calm_since = None, False, loop.time()

    def _let_go(self, ask: _Ask) -> None:
        self._asking.discard(ask)
        ask.limit.reschedule(asyncio.get_running_loop().time())

    def _lose(self, problem: str) -> None:
        if not self.is_up:
            return
        self.is_up = False
        for ask in list(self._asking):
            self._let_go(ask)
        self._tell_down(problem)
        self._lost.set()

    def _tell_down(self, problem: str) -> None:
        _log.warning("agenthub.redis_down", server=self.server.name, error=problem)

    def _tell_refused(self, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._refused_at >= _QUIET_S:
            self._refused_at = now
            _log.warning("agenthub.redis_refused", server=self.server.name, error=str(error))

    async def _watch(self) -> None:
        wait_s = _EVERY_S
        while True:
            await self._lost.wait()
            self._lost.clear()
            # One that answers a look and then hangs again, over and over, is looked for more and more seldom.
            was_stable = asyncio.get_running_loop().time() - self._back_at >= _STABLE_S
            wait_s = _EVERY_S if was_stable else min(2 * wait_s, _SELDOM_S)
            await self.sleep(wait_s)
            look_s = _EVERY_S
            while problem := await self.probe():
                # A name server that is silent holds a thread of the pool for each look, long after it was given up.
                look_s = min(2 * look_s, _SILENT_S) if problem == _SILENT else _EVERY_S
                await self.sleep(look_s)
            _log.info("agenthub.redis_back", server=self.server.name)
            self._take_up()

    def _take_up(self) -> None:
        self._strain, self._was_strained = 0.0, False
        self._back_at = asyncio.get_running_loop().time()
        self.is_up = True
        for told in self.on_back:
            told()

    async def probe(self) -> str:
        """Connect anew and look twice; return what is wrong, nothing if Redis answers, and quickly."""
        from redis.exceptions import RedisError

        await self._disconnect()
        ask = _Ask(asyncio.timeout(None), self._ticks, patience=_PROBE)
        self._begin(ask)
        try:
            async with ask.limit:
                await self._client.ping()
                connected = self._ticks
                await self._client.ping()
        except TimeoutError:
            return _SILENT
        except (RedisError, OSError) as error:
            return str(error) or type(error).__name__
        finally:
            self._asking.discard(ask)
        # One that is slow is not taken up again only to be given up at once; at the start it has its chance.
        is_slow = self._ticks - connected >= PATIENCE / 2 and self._back_at > 0
        return f"an answer takes more than {TICK_S * PATIENCE / 2:g} s" if is_slow else ""

    async def _disconnect(self) -> None:
        with suppress(Exception):
            async with asyncio.timeout(_CLOSE_S):
                await self._client.connection_pool.disconnect()


def make_client(server: RedisServer) -> Redis:
    """Return a client that does not retry and has no time-outs of its own; raises ConfigError without redis-py."""
    try:
        from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.maint_notifications import MaintNotificationsConfig
    except ImportError as error:
        raise ConfigError("caching.backend: 'redis' needs redis-py: pip install 'redis>=8,<9'") from error
    kinds: dict[str, Any] = {"redis": Connection, "rediss": SSLConnection, "unix": UnixDomainSocketConnection}
    pool = ConnectionPool(
        kinds[server.scheme],
        max_connections=_CONNECTIONS + 1,  # the probe's
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        retry=Retry(NoBackoff(), 0),
        socket_timeout=None,
        socket_connect_timeout=None,
        protocol=2,
        driver_info=None,
        **server.options,
    )
    return Redis(connection_pool=pool)
