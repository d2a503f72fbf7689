"""Base64 text: pictures and sound in the one spelling that every server takes."""

from __future__ import annotations

import base64
from urllib.parse import unquote_to_bytes

_BLANKS = b" \t\r\n\f\v"
_STANDARD = bytes.maketrans(b"-_", b"+/")
_ODD = ("\n", "\r", " ", "\t", "\f", "\v", "-", "_")
_ESCAPED = [(f"%{code:02{case}}", chr(code)) for code in (*b"+/=", 10, 13, 32) for case in ("X", "x")]
"""A table: to decode any escape costs half a second for a picture of 12 MB."""
_LONGEST_OCTETS = 2**20
_LONGEST_HEAD = 1024
"""The media type of a ``data:`` URL ends within this; without a comma there it is not one."""


def plain_base64(text: str) -> str:
    """Return base64 without ``data:``, blanks and line breaks, in the standard alphabet and padded.

    ``base64`` breaks its lines and ends with a newline; browsers leave the padding out. Only the spelling is changed:
    whether the rest is valid is for the server to say. The cost is linear, a few scans for a text that is plain.
    """
    if text[:1].isspace():
        text = text.lstrip()
    if text[:5].lower() == "data:":
        text = _payload(text)
    if not text.isascii():
        return text
    if any(odd in text for odd in _ODD):
        text = text.encode("ascii").translate(_STANDARD, _BLANKS).decode("ascii")
    if len(text) % 4 or text.endswith("==="):
        text = text.rstrip("=")
        text += "=" * (-len(text) % 4)
    return text


def _payload(url: str) -> str:
    """Return the base64 of a ``data:`` URL; the payload of one that is not base64 is octets in URL encoding."""
    comma = url.find(",", 0, _LONGEST_HEAD)
    head, data = (url[5:comma], url[comma + 1 :]) if comma >= 0 else ("", url[5:])
    if "%" not in data:
        # Some clients forget ";base64".
        return data
    if any(word.strip().lower() == "base64" for word in head.split(";")[1:]):
        for escaped, character in _ESCAPED:
            data = data.replace(escaped, character)
        return data
    return base64.b64encode(unquote_to_bytes(data)).decode("ascii") if len(data) <= _LONGEST_OCTETS else data
