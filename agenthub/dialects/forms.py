"""Forms: what a body is by its first bytes, whatever its Content-Type says."""

from __future__ import annotations

from agenthub.dialects import jsontext
from agenthub.dialects.framing import BOM

EVENTS, LINES, WHOLE = "events", "lines", "whole"
"""Server-sent events; lines of JSON, an object each; one JSON value, or anything else that is no stream."""

USUAL = {"text/event-stream": (EVENTS, b"data:"), "application/x-ndjson": (LINES, b'{"')}
"""The form that a type promises, and the bytes with which nearly all bodies of that form begin."""

LONGEST_LOOK = 2**18
"""How many bytes are looked at; a body that is not known by then is read as a whole one."""

_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b"error:", b":")


def form_of(head: bytes, *, is_all: bool = False, promised: str = "") -> str:
    """Return the form of a body that begins with ``head``, empty where only more of it can tell.

    ``promised`` is the form that its type stands for, which counts where the bytes leave a choice. ``is_all`` says that
    nothing follows.
    """
    is_all = is_all or len(head) >= LONGEST_LOOK
    if not is_all and len(head) < len(BOM) and BOM.startswith(head):
        return ""
    text = head.removeprefix(BOM).lstrip()
    if text.startswith(b"{"):
        return _form_of_object(text, is_all=is_all, promised=promised)
    if text.startswith(_FIELDS):
        return EVENTS
    if not is_all and any(field.startswith(text) for field in _FIELDS):
        return ""
    # A page is read as one, so that its title can be told.
    return WHOLE if text.startswith(b"<") else promised or WHOLE


def _form_of_object(text: bytes, *, is_all: bool, promised: str) -> str:
    line, end, rest = text.partition(b"\n")
    if not end:
        return "" if not is_all else LINES if promised == LINES else WHOLE
    try:
        value = jsontext.loads(line)
    except ValueError:
        # Its object goes on behind the line: nobody indents the lines of a stream.
        return WHOLE
    if promised == LINES or rest.strip() or value.get("done") is False:
        return LINES
    return WHOLE if is_all else ""
