"""The bare aiohttp programs that the hub is measured against: no middleware, no headers, no checks, no log."""

from __future__ import annotations

import argparse
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import orjson
from aiohttp import web

from bench import lean, loops

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_SESSION: web.AppKey[aiohttp.ClientSession] = web.AppKey("session", aiohttp.ClientSession)
_JSON = {"Content-Type": "application/json"}


def make_proxy(upstream: str) -> Handler:
    """Return a handler that parses and renders the JSON on both ways."""

    async def proxy(http_request: web.Request) -> web.StreamResponse:
        asked = orjson.dumps(orjson.loads(await http_request.read()))
        async with http_request.app[_SESSION].post(
            f"{upstream}{http_request.path}", data=asked, headers=_JSON
        ) as answer:
            value = orjson.loads(await answer.read())
        return web.Response(body=orjson.dumps(value), headers=_JSON)

    return proxy


def make_constant(size: int) -> Handler:
    """Return a handler that reads the request and answers ``size`` bytes without a look at it."""
    body = b"x" * size

    async def constant(http_request: web.Request) -> web.StreamResponse:
        await http_request.read()
        return web.Response(body=body, headers=_JSON)

    return constant


def make_translator(upstream: str) -> Handler:
    """Return a handler that turns Ollama's lines into OpenAI's events, one write for each read."""

    async def translate(http_request: web.Request) -> web.StreamResponse:
        asked = orjson.loads(await http_request.read())
        body = orjson.dumps({"model": asked["model"], "messages": asked["messages"], "stream": True})
        async with http_request.app[_SESSION].post(f"{upstream}/api/chat", data=body, headers=_JSON) as answer:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(http_request)
            translate = _translation(asked["model"])
            async for data in answer.content.iter_any():
                await response.write(translate(data))
        await response.write_eof()
        return response

    return translate


def _translation(model: str) -> Callable[[bytes], bytes]:
    shared = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
    head = b"data: " + orjson.dumps(shared)[:-1] + b',"choices":['
    before, after = head + b'{"index":0,"delta":{"content":', b'},"finish_reason":null}],"usage":null}\n\n'
    end = head + b'{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}\n\n' + head + b'],"usage":%b}\n\n'
    tail = b""

    def translate(data: bytes) -> bytes:
        nonlocal tail
        *lines, tail = (tail + data).split(b"\n")
        frames = []
        for line in map(orjson.loads, lines):
            if line["done"]:
                frames += [end % _usage(line["prompt_eval_count"], line["eval_count"]), b"data: [DONE]\n\n"]
            else:
                frames.append(before + orjson.dumps(line["message"]["content"]) + after)
        return b"".join(frames)

    return translate


def _usage(prompt: int, completion: int) -> bytes:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return orjson.dumps(counts)


def make_app(upstream: str, size: int) -> web.Application:
    """Return all of them under paths of their own."""
    app = web.Application()
    app.cleanup_ctx.append(_open_session)
    app.router.add_post("/api/chat", make_proxy(upstream))
    app.router.add_post("/v1/chat/completions", make_translator(upstream))
    app.router.add_post("/lean", lean.make_proxy(upstream))
    app.router.add_post("/constant", make_constant(size))
    return app


async def _open_session(app: web.Application) -> AsyncIterator[None]:
    async with aiohttp.ClientSession() as session:
        app[_SESSION] = session
        yield


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="base URL")
    parser.add_argument("--size", type=int, required=True, help="bytes of the constant answer")
    parser.add_argument("--loop", required=True, choices=("asyncio", "uvloop"))
    arguments = parser.parse_args()
    app = make_app(arguments.upstream, arguments.size)
    loop = loops.factory(arguments.loop)()
    web.run_app(app, host="127.0.0.1", port=arguments.port, access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main()
