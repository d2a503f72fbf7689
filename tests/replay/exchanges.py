"""Every recorded exchange with a real Ollama 0.9.3 and a real llama.cpp server, as it stood on the wire.

``tests/data/replay`` holds a file for each server, one exchange a line: the request, and of the answer the status, the
headers, the framing and the body in the HTTP chunks that it came in.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

import attrs

DATA = Path(__file__).parents[1] / "data" / "replay"
OLLAMA = ("ollama-0.9.3", "ollama-0.9.3-busy", "ollama-0.9.3-no-models", "ollama-0.9.3-runner-killed")
LLAMA = ("llama-server-2026", "llama-server-2026-key")
CHUNKED_BODY = b'{"model": "tiny-loop", "prompt": "hi", "stream": false, "options": {"num_predict": 1}}'
HTTP10_BODY = b'{"model": "tiny-loop", "prompt": "hi", "options": {"num_predict": 3}}'
RAW = {
    "ollama-0.9.3/173-http10": b"GET /api/version HTTP/1.0\r\n\r\n",
    "ollama-0.9.3/174-http10-stream": b"POST /api/generate HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b"
    % (len(HTTP10_BODY), HTTP10_BODY),
    "ollama-0.9.3/175-no-host": b"GET / HTTP/1.1\r\n\r\n",
    "ollama-0.9.3/176-garbage": b"this is not HTTP\r\n\r\n",
    "ollama-0.9.3/180-chunked-request": b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked"
    b"\r\n\r\n20\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (CHUNKED_BODY[:32], len(CHUNKED_BODY) - 32, CHUNKED_BODY[32:]),
    "llama-server-2026/53-http10": b"GET /health HTTP/1.0\r\n\r\n",
}
"""Requests that the recorder sent byte by byte and did not write down: told again from the answers they got."""


@attrs.frozen
class Exchange:
    """``name`` is server/exchange; ``parts`` are the chunks of a chunked answer, else its body as one.

    ``complete`` is False where the recorder hung up before the end.
    """

    name: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    status: int
    reason: str
    answer_headers: tuple[tuple[str, str], ...]
    framing: str
    parts: tuple[bytes, ...]
    complete: bool

    @property
    def server(self) -> str:
        return self.name.partition("/")[0]

    @property
    def answer(self) -> bytes:
        return b"".join(self.parts)

    @property
    def content_type(self) -> str:
        """The media type of the answer, without parameters."""
        found = {name.lower(): value for name, value in self.answer_headers}
        return found.get("content-type", "").partition(";")[0]

    @property
    def streamed(self) -> bool:
        return self.content_type in ("application/x-ndjson", "text/event-stream")

    def request(self) -> bytes:
        """The request as it went over the wire."""
        if self.name in RAW:
            return RAW[self.name]
        fields = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        return f"{self.method} {self.path} HTTP/1.1\r\n{fields}\r\n".encode() + self.body


@cache
def exchanges(*servers: str) -> tuple[Exchange, ...]:
    """All exchanges with these servers, in the order in which they were recorded."""
    return tuple(exchange for server in servers or OLLAMA + LLAMA for exchange in _read(server))


def find(name: str) -> Exchange:
    """The exchange of this name, for example ``ollama-0.9.3/58-chat-stream``."""
    return next(exchange for exchange in exchanges(name.partition("/")[0]) if exchange.name == name)


def _read(server: str) -> list[Exchange]:
    lines = gzip.decompress((DATA / f"{server}.jsonl.gz").read_bytes()).splitlines()
    return [_exchange(server, json.loads(line)) for line in lines]


def _exchange(server: str, record: dict[str, dict[str, object]]) -> Exchange:
    request, response = record["request"], record["response"]
    return Exchange(
        name=f"{server}/{record['name']}",
        method=str(request["method"]),
        path=str(request["path"]),
        headers=_pairs(request["headers"]),
        # The recorder wrote U+FFFD for the one byte of a request that is no UTF-8.
        body=str(request["body"]).encode().replace("\ufffd".encode(), b"\xff"),
        status=int(str(response["status"])),
        reason=str(response["reason"]),
        answer_headers=_pairs(response["headers"]),
        framing=str(response["framing"]),
        parts=tuple(part.encode() for part in response["parts"]),  # type: ignore[attr-defined]
        complete=bool(response["complete"]),
    )


def _pairs(value: object) -> tuple[tuple[str, str], ...]:
    return tuple((name, text) for name, text in value)  # type: ignore[attr-defined]
