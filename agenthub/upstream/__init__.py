"""One HTTP upstream: connections, time-outs, and its failures in our words. For adapters; knows no dialect."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self

import aiohttp
import attrs
from yarl import URL

from agenthub.canonical import Batch, Finished
from agenthub.dialects import StreamParser
from agenthub.dialects.lane import Lane
from agenthub.errors import AgentHubError, InvalidRequest, UpstreamError, UpstreamProtocol, UpstreamTimeout
from agenthub.hops import HOPS, HUB_ID, LOOPS, via_of
from agenthub.settings import BackendSettings
from agenthub.upstream.answer import arrive, complete, drain, make_parser, make_started, read_answer, read_stream
from agenthub.upstream.circle import Circle
from agenthub.upstream.connecting import ReusedConnectionClosed
from agenthub.upstream.errors import as_key_refused, make_status_error
from agenthub.upstream.hiding import Hiding
from agenthub.upstream.http_client import HttpClient, Response, open_client
from agenthub.upstream.patience import Patience, Watch
from agenthub.upstream.reading import read_start, read_whole
from agenthub.upstream.rehearsal import Rehearsed
from agenthub.upstream.upload import Upload

# llama.cpp's server closes idle connections after 5 s, so a pooled one must not be older than that.
_KEEPALIVE_S = 4.0
_ERROR_BYTES = 2**16
_MOST_ODD, _SHOWN_ODD = 3, 120


@attrs.define
class HttpUpstream:
    """An upstream server at ``settings.url``, for the life of the hub.

    What is asked is sent once; only a GET of ``get`` is repeated, where a reused connection turns out to be closed.
    Verbs are never repeated, and have a new connection each, which the upstream cannot have closed for being idle.

    ``callers_fault`` says of an error's text whether the request was to blame, so that it does not count against the
    circuit breaker.
    """

    name: str
    settings: BackendSettings
    callers_fault: Callable[[str], bool] = lambda message: False
    _client: HttpClient | None = None
    _verbs: HttpClient | None = None
    _hiding: Hiding = attrs.field(init=False)
    _loop: asyncio.AbstractEventLoop = attrs.field(init=False)
    _watch: Watch = attrs.field(init=False)
    _urls: dict[str, URL] = attrs.field(factory=dict)
    _odd: set[str] = attrs.field(factory=set, init=False)
    _circle: Circle = attrs.field(factory=Circle, init=False)
    hub: str = attrs.field(factory=HUB_ID.get, repr=False)
    """The name of the hub, which each request carries in ``Via``."""

    def __attrs_post_init__(self) -> None:
        self._hiding = Hiding.of(self.settings)

    def __deepcopy__(self, memo: object) -> Self:
        """A copy of an adapter, as it is made to rehearse, asks through the same connections."""
        return self

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._watch = Watch(self._loop)
        headers = {"User-Agent": "agenthub", "Accept-Encoding": "identity", "Content-Type": "application/json"}
        if self.settings.api_key:
            headers["Authorization"] = f"Bearer {self.settings.api_key.reveal()}"
        headers |= {name: value.reveal() for name, value in self.settings.headers.items()}
        headers["Via"] = via_of(self.hub)
        # No total limit: a healthy stream may take as long as it likes.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.settings.connect_timeout_s or None)
        self._client = open_client(headers, timeout, _KEEPALIVE_S)
        self._verbs = open_client({**headers, "Connection": "close"}, timeout, keepalive_s=0.0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in (self._client, self._verbs):
            if client is not None:
                await client.close()
        self._watch.close()

    async def get(self, path: str) -> bytes:
        """Return the body of a GET; raise UpstreamError."""
        self._circle.check(self.name, self._loop.time())
        try:
            with Patience(self.settings.first_event_timeout_s, self._watch) as patience:
                async with await self._read(self._url(path)) as response:
                    way = response.headers.get(LOOPS, "")
                    if (hops := HOPS.get()) is not None:
                        hops.hear(self.name, way, is_loop=response.status == 508)
                    if response.status >= 300:
                        raise self._circle.note(await self._status_error(response), way, self._loop.time())
                    return await read_whole(response.content, self.settings.max_answer_bytes, patience)
        except UpstreamError as error:
            self._hiding.hide(error)
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failure(error) from error

    async def ask(self, lane: Lane, *, authorization: str = "") -> AsyncGenerator[Batch, None]:
        """Yield the answer to ``lane``, whole or streamed as the upstream gives it; raise UpstreamError.

        The batch with Finished is yielded when all is done with the upstream: what comes after an answer's end mark, or
        fails to come, takes nothing from the answer. An upload that breaks off on the client's side is its own error.
        """
        last: Batch = ()
        opening: Batch = ()
        parser: StreamParser | None = None
        codec = lane.codec
        body = lane.body if lane.content is None else Upload(lane.content, lane.length)
        try:
            # Only our own waiting counts: while a batch is with the client, the upstream is not waited for.
            with Patience(0.0 if codec.is_patient else self.settings.first_event_timeout_s, self._watch) as patience:
                async with await self._send(
                    codec.method, self._url_of(lane), body, authorization, codec.is_verb
                ) as response:
                    if response.status >= 300:
                        raise await self._status_error(response, authorization, is_verb=codec.is_verb)
                    arrival = await arrive(lane, response, patience, self.settings)
                    if arrival.is_streamed:
                        parser = make_parser(lane, arrival, self.settings)
                        opening = (make_started(lane, response, is_streamed=True),)
                        async with aclosing(read_stream(lane, parser, arrival, patience, self.settings)) as batches:
                            async for batch in batches:
                                if type(batch[-1]) is Finished:
                                    last = opening + parser.follow(batch, await drain(response.content))
                                    break
                                yield opening + batch
                                opening = ()
                    else:
                        last = await read_answer(lane, arrival, response, patience, self.settings)
        except Rehearsed as stopped:
            last = stopped.answer(is_verb=codec.is_verb)
        except UpstreamError as error:
            self._hiding.hide(error)
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if not (last := complete(opening, parser)):
                raise _broken_off(body) or self._failure(error) from error
        finally:
            if isinstance(body, Upload):
                body.leave()
        yield last

    async def _read(self, url: URL) -> Response:
        try:
            return await self._send("GET", url)
        except ReusedConnectionClosed:
            # To read changes nothing, and the second time it is a new connection.
            return await self._send("GET", url)

    def _send(
        self,
        method: str,
        url: URL,
        body: bytes | Upload | None = None,
        authorization: str = "",
        is_verb: bool = False,
    ) -> Awaitable[Response]:
        client = self._verbs if is_verb else self._client
        assert client is not None, "the upstream is not open"
        headers = {"Authorization": authorization} if authorization and self.settings.forward_authorization else None
        if (hops := HOPS.get()) is not None:
            headers = {**(headers or {}), "Via": hops.via}
        return client.send(method, url, body, headers)

    def note_odd(self, path: str, entries: Sequence[object]) -> None:
        """Log the entries of a list that nobody can read, once for each path."""
        if entries and path not in self._odd:
            self._odd.add(path)
            shown = [self._hiding.hide_text(repr(entry)[:_SHOWN_ODD]) for entry in entries[:_MOST_ODD]]
            import structlog  # which takes a tenth of the time of `agenthub --help`

            structlog.get_logger("agenthub").warning(
                "agenthub.list_entries_skipped", backend=self.name, path=path, count=len(entries), entries=shown
            )

    def _url_of(self, lane: Lane) -> URL:
        return self._make_url(lane.path) if lane.path else self._url(lane.codec.path)

    def _url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = self._make_url(path)
        return url

    def _make_url(self, path: str) -> URL:
        return URL(self.settings.url.rstrip("/") + path)

    async def _status_error(
        self, response: Response, authorization: str = "", *, is_verb: bool = False
    ) -> UpstreamError:
        body = self._hiding.hidden(await read_start(response.content, _ERROR_BYTES))
        error = make_status_error(response.status, response.headers, body, self.callers_fault, is_verb=is_verb)
        is_clients_key = bool(authorization and self.settings.forward_authorization)
        return error if is_clients_key else as_key_refused(error, self.name, has_key=bool(self.settings.api_key))

    def _failure(self, error: Exception) -> UpstreamError:
        match error:
            case aiohttp.ClientConnectorError():
                return UpstreamError(f"backend {self.name} at {self.settings.url} cannot be reached: {_reason(error)}")
            case aiohttp.ConnectionTimeoutError():
                return UpstreamTimeout(
                    f"backend {self.name} at {self.settings.url} did not accept a connection in time"
                )
            case TimeoutError():
                return UpstreamTimeout(f"backend {self.name} kept silent for too long")
            case aiohttp.ClientResponseError():
                return UpstreamProtocol(f"backend {self.name} at {self.settings.url} does not speak HTTP")
            case _:
                failure = UpstreamError(f"backend {self.name} broke off the connection")
                failure.broke_off, failure.is_stale = True, isinstance(error, ReusedConnectionClosed)
                return failure


def _broken_off(body: bytes | Upload) -> AgentHubError | None:
    """Return the client's own failure in an upload, if that is why the upstream was not asked to the end."""
    error = body.error if isinstance(body, Upload) else None
    if error is None or isinstance(error, AgentHubError):
        return error
    return InvalidRequest("the body broke off")


def _reason(error: aiohttp.ClientConnectorError) -> str:
    failure = getattr(error, "certificate_error", None) or error.os_error
    if isinstance(failure, ssl.SSLError):
        told = getattr(failure, "verify_message", "") or failure.reason or str(failure)
        return f"TLS failed: {told}"
    # asyncio puts words of its own in the place of the system's; for several addresses they hold the numbers only.
    number = failure.errno or next(map(int, re.findall(r"\[Errno (\d+)\]", str(failure))), None)
    return os.strerror(number) if number else str(failure) or type(failure).__name__
