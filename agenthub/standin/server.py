"""The HTTP server: from a request to its handler, past the script, and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256

from aiohttp import hdrs, web

from . import catalogue, managing, native, openai
from .answers import JSON, JSON_UTF8, TEXT, TEXT_UTF8, Refusal, Stream, Whole, dumps
from .faults import BUSY, Ending, Fault
from .playing import cut, pause, play_stream, play_whole, stay_silent
from .state import Received, Standin

Handler = Callable[[Standin, bytes, bool | None], Whole | Stream]

SHUTDOWN_S = 0.5
MAX_BODY_BYTES = 2**30
V1_MODEL = "/v1/models/"
BLOB = "/api/blobs/"


def _root(_standin: Standin, _data: bytes, _streamed: bool | None) -> Whole:
    return Whole(b"Ollama is running", content_type=TEXT_UTF8)


def _version(standin: Standin, _data: bytes, _streamed: bool | None) -> Whole:
    return Whole(dumps({"version": standin.version}))


ROUTES: Mapping[str, Mapping[str, Handler]] = {
    "/": {"HEAD": _root, "GET": _root},
    "/api/version": {"HEAD": _version, "GET": _version},
    "/api/tags": {"HEAD": catalogue.tags, "GET": catalogue.tags},
    "/api/ps": {"GET": catalogue.ps},
    "/api/show": {"POST": catalogue.show},
    "/api/chat": {"POST": native.chat},
    "/api/generate": {"POST": native.generate},
    "/api/embed": {"POST": native.embed},
    "/api/embeddings": {"POST": native.embeddings},
    "/api/pull": {"POST": managing.pull},
    "/api/push": {"POST": managing.push},
    "/api/create": {"POST": managing.create},
    "/api/copy": {"POST": managing.copy},
    "/api/delete": {"DELETE": managing.delete},
    "/v1/chat/completions": {"POST": openai.chat},
    "/v1/completions": {"POST": openai.completions},
    "/v1/embeddings": {"POST": openai.embeddings},
    "/v1/models": {"GET": catalogue.v1_models},
}


def make_app(standin: Standin) -> web.Application:
    """Return the stand-in as an aiohttp application."""

    async def started(_app: web.Application) -> None:
        standin.stopping = False

    async def stops(_app: web.Application) -> None:
        standin.stopping = True

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.on_startup.append(started)
    app.on_shutdown.append(stops)
    app.on_response_prepare.append(_without_server)
    app.router.add_route("*", "/{path:.*}", partial(_front, standin))
    return app


@asynccontextmanager
async def running(standin: Standin, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve while the block runs and yield the URL, without a slash at its end; ``port`` 0 takes a free one."""
    runner = web.AppRunner(make_app(standin), access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _front(standin: Standin, http_request: web.Request) -> web.StreamResponse:
    """Answer one request, whatever it is."""
    standin.in_flight += 1
    try:
        data = await _read(standin, http_request)
        standin.note(Received(http_request.method, http_request.path_qs, http_request.headers, data))
        return await _answer(standin, http_request, data)
    except (ConnectionError, asyncio.CancelledError) as gone:
        if not standin.stopping:
            standin.abandoned.bump()
        if isinstance(gone, asyncio.CancelledError):
            raise
        # To aiohttp a handler's ConnectionError is a 500 and a traceback; on a closed connection it stays quiet.
        cut(http_request, reset=False)
        return web.Response()
    finally:
        standin.in_flight -= 1


async def _read(standin: Standin, http_request: web.Request) -> bytes:
    """Return the body; of an upload its size and its digest only, since it may be larger than memory."""
    if http_request.method != "POST" or not http_request.path.startswith(BLOB):
        return await http_request.read()
    digest, size = sha256(), 0
    if managing.has_blob(standin, http_request.path.removeprefix(BLOB)):
        return b"0 "
    async for data in http_request.content.iter_any():
        digest.update(data)
        size += len(data)
    return b"%d %s" % (size, digest.hexdigest().encode())


async def _answer(standin: Standin, http_request: web.Request, data: bytes) -> web.StreamResponse:
    path = http_request.path
    if standin.down:
        return await play_whole(standin, http_request, _refused(standin, path, Refusal(503, BUSY)), None)
    fault = standin.take_fault(path) if standin.faults else None
    if fault:
        await pause(standin, http_request, fault.delay_s)
        if fault.status is not None:
            return await play_whole(standin, http_request, _scripted(standin, path, fault, fault.status), None)
        if await _cut_at_once(standin, http_request, fault):
            return web.Response()
    said = _said(standin, http_request, data, fault)
    if fault and fault.ending is Ending.ERROR and (isinstance(said, Whole) or fault.after == 0):
        said, fault = _refused(standin, path, Refusal(500, fault.message)), None
    if isinstance(said, Stream):
        return await play_stream(standin, http_request, said, fault)
    return await play_whole(standin, http_request, said, fault)


async def _cut_at_once(standin: Standin, http_request: web.Request, fault: Fault) -> bool:
    """Carry out a fault that leaves no byte of an answer, and say whether it was one."""
    if fault.ending is Ending.HANG:
        await stay_silent(standin, http_request, fault.limit_s)
    elif fault.ending in (Ending.RESET, Ending.CLOSE) and fault.after == 0:
        cut(http_request, reset=fault.ending is Ending.RESET)
    else:
        return False
    return True


def _said(standin: Standin, http_request: web.Request, data: bytes, fault: Fault | None) -> Whole | Stream:
    path = http_request.path
    methods = ROUTES.get(path)
    if path.startswith(BLOB):
        methods = _blob_methods(path.removeprefix(BLOB))
    elif methods is None:
        name = path.removeprefix(V1_MODEL)
        if name in (path, "") or "/" in name:
            return Whole(b"404 page not found", 404, TEXT)
        methods = {"GET": lambda standin, _data, _streamed: catalogue.v1_model(standin, name)}
    handler = methods.get(http_request.method)
    if handler is None:
        return Whole(b"405 method not allowed", 405, TEXT, headers=(("Allow", ", ".join(methods)),))
    try:
        return handler(standin, data, fault.streamed if fault else None)
    except Refusal as refusal:
        return _refused(standin, path, refusal)


def _blob_methods(digest: str) -> Mapping[str, Handler]:
    def upload(standin: Standin, data: bytes, _streamed: bool | None) -> Whole:
        size, _, found = data.decode().partition(" ")
        return managing.upload_blob(standin, digest, int(size), found)

    return {"HEAD": lambda standin, _data, _streamed: managing.ask_blob(standin, digest), "POST": upload}


def _refused(standin: Standin, path: str, refusal: Refusal) -> Whole:
    if not path.startswith("/v1/"):
        return Whole(native.error(refusal.message), refusal.status)
    body = openai.error(standin, refusal.status, refusal.message, early=refusal.early)
    return Whole(body, refusal.status, JSON_UTF8 if refusal.early else JSON)


def _scripted(standin: Standin, path: str, fault: Fault, status: int) -> Whole:
    whole = _refused(standin, path, Refusal(status, fault.message))
    headers = {name.title(): value for name, value in fault.headers.items()}
    content_type = headers.pop("Content-Type", whole.content_type)
    return Whole(whole.body if fault.body is None else fault.body, status, content_type, headers=tuple(headers.items()))


async def _without_server(_request: web.Request, response: web.StreamResponse) -> None:
    # Ollama names no server.
    response.headers.pop(hdrs.SERVER, None)
