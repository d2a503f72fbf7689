"""Ids for tool calls that came without one."""

from __future__ import annotations

import secrets
import string

_ALPHABET = string.ascii_lowercase + string.digits


def make_call_id() -> str:
    """Return a fresh id in the shape that Ollama gives: ``call_`` and eight of [a-z0-9]."""
    return "call_" + "".join(secrets.choice(_ALPHABET) for _ in range(8))
