"""Endpoints that ask a backend something, as a handler answers them and as explain reads them."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from functools import lru_cache
from typing import TypeAlias

import attrs
from aiohttp import web

from agenthub.api import enhancing
from agenthub.api.bodies import body_length, read_body, stream_body
from agenthub.api.described import Head
from agenthub.api.hub import hub_of
from agenthub.api.streaming import answer
from agenthub.canonical import RelayRequest, Request
from agenthub.dialects import Codec
from agenthub.dialects.ollama import blobs, embed, listing
from agenthub.dialects.openai import embeddings
from agenthub.dialects.prompts import CHAT, GENERATE
from agenthub.middleware import Caller
from agenthub.offload import is_large, offload

Read: TypeAlias = Callable[[Head, bytes], tuple[Codec, Request]]
_LONGEST_BYTES, _MOST = 8192, 128
_EMBED = frozenset({embed.PATH, embed.LEGACY_PATH, embeddings.PATH})


@attrs.frozen(eq=False)
class Asks:
    """The handler of such an endpoint. ``read`` gives what is asked, and how the answer is rendered.

    All that it can be asked for is one ``operation``.

    What ``has_prompt`` may have it put better. One that ``uploads`` has its body passed on as it comes in; what is held
    of it at any time is a few buffers.
    """

    read: Read
    operation: str
    uploads: bool = False
    has_prompt: bool = False

    async def __call__(self, http_request: web.Request, caller: Caller) -> web.StreamResponse:
        if self.uploads:
            codec, request = self.read(http_request, b"")
            request = with_upload(http_request, request, stream_body(http_request))
        else:
            body = await read_body(http_request)
            if is_large(len(body)):
                codec, request = await offload(len(body), self.read, http_request, body)
            else:
                codec, request = self.read(http_request, body)
            del body
            if self.has_prompt and enhancing.wants_enhancement(hub_of(http_request), http_request, caller):
                request = await enhancing.enhance_in_line(http_request, caller, codec, request)
        return await answer(http_request, caller, codec, request)


def with_upload(head: Head, request: Request, content: AsyncIterable[bytes]) -> Request:
    """Return the request with the body that is to be passed on."""
    assert isinstance(request, RelayRequest), "nothing else is uploaded"
    return attrs.evolve(request, content=content, length=body_length(head))


def ask(codec: Codec) -> Asks:
    """Return the handler of an endpoint that asks a model something.

    Short bodies are remembered with the request that they were parsed into: the cache serves clients that ask the same
    again, and parsing would be a third of a hit. Requests are frozen, so one may serve many.
    """
    remembered = lru_cache(_MOST)(codec.parse_request)

    def read(head: Head, body: bytes) -> tuple[Codec, Request]:
        return codec, remembered(body) if len(body) <= _LONGEST_BYTES else codec.parse_request(body)

    return Asks(read, _operation_at(codec.path), has_prompt=codec.path in CHAT | GENERATE)


def _operation_at(path: str) -> str:
    if path in CHAT | GENERATE:
        return "chat" if path in CHAT else "generate"
    # Those that manage are called as their paths end: /api/pull.
    return "embed" if path in _EMBED else path.rpartition("/")[2]


def _read_show(head: Head, body: bytes) -> tuple[Codec, Request]:
    for_copilot = head.headers.get("User-Agent", "").startswith("GitHubCopilotChat/")
    codec = listing.COPILOT_SHOW_CODEC if for_copilot else listing.SHOW_CODEC
    return codec, codec.parse_request(body)


def _read_digest(codec: Codec) -> Read:
    return lambda head, body: (codec, blobs.parse_request(head.match_info["digest"].encode()))


show = Asks(_read_show, "show")
"""Shows a model, as the backend that has it describes it."""
ask_blob = Asks(_read_digest(blobs.ASK_CODEC), "blobs")
"""Says whether the backend that uploads go to has a blob."""
upload_blob = Asks(_read_digest(blobs.UPLOAD_CODEC), "blobs", uploads=True)
"""Passes an upload on as it comes in."""
