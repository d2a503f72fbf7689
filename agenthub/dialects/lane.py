"""Which way a request takes to an upstream: its own bytes where both sides speak one dialect, else a rendered body."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping

import attrs

from agenthub.canonical import JSON, Request, Source
from agenthub.dialects import jsontext
from agenthub.dialects.codec import Codec
from agenthub.errors import InvalidRequest


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
    rename = request.model if request.upstream_model else None
    try:
        changes = _changes(request, source, codec)
        body = jsontext.set_top_level(source.body, changes) if changes else source.body
    except jsontext.Repeated as error:
        raise InvalidRequest(str(error), param=error.key) from None
    return Lane(codec, body, raw=True, rename=rename, is_whole=not request.wants_stream)


def _changes(request: Request, source: Source, codec: Codec) -> dict[str, JSON]:
    """Return the members of the client's body that its upstream is to get otherwise."""
    changes: dict[str, JSON] = {}
    if request.upstream_model:
        # Set, not replaced: a body may name the model by Ollama's old word, "name".
        changes[codec.member] = request.upstream_model
    is_number = isinstance(request.keep_alive, int | float) and source.dialect == codec.dialect == "ollama"
    if is_number and jsontext.get_top_level(source.body, "keep_alive").startswith(b'"'):
        # The client wrote it as a text: Ollama takes "-1" for a duration without unit.
        changes["keep_alive"] = request.keep_alive
    if request.defaults:
        changes |= codec.render_defaults(request)
    return changes
