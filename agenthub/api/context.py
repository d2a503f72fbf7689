"""Who asks, under which id, and with which wishes in the headers."""

from __future__ import annotations

import random
import re

from multidict import CIMultiDictProxy

from agenthub.middleware import Caller

_ID = re.compile(r"[\x21-\x7e]{1,128}")
TRUE = frozenset({"true", "1", "yes", "on"})


def make_caller(headers: CIMultiDictProxy[str], dialect: str) -> Caller:
    """Return what the headers say. An X-Request-Id that is no plain word is not echoed: it gets a fresh one."""
    given = headers.get("X-Request-Id")
    directives = headers.get("Cache-Control", "").lower()
    return Caller(
        request_id=given if given and _ID.fullmatch(given) else f"{random.getrandbits(96):024x}",
        client=headers.get("X-Client-Name", "")[:128],
        dialect=dialect,
        api_mode=headers.get("X-AgentHub-Api-Mode", ""),
        strict=headers.get("X-AgentHub-Strict", "").lower() in TRUE,
        no_cache="no-cache" in directives,
        no_store="no-store" in directives,
    )


def dialect_of(path: str) -> str:
    """Return the dialect that a path belongs to, served or not; paths of none are answered in Ollama's."""
    if path.startswith("/v1/messages") and path[12:13] in ("", "/"):
        return "anthropic"
    return "openai" if path.startswith("/v1/") or path == "/v1" else "ollama"
