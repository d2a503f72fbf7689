"""Words: what an upstream says in place of an answer, as the error that its client reads."""

from __future__ import annotations

import re

from agenthub.canonical import JSON
from agenthub.dialects import answerjson, jsontext
from agenthub.errors import UnreadableAnswer, UpstreamError, UpstreamProtocol

_COMPLAINTS = ("error", "detail", "message", "errors", "msg", "error_message")
_OF_ANSWERS = frozenset({"choices", "response", "done", "embeddings", "embedding", "data"})
_QUOTED_BYTES = 200
_TITLE = re.compile(rb"<title[^>]{0,100}>([^<]{1,200})", re.IGNORECASE)


def complaint_of(value: JSON) -> str:
    """Return what an object complains of, empty where it does not: what has a member of an answer is one."""
    if not isinstance(value, dict) or not _OF_ANSWERS.isdisjoint(value):
        return ""
    told = [value.get(name) for name in _COMPLAINTS if name != "message" or isinstance(value.get(name), str)]
    said = next(filter(None, told), None)  # a message that is no text is a part of an answer
    if isinstance(said, dict) and isinstance(said.get("message"), str):
        said = said["message"]
    if said is None or isinstance(said, str):
        return said or ""
    return jsontext.dumps(said).decode("utf-8", "replace")


def complaint_in(data: bytes) -> str:
    """Return the same of JSON text; empty where it is none."""
    try:
        return complaint_of(answerjson.loads(data))
    except ValueError:
        return ""


def complained(error: UpstreamError, body: bytes) -> UpstreamError:
    """Return the error of a body that cannot be read as an answer: what it complains of itself, if it does."""
    said = complaint_in(body) if isinstance(error, UpstreamProtocol) else ""
    return UpstreamError(said) if said else error


def is_object(data: bytes) -> bool:
    """Say whether ``data`` is a JSON object with members of whatever kind, beside that for errors."""
    try:
        value = answerjson.loads(data)
    except ValueError:
        return False
    return isinstance(value, dict) and any(name != "error" for name in value)


def is_scalar(data: bytes) -> bool:
    """Say whether ``data`` is JSON, but neither an object nor a list."""
    try:
        return not isinstance(answerjson.loads(data), dict | list)
    except ValueError:
        return False


def no_answer(data: bytes) -> UpstreamError:
    """Return the error for an answer that holds nothing but ``data``: the upstream's own words, if these are any."""
    if said := complaint_in(data):
        return UpstreamError(said)
    return page(data) or unread(
        UpstreamProtocol(f"the upstream sent no answer, but {_quoted(data, _QUOTED_BYTES)}"), data
    )


def unread(failure: UpstreamError, data: bytes) -> UpstreamError:
    """Return the failure to read ``data`` as an answer: an UnreadableAnswer where it is a JSON object.

    Anything else, such as a proxy's page, half an object or a lone ``null``, does not come from a server that works.
    """
    is_readable = type(failure) is UpstreamProtocol and answerjson.is_object(data)
    return UnreadableAnswer(str(failure)) if is_readable else failure


def not_allowed(data: bytes) -> UpstreamProtocol:
    """Return the error for a frame or a body that is not what the API promises."""
    return page(data) or UpstreamProtocol(f"the upstream sent what its API does not allow: {_quoted(data, 80)}")


def page(data: bytes) -> UpstreamProtocol | None:
    """Return the error for a page of HTML or XML, which proxies and portals send; None where it is none."""
    if data.lstrip()[:1] != b"<":
        return None
    title = _TITLE.search(data[:4096])
    said = b" ".join(title[1].split()) if title is not None else data
    return UpstreamProtocol(f"the upstream sent an HTML page instead of an answer: {_quoted(said, _QUOTED_BYTES)}")


def _quoted(data: bytes, most: int) -> str:
    return repr(data[:most].decode("utf-8", "replace"))
