"""An upstream's error answers, whatever shape they have: Ollama's text, OpenAI's object, HTML or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Self

import attrs

from agenthub.canonical import JSON
from agenthub.dialects import jsontext
from agenthub.errors import UpstreamError, UpstreamProtocol, UpstreamStatus
from agenthub.settings import BackendSettings

KEPT_HEADERS = frozenset(
    {"retry-after", "retry-after-ms"}
    | {f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")}
)
"""Response headers of an upstream that its client may see, in lower case."""

_MAX_TEXT = 4096


_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


_SHORTEST_SECRET = 8
"""Shorter values of headers are no secrets, but words and numbers that may stand in any text."""


@attrs.frozen
class Hiding:
    """Takes a backend's keys out of what its upstream says: some servers repeat the key that they refuse."""

    secrets: tuple[bytes, ...] = attrs.field(repr=False)

    @classmethod
    def of(cls, settings: BackendSettings) -> Self:
        """Return what hides the key and the headers of a backend."""
        texts = [secret.reveal() for secret in (settings.api_key, *settings.headers.values())]
        # Of "Bearer key" the key alone is one too.
        found = {part.encode("utf-8", "surrogatepass") for text in texts for part in (text, *text.split()[-1:])}
        return cls(tuple(sorted((part for part in found if len(part) >= _SHORTEST_SECRET), key=len, reverse=True)))

    def hidden(self, data: bytes) -> bytes:
        """Return ``data`` with stars in the place of each secret."""
        for secret in self.secrets:
            data = data.replace(secret, b"********")
        return data

    def hide(self, error: UpstreamError) -> None:
        """Do the same to the text of an error."""
        error.args = (self.hidden(str(error).encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass"),)


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that the client may see; a value with control characters is dropped."""
    return {
        name: value for name, value in headers.items() if name.lower() in KEPT_HEADERS and not _CONTROL.search(value)
    }


def make_status_error(
    status: int, headers: Mapping[str, str], body: bytes, callers_fault: Callable[[str], bool]
) -> UpstreamError:
    """Return the error that an answer from 300 on stands for; the text is cut at 4 KiB.

    Only 400 to 599 are the upstream's to say: what redirects, or is no status, is no API server.
    """
    if not 400 <= status <= 599:
        return UpstreamProtocol(f"the upstream answered with status {status}: is its URL right?")
    message, code, fields = _parse(body)
    message = message[:_MAX_TEXT] or f"the upstream answered {status} {_phrase(status)}".rstrip()
    fault = callers_fault(message)
    kept = kept_headers(headers)
    return UpstreamStatus(status, message, code=code, headers=kept, fields=fields, callers_fault=fault)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _parse(body: bytes) -> tuple[str, str | None, dict[str, JSON]]:
    try:
        value = jsontext.loads(body)
    except ValueError:
        return body[: 4 * _MAX_TEXT].decode("utf-8", "replace").strip(), None, {}
    if not isinstance(value, dict):
        return jsontext.dumps(value).decode("utf-8", "replace"), None, {}
    error = next((value[name] for name in ("error", "message", "detail") if value.get(name) is not None), "")
    # Where to sign in is of use to the client (Ollama's cloud models).
    fields = {"signin_url": value["signin_url"]} if isinstance(value.get("signin_url"), str) else {}
    if isinstance(error, dict):
        code = error.get("code")
        return str(error.get("message") or ""), None if code is None else str(code), fields
    return error if isinstance(error, str) else jsontext.dumps(error).decode("utf-8", "replace"), None, fields
