"""HEAD and POST /api/blobs/:digest: is a file there, and its upload. Source: Ollama docs/api.md "Push a Blob"."""

from __future__ import annotations

import re

import attrs

from agenthub.canonical import RelayRequest
from agenthub.dialects.lane import Lane
from agenthub.dialects.ollama.managing import make_silent
from agenthub.errors import InvalidRequest

PATH = "/api/blobs"
# Ollama takes the form that its files are named by as well.
_DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")


def parse_request(digest: bytes) -> RelayRequest:
    """Return the request of a blob by the last part of its path; raises InvalidRequest for what is no digest."""
    text = digest.decode("utf-8", "replace")
    if not _DIGEST.fullmatch(text):
        raise InvalidRequest("invalid digest format", param="digest")
    return RelayRequest(verb="blobs", model="", arguments={"digest": text})


ASK_CODEC = make_silent(
    path=PATH, parse_request=parse_request, render_request=lambda request, model: b"", method="HEAD"
)
"""Whether a blob is there."""
UPLOAD_CODEC = attrs.evolve(ASK_CODEC, method="POST", is_patient=True)
"""How long an upload takes is up to the client."""


def make_lane(request: RelayRequest) -> Lane:
    """Return the lane: the content goes as it comes, the digest stands in the path."""
    codec = ASK_CODEC if request.content is None else UPLOAD_CODEC
    path = f"{PATH}/{request.arguments['digest']}"
    return Lane(codec, b"", raw=True, path=path, content=request.content, length=request.length)
