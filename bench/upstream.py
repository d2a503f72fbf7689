"""A stand-in for Ollama that costs next to nothing: a bare protocol that answers bytes made beforehand."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final, cast

from bench import loops, traffic

_WHOLE: Final = traffic.http_answer(traffic.whole_answer())
_OTHERS: Final = {
    b"GET /api/tags ": traffic.http_answer(traffic.model_list()),
    b"GET /api/version ": traffic.http_answer(traffic.dump({"version": "0.9.3"})),
    b"GET /api/ps ": traffic.http_answer(traffic.dump({"models": []})),
}
_NOT_FOUND: Final = traffic.http_answer(b"404 page not found", "text/plain", "404 Not Found")
_END_OF_HEAD: Final = b"\r\n\r\n"


class Upstream(asyncio.Protocol):
    """One connection. Tokens are written ``per_write`` at a time, each write in its own turn of the loop."""

    def __init__(self, per_write: int) -> None:
        self._streamed = traffic.streamed_answer(per_write)
        self._received = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(_END_OF_HEAD)) >= 0:
            size = end + 4 + content_length(self._received[: end + 2])
            if len(self._received) < size:
                return
            request, self._received = self._received[:size], self._received[size:]
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        if not request.startswith(b"POST /api/chat "):
            known = (answer for start, answer in _OTHERS.items() if request.startswith(start))
            self._transport.write(next(known, _NOT_FOUND))
        elif b'"stream":false' in request:
            self._transport.write(_WHOLE)
        else:
            self._write(0)

    def _write(self, position: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(self._streamed[position])
        if position + 1 < len(self._streamed):
            self._loop.call_soon(self._write, position + 1)


def content_length(head: bytes) -> int:
    """Return what a head says of the size of its body, 0 where it says nothing."""
    start = head.lower().find(b"\r\ncontent-length:")
    return int(head[start + 17 : head.index(b"\r\n", start + 17)]) if start >= 0 else 0


async def serve(port: int, per_write: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(per_write), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--per-write", type=int, default=10, help="tokens that are sent together")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=loops.factory(loops.best())) as runner:
        runner.run(serve(arguments.port, arguments.per_write))


if __name__ == "__main__":
    main()
