"""Load: a model put into memory or taken out of it, which only Ollama's own API can do."""

from __future__ import annotations

from agenthub import AgentHubError, Request, UpstreamStatus
from agenthub.dialects import ollama
from agenthub.dialects.lane import Lane, make_lane

_CODECS = {"chat": ollama.chat.CODEC, "generate": ollama.generate.CODEC, "embed": ollama.embed.CODEC}
_NO_SUCH_PATH = frozenset({404, 405, 501})


def is_load(request: Request) -> bool:
    """Say whether the request only loads or unloads its model; in OpenAI's dialect nothing does."""
    return request.loads_only and (request.source is None or request.source.dialect == ollama.chat.DIALECT)


def native_lane(request: Request) -> Lane:
    """Return the lane of a load to the same server's own API, with the options and the time that it asks for."""
    return make_lane(request, ollama.CODECS, _CODECS[request.operation])


def may_lack_path(error: AgentHubError) -> bool:
    """Say whether the server may have no such API, as behind a proxy that passes nothing but ``/v1``.

    Ollama answers 404 for a model that is missing too.
    """
    return not isinstance(error, UpstreamStatus) or error.status in _NO_SUCH_PATH
