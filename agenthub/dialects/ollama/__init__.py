"""Ollama's own API: ``/api/*``, NDJSON."""

from agenthub.canonical import RelayRequest
from agenthub.dialects.lane import Lane, make_lane
from agenthub.dialects.ollama import blobs, chat, embed, fields, generate, listing, managing, show

CODECS = {codec.path: codec for codec in (chat.CODEC, generate.CODEC, embed.CODEC, embed.LEGACY_CODEC)}
"""The endpoints that ask a model something."""

VERBS = {
    "show": listing.SHOW_CODEC,
    "pull": managing.PULL_CODEC,
    "push": managing.PUSH_CODEC,
    "create": managing.CREATE_CODEC,
    "copy": managing.COPY_CODEC,
    "delete": managing.DELETE_CODEC,
    "blobs": blobs.UPLOAD_CODEC,
}
"""The management verbs that are about one model."""


def make_verb_lane(request: RelayRequest) -> Lane:
    """Return the lane of a verb: its answer is nothing but its bytes, in which no model is named."""
    if request.verb == "blobs":
        return blobs.make_lane(request)
    codec = VERBS[request.verb]
    lane = make_lane(request, {codec.path: codec}, codec)
    lane.raw, lane.rename = True, None
    return lane


__all__ = [
    "CODECS",
    "VERBS",
    "blobs",
    "chat",
    "embed",
    "fields",
    "generate",
    "listing",
    "make_verb_lane",
    "managing",
    "show",
]
