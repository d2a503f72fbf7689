"""Which way a request takes to an upstream: its own bytes where both sides speak one dialect, else a rendered body."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping

import attrs

from agenthub.canonical import Request
from agenthub.dialects import jsontext
from agenthub.dialects.codec import Codec


@attrs.define
class Lane:
    """The endpoint to ask and the body to send; ``raw`` asks for the upstream's bytes beside the events.

    ``rename`` is what the model is to be called in those bytes, None where the upstream's name is the client's.
    ``path`` stands for the codec's where it is not empty, and ``content``, whose size in bytes is ``length`` where that
    is known, for the body. ``is_whole`` says that the client gets one whole answer, though the upstream may stream.
    """

    codec: Codec
    body: bytes = attrs.field(repr=False)
    raw: bool = False
    rename: str | None = None
    path: str = ""
    content: AsyncIterable[bytes] | None = attrs.field(default=None, repr=False)
    length: int | None = None
    is_whole: bool = False


def make_lane(request: Request, codecs: Mapping[str, Codec], default: Codec) -> Lane:
    """Return the lane to an upstream whose endpoints are ``codecs``; ``default`` is for requests of another dialect."""
    source = request.source
    codec = codecs.get(source.path) if source is not None else None
    if source is None or codec is None:
        return Lane(default, default.render_request(request, request.target), is_whole=not request.wants_stream)
    body, rename = source.body, None
    if request.upstream_model:
        # Set, not replaced: a body may name the model by Ollama's old word, "name".
        body, rename = jsontext.set_top_level(body, codec.member, request.upstream_model), request.model
    if isinstance(request.keep_alive, int | float) and source.dialect == codec.dialect == "ollama":
        body = _with_number(body, "keep_alive", request.keep_alive)
    if request.defaults:
        for key, value in codec.render_defaults(request).items():
            body = jsontext.set_top_level(body, key, value)
    return Lane(codec, body, raw=True, rename=rename, is_whole=not request.wants_stream)


def _with_number(body: bytes, key: str, number: float) -> bytes:
    """Return the body with a number that the client wrote as a text; Ollama takes "-1" for a duration without unit."""
    return jsontext.replace_top_level(body, key, number) if jsontext.get_top_level(body, key).startswith(b'"') else body
