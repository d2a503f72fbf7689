"""Words of a request: those of the flavour, and those that a server refuses."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial

import attrs

from agenthub.dialects import Codec, jsontext, openai
from agenthub.dialects.lane import Lane


@lru_cache
def codecs_for(flavour: str) -> Mapping[str, Codec]:
    """Return the codecs, by their paths, whose requests are in the words of that flavour."""
    return {path: _for_flavour(codec, flavour) for path, codec in openai.CODECS.items()}


def _for_flavour(codec: Codec, flavour: str) -> Codec:
    render_request = partial(codec.render_request, flavour=flavour)
    return attrs.evolve(
        codec, render_request=render_request, render_defaults=partial(codec.render_defaults, flavour=flavour)
    )


def without_stream_options(lane: Lane) -> Lane:
    """Return the lane for a server that refuses ``stream_options``; it will not tell its counts."""
    body = jsontext.loads(lane.body)
    body.pop("stream_options", None)
    return attrs.evolve(lane, body=jsontext.dumps(body))
