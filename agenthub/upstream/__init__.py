"""One HTTP upstream: connections, time-outs, and its failures in our words. For adapters; knows no dialect."""

from __future__ import annotations

import asyncio
import io
import os
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from functools import partial
from types import TracebackType
from typing import Self

import aiohttp
import attrs
from yarl import URL

from agenthub.canonical import Batch, Finished, RawFrames, Started
from agenthub.dialects import StreamParser, parse_whole
from agenthub.dialects.lane import Lane
from agenthub.errors import AgentHubError, InvalidRequest, UpstreamError, UpstreamProtocol, UpstreamTimeout
from agenthub.settings import BackendSettings
from agenthub.upstream.connecting import make_connector
from agenthub.upstream.errors import kept_headers, make_status_error
from agenthub.upstream.hiding import Hiding
from agenthub.upstream.patience import Patience
from agenthub.upstream.reading import read_any, read_start, read_whole
from agenthub.upstream.rehearsal import STAGE, Rehearsed
from agenthub.upstream.upload import Upload

# llama.cpp's server closes idle connections after 5 s, so a pooled one must not be older than that.
_KEEPALIVE_S = 4.0
_TAIL_S = 0.05
_LARGE_BYTES = 2**18
_ERROR_BYTES = 2**16


@attrs.define
class HttpUpstream:
    """An upstream server at ``settings.url``, for the life of the hub.

    ``callers_fault`` says of an error's text whether the request was to blame, so that it does not count against the
    circuit breaker.
    """

    name: str
    settings: BackendSettings
    callers_fault: Callable[[str], bool] = lambda message: False
    _session: aiohttp.ClientSession | None = None
    _hiding: Hiding = attrs.field(init=False)
    _loop: asyncio.AbstractEventLoop = attrs.field(init=False)
    _urls: dict[str, URL] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self._hiding = Hiding.of(self.settings)

    def __deepcopy__(self, memo: object) -> Self:
        """A copy of an adapter, as it is made to rehearse, asks through the same connections."""
        return self

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        headers = {"User-Agent": "agenthub", "Accept-Encoding": "identity", "Content-Type": "application/json"}
        if self.settings.api_key:
            headers["Authorization"] = f"Bearer {self.settings.api_key.reveal()}"
        headers |= {name: value.reveal() for name, value in self.settings.headers.items()}
        self._session = aiohttp.ClientSession(
            connector=make_connector(limit=0, keepalive_timeout=_KEEPALIVE_S),
            # No total limit: a healthy stream may take as long as it likes.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.settings.connect_timeout_s or None),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            read_bufsize=2**16,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str) -> bytes:
        """Return the body of a GET; raise UpstreamError."""
        try:
            with Patience(self.settings.first_event_timeout_s, self._loop) as patience:
                async with await self._send("GET", self._url(path)) as response:
                    if response.status >= 300:
                        raise await self._status_error(response)
                    return await read_whole(response.content, self.settings.max_answer_bytes, patience)
        except UpstreamError as error:
            self._hiding.hide(error)
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failure(error) from error

    async def ask(self, lane: Lane, *, authorization: str = "") -> AsyncGenerator[Batch, None]:
        """Yield the answer to ``lane``, whole or streamed as the upstream's Content-Type says; raise UpstreamError.

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
            with Patience(0.0 if codec.is_patient else self.settings.first_event_timeout_s, self._loop) as patience:
                async with await self._send(codec.method, self._url_of(lane), body, authorization) as response:
                    if response.status >= 300:
                        raise await self._status_error(response, is_verb=codec.is_verb)
                    started = _started(lane, response)
                    if started.streamed:
                        parser = StreamParser(codec, lane.raw, lane.rename, self.settings.max_frame_bytes)
                        opening = (started,)
                        async with aclosing(self._batches(lane, parser, response.content, patience)) as batches:
                            async for batch in batches:
                                if type(batch[-1]) is Finished:
                                    last = opening + batch
                                    await _drain(response.content)
                                    break
                                yield opening + batch
                                opening = ()
                    else:
                        # Not response.read(): that waits for the upload's end, even when the answer came before it.
                        data = await read_whole(response.content, self.settings.max_answer_bytes, patience)
                        last = (started, *parse_whole(codec, data, raw=lane.raw, rename=lane.rename))
        except Rehearsed as stopped:
            last = stopped.answer(is_verb=codec.is_verb)
        except UpstreamError as error:
            self._hiding.hide(error)
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if not (last := _completed(opening, parser)):
                raise _broken_off(body) or self._failure(error) from error
        finally:
            if isinstance(body, Upload):
                body.leave()
        yield last

    async def _batches(
        self, lane: Lane, parser: StreamParser, content: aiohttp.StreamReader, patience: Patience
    ) -> AsyncGenerator[Batch, None]:
        limit_s, idle_s = patience.limit_s, 0.0 if lane.codec.is_patient else self.settings.idle_timeout_s
        async for data in read_any(content, self.settings.max_answer_bytes if lane.is_whole else 0):
            if batch := parser.feed(data):
                if type(batch[-1]) is not RawFrames:
                    limit_s = idle_s
                patience.pause()
                yield batch
            if parser.error is not None:
                raise parser.error
            # Whatever it was, the upstream lives: a comment, a blank line, a part of a frame.
            patience.resume(limit_s)
        patience.pause()
        if batch := parser.close():
            yield batch
        if parser.error is not None:
            raise parser.error

    async def _send(
        self, method: str, url: URL, body: bytes | Upload | None = None, authorization: str = ""
    ) -> aiohttp.ClientResponse:
        assert self._session is not None, "the upstream is not open"
        request, stage = self._session.request, STAGE.get()
        if stage is not None:
            request = partial(request, middlewares=stage)
        headers = {"Authorization": authorization} if authorization and self.settings.forward_authorization else None
        if isinstance(body, Upload):
            # Not tried twice: what was read of it is gone.
            headers = {**(headers or {}), **body.headers}
            response = await request(method, url, data=body, headers=headers, allow_redirects=False)
            body.answered(response)
            return response
        try:
            return await request(method, url, data=_payload(body), headers=headers, allow_redirects=False)
        except aiohttp.ServerDisconnectedError:
            # Nearly always a pooled connection that the upstream had closed meanwhile; nothing of an answer came.
            try:
                return await request(method, url, data=_payload(body), headers=headers, allow_redirects=False)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise _last(self._failure(error)) from error

    def _url_of(self, lane: Lane) -> URL:
        return self._make_url(lane.path) if lane.path else self._url(lane.codec.path)

    def _url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = self._make_url(path)
        return url

    def _make_url(self, path: str) -> URL:
        return URL(self.settings.url.rstrip("/") + path)

    async def _status_error(self, response: aiohttp.ClientResponse, *, is_verb: bool = False) -> UpstreamError:
        body = self._hiding.hidden(await read_start(response.content, _ERROR_BYTES))
        return make_status_error(response.status, response.headers, body, self.callers_fault, is_verb=is_verb)

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
                return UpstreamError(f"backend {self.name} broke off the connection")


def _last(failure: UpstreamError) -> UpstreamError:
    """Return the failure of a request that was sent twice already."""
    failure.is_final = True
    return failure


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    # aiohttp writes bytes in one go, and warns that a large body would stop everything else meanwhile.
    return io.BytesIO(body) if body is not None and len(body) > _LARGE_BYTES else body


def _completed(opening: Batch, parser: StreamParser | None) -> Batch:
    """Return the end of an answer that lacked nothing when its connection failed; empty where it did."""
    rest = parser.break_off() if parser is not None else ()
    return opening + rest if rest else ()


def _broken_off(body: bytes | Upload) -> AgentHubError | None:
    """Return the client's own failure in an upload, if that is why the upstream was not asked to the end."""
    error = body.error if isinstance(body, Upload) else None
    if error is None or isinstance(error, AgentHubError):
        return error
    return InvalidRequest("the body broke off")


def _reason(error: aiohttp.ClientConnectorError) -> str:
    # asyncio puts words of its own in the place of the system's; for several addresses they hold the numbers only.
    failure = error.os_error
    number = failure.errno or next(map(int, re.findall(r"\[Errno (\d+)\]", str(failure))), None)
    return os.strerror(number) if number else str(failure) or type(failure).__name__


def _started(lane: Lane, response: aiohttp.ClientResponse) -> Started:
    streamed = response.content_type == lane.codec.stream_type
    status = 201 if response.status == 201 else 200  # of other words for yes no client of these APIs knows
    return Started(streamed, lane.codec.path if lane.raw else "", kept_headers(response.headers), status)


async def _drain(content: aiohttp.StreamReader) -> None:
    """Take the end of a body, so that the connection can serve again; one that is late is not waited for."""
    if content.at_eof():
        return
    with suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with asyncio.timeout(_TAIL_S):
            while await content.readany():
                pass
