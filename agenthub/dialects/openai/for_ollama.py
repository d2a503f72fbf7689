"""Requests for Ollama's OpenAI-compatible API: the client's own bytes, but for what that API reads only otherwise.

``max_completion_tokens`` becomes ``max_tokens``, the only word for it that Ollama knows, and a list of one prompt that
prompt. Source: Ollama openai/openai.go.
"""

from __future__ import annotations

import re

from agenthub.canonical import JSON, GenerateRequest, Request
from agenthub.dialects import jsontext
from agenthub.errors import InvalidRequest

_LIMIT = "max_completion_tokens"
_LIST = re.compile(rb'"prompt"\s*:\s*\[')


def rewrite(request: Request, body: bytes) -> bytes:
    """Return ``body``, in which ``request`` was written, in the words that Ollama reads; raises InvalidRequest.

    Where a client gives both limits, the newer one counts, as with OpenAI.
    """
    changes: dict[str, JSON] = {}
    if _LIMIT.encode() in body and _has_member(body, _LIMIT):
        body = remove_top_level(body, _LIMIT)
        limit = request.options.get("num_predict")
        changes |= {} if limit is None else {"max_tokens": limit}
    if isinstance(request, GenerateRequest) and _LIST.search(body) and not _has_tokens(request):
        changes["prompt"] = request.prompt
    if not changes:
        return body
    try:
        return jsontext.set_top_level(body, changes)
    except jsontext.Repeated as error:
        raise InvalidRequest(str(error), param=error.key) from None


def _has_tokens(request: GenerateRequest) -> bool:
    return any(loss.field == "prompt" for loss in request.unmapped)


def _has_member(body: bytes, wanted: str) -> bool:
    return any(name == wanted for name, _ in jsontext.members(body.decode("utf-8")))


def remove_top_level(data: bytes, key: str) -> bytes:
    """Return the JSON object ``data`` without its members ``key``; every other byte stays."""
    text = data.decode("utf-8")
    begin = done = text.index("{") + 1
    kept: list[str] = []
    is_first_gone = False
    for number, (name, (_, end)) in enumerate(jsontext.members(text)):
        if name != key:
            kept.append(text[done:end])
        elif not number:
            is_first_gone = True
        done = end
    if is_first_gone and kept:
        kept[0] = kept[0].replace(",", "", 1)  # the one before its name
    return "".join((text[:begin], *kept, text[done:])).encode("utf-8")
