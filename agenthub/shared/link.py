"""The connection to Redis, guarded: a server that is slow or dead costs its users next to nothing.

Time is counted in ticks of the event loop, 25 ms or longer each: when the process itself is held up, its ticks are too,
and an answer that has come meanwhile is read before the next. So a busy hub does not take its own delay for Redis's.
"""

from __future__ import annotations

import asyncio
import random
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
LOOK_S = 1.0
"""The longest wait between two looks whether Redis is back; shorter by chance, so that hubs do not look together."""
_SHORTEST, _STABLE_S, _QUIET_S = 0.5, 10.0, 60.0
_DOWN = "agenthub.redis_down"
_SILENT = f"no answer within {_PROBE * TICK_S:g} s"


_LONGEST = 200
"""Characters of an error that quotes what came from Redis."""


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
    _lost_at: float = 0.0
    _is_told_down: bool = False
    _resolving: asyncio.Task[Any] | None = None
    _told_at: dict[str, float] = attrs.field(factory=dict)

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
            self._lost_at = asyncio.get_running_loop().time()
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
        if self._resolving is not None:
            self._resolving.cancel()
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
        except Exception as error:
            # A refusal, or an answer that is not what Redis would say: whatever it is, it fails no request.
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
        now = self._lost_at = asyncio.get_running_loop().time()
        # One that comes and goes each second is not told of each second, but when it stays away.
        if now - self._back_at >= _STABLE_S or now - self._told_at.get(_DOWN, float("-inf")) >= _QUIET_S:
            self._tell_down(problem)
        self._lost.set()

    def _tell_down(self, problem: str) -> None:
        self._is_told_down, self._told_at[_DOWN] = True, asyncio.get_running_loop().time()
        _log.warning(_DOWN, server=self.server.name, error=problem)

    def _tell_refused(self, error: Exception) -> None:
        self._tell_once("agenthub.redis_refused", error=str(error) or type(error).__name__)

    def tell_unreadable(self, key: str, error: Exception) -> None:
        """Log that a value is ignored since no hub of this version wrote it; once a minute, whatever their number."""
        self._tell_once("agenthub.redis_unreadable", key=key, error=str(error)[:_LONGEST])

    def _tell_once(self, event: str, **fields: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told_at.get(event, float("-inf")) >= _QUIET_S:
            self._told_at[event] = now
            _log.warning(event, server=self.server.name, **fields)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._lost.wait()
            self._lost.clear()
            await self.sleep(_look_s())
            while problem := await self.probe():
                if not self._is_told_down and loop.time() - self._lost_at >= _STABLE_S:
                    self._tell_down(problem)
                await self.sleep(_look_s())
            if self._is_told_down:
                self._is_told_down = False
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
        await self._disconnect()
        ask = _Ask(asyncio.timeout(None), self._ticks, patience=_PROBE)
        self._begin(ask)
        try:
            async with ask.limit:
                await self._resolve()
                await self._client.ping()
                connected = self._ticks
                await self._client.ping()
        except TimeoutError:
            return _SILENT
        except Exception as error:
            # What answers there may be no Redis: whatever it says must not end the watch.
            return str(error) or type(error).__name__
        finally:
            self._asking.discard(ask)
        # One that is slow is not taken up again only to be given up at once; at the start it has its chance.
        is_slow = self._ticks - connected >= PATIENCE / 2 and self._back_at > 0
        return f"an answer takes more than {TICK_S * PATIENCE / 2:g} s" if is_slow else ""

    async def _resolve(self) -> None:
        """See to it that a name server which keeps silent holds one thread of the pool, not one more with each look."""
        host, port = self.server.options.get("host"), self.server.options.get("port")
        if host is None:
            return
        if self._resolving is None or self._resolving.done():
            self._resolving = asyncio.ensure_future(asyncio.get_running_loop().getaddrinfo(host, port))
        await asyncio.wait([self._resolving])
        self._resolving.result()

    async def _disconnect(self) -> None:
        with suppress(Exception):
            async with asyncio.timeout(_CLOSE_S):
                await self._client.connection_pool.disconnect()


def _look_s() -> float:
    return random.uniform(_SHORTEST * LOOK_S, LOOK_S)


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
