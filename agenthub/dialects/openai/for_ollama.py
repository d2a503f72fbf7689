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
_ESCAPED = re.compile(rb"\\u00[567]")
"""A letter that need not be escaped: the name of any member may have one, to JSON it is the same."""


def rewrite(request: Request, body: bytes) -> bytes:
    """Return ``body``, in which ``request`` was written, in the words that Ollama reads; raises InvalidRequest.

    Where a client gives both limits, the newer one counts, as with OpenAI.
    """
    changes: dict[str, JSON] = {}
    is_escaped = b"\\u00" in body and _ESCAPED.search(body) is not None
    if (is_escaped or _may_limit(request, body)) and _values_of(body, _LIMIT):
        body = remove_top_level(body, _LIMIT)
        limit = request.options.get("num_predict")
        changes |= {} if limit is None else {"max_tokens": limit}
    if isinstance(request, GenerateRequest) and _has_list(body, is_escaped) and not _has_tokens(request):
        changes["prompt"] = request.prompt
    if not changes:
        return body
    try:
        return jsontext.set_top_level(body, changes)
    except jsontext.Repeated as error:
        raise InvalidRequest(str(error), param=error.key) from None


def _may_limit(request: Request, body: bytes) -> bool:
    """Say whether the limit may be there: by its name, or in capitals where the request has one by no other name."""
    return _LIMIT.encode() in body or ("num_predict" in request.options and b"max_tokens" not in body)


def _has_tokens(request: GenerateRequest) -> bool:
    return any(loss.field == "prompt" for loss in request.unmapped)


def _has_list(body: bytes, is_escaped: bool) -> bool:
    """Say whether the prompt, however its name is spelled, is a list."""
    return _LIST.search(body) is not None or (is_escaped and "[" in _values_of(body, "prompt"))


def _values_of(body: bytes, wanted: str) -> list[str]:
    """Return how the values of the members begin that have a name, in any case."""
    text = body.decode("utf-8")
    return [text[start] for name, (start, _) in jsontext.members(text) if name.lower() == wanted]


def remove_top_level(data: bytes, key: str) -> bytes:
    """Return the JSON object ``data`` without its members ``key``, in any case; every other byte stays."""
    text = data.decode("utf-8")
    begin = done = text.index("{") + 1
    kept: list[str] = []
    is_first_gone = False
    for number, (name, (_, end)) in enumerate(jsontext.members(text)):
        if name.lower() != key:
            kept.append(text[done:end])
        elif not number:
            is_first_gone = True
        done = end
    if is_first_gone and kept:
        kept[0] = kept[0].replace(",", "", 1)  # the one before its name
    return "".join((text[:begin], *kept, text[done:])).encode("utf-8")
