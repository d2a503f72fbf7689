"""HTTP byte by byte: a client that sends exactly what it is given, and an upstream that answers from recordings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs

from tests.replay.exchanges import Exchange, find

LISTS = {"/api/tags": "05-tags", "/v1/models": "98-v1-models", "/api/version": "03-version"}
"""What a hub asks by itself, and the recordings that answer it."""


@attrs.frozen
class Message:
    """A request or an answer as it came: ``start`` is its first line, ``chunks`` those of a chunked body.

    ``complete`` is False for one that was broken off.
    """

    start: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    chunks: tuple[bytes, ...] = ()
    complete: bool = True

    @property
    def status(self) -> int:
        return int(self.start.split()[1])

    @property
    def method(self) -> str:
        return self.start.split()[0]

    @property
    def path(self) -> str:
        return self.start.split()[1]

    def header(self, name: str) -> str:
        """The value of a header, empty where it is absent; fails for one that is there twice."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, (name, values)
        return "".join(values)

    @property
    def content_type(self) -> str:
        return self.header("Content-Type").partition(";")[0]


async def read_message(reader: asyncio.StreamReader, *, head_only: bool = False, until_close: bool = True) -> Message:
    """Read one message; ``until_close`` is for answers, which may end with their connection."""
    start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    pairs = [line.partition(":") for line in lines]
    message = Message(start, tuple((name, value.strip()) for name, _, value in pairs))
    if head_only or (until_close and message.status in (100, 204, 304)):
        return message
    if message.header("Transfer-Encoding") == "chunked":
        return await _read_chunks(reader, message)
    if length := message.header("Content-Length"):
        return await _read_exactly(reader, message, int(length))
    return attrs.evolve(message, body=await reader.read()) if until_close else message


async def _read_exactly(reader: asyncio.StreamReader, message: Message, length: int) -> Message:
    try:
        return attrs.evolve(message, body=await reader.readexactly(length))
    except asyncio.IncompleteReadError as error:
        return attrs.evolve(message, body=error.partial, complete=False)


async def _read_chunks(reader: asyncio.StreamReader, message: Message) -> Message:
    chunks: list[bytes] = []
    complete = False
    try:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            chunks.append((await reader.readexactly(size + 2))[:-2])
        complete = await reader.readexactly(2) == b"\r\n"
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    return attrs.evolve(message, body=b"".join(chunks), chunks=tuple(chunks), complete=complete)


async def send(url: str, request: bytes) -> Message:
    """Send ``request`` on a connection of its own and return the answer; interim answers are left out."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**26)
    try:
        writer.write(request)
        while True:
            answer = await read_message(reader, head_only=request.startswith(b"HEAD "))
            if answer.status != 100:
                return answer
    finally:
        writer.close()


@attrs.define
class Player:
    """An upstream that answers every request with the same bytes, those of ``recording``.

    The lists that a hub asks for by itself are those of the recorded Ollama, unless a list is what is played. ``asked``
    are the other requests, as they came.
    """

    recording: Exchange
    asked: list[Message] = attrs.field(factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await read_message(reader, until_close=False)
        played = self.recording
        if request.path in LISTS and (request.method, request.path) != (played.method, played.path):
            played = find(f"ollama-0.9.3/{LISTS[request.path]}")
        else:
            self.asked.append(request)
        for piece in rendered(played):
            writer.write(piece)
            await writer.drain()
        closes = ("connection", "close") in [(name.lower(), value.lower()) for name, value in played.answer_headers]
        return played.complete and not closes and played.framing != "until close"


def rendered(recording: Exchange) -> Sequence[bytes]:
    """The answer's bytes: head, then each chunk by itself."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in recording.answer_headers)
    head = f"HTTP/1.1 {recording.status} {recording.reason}\r\n{fields}\r\n".encode("latin-1")
    if recording.framing != "chunked":
        return [head, *recording.parts]
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in recording.parts]
    return [head, *chunks, *([b"0\r\n\r\n"] if recording.complete else [])]


@asynccontextmanager
async def playing(recording: Exchange) -> AsyncIterator[tuple[str, Player]]:
    """Serve a recording while the block runs; yields the URL and the player."""
    player = Player(recording)
    server = await asyncio.start_server(player.handle, "127.0.0.1", 0, limit=2**26)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", player
    finally:
        server.close()
