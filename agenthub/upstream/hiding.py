"""Takes a backend's keys out of what its upstream says: some servers repeat the key that they refuse."""

from __future__ import annotations

from typing import Self

import attrs

from agenthub.errors import UpstreamError, UpstreamStatus
from agenthub.settings import BackendSettings

_SHORTEST_SECRET = 8
"""Shorter values of headers are no secrets, but words and numbers that may stand in any text."""


@attrs.frozen
class Hiding:
    """Knows a backend's secrets, the longest first."""

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
        """Do the same to every text of an error: JSON may spell a secret so that its bytes do not show it."""
        error.args = (self.hide_text(str(error)),)
        if isinstance(error, UpstreamStatus):
            error.kind = self.hide_text(error.kind)
            error.code = None if error.code is None else self.hide_text(error.code)
            error.param = None if error.param is None else self.hide_text(error.param)
            error.fields = {name: self.hide_text(v) if isinstance(v, str) else v for name, v in error.fields.items()}
            error.headers = {name: self.hide_text(value) for name, value in error.headers.items()}

    def hide_text(self, text: str) -> str:
        """Return ``text`` with stars in the place of each secret."""
        return self.hidden(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")
