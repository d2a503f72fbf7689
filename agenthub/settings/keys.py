"""Keys that clients show: only a digest of each is kept, so that nothing that holds the settings can tell them."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import ClassVar

import attrs

from agenthub.settings.kinds import Kind
from agenthub.settings.secret import SecretText

_PREFIX = "sha256:"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.IGNORECASE)


def digest(key: bytes) -> bytes:
    """Return what is kept of a key."""
    return hashlib.sha256(key).digest()


def _as_sent(text: str) -> bytes:
    """Return a key's bytes as a client sends them; bytes of the environment that are no UTF-8 stay what they are."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


class KeyDigest:
    """The SHA-256 of a key; falsy where there is none. Keys are long and random, so that no salt is needed."""

    __slots__ = ("_digest",)

    def __init__(self, digest: bytes = b"") -> None:
        self._digest = digest

    @classmethod
    def of(cls, text: str) -> KeyDigest:
        """Return the digest of a key, or the one that ``sha256:HEX`` spells; of nothing none."""
        if _DIGEST.fullmatch(text):
            return cls(bytes.fromhex(text[len(_PREFIX) :]))
        return cls(digest(_as_sent(text)) if text else b"")

    def matches(self, shown: bytes) -> bool:
        """Compare with the digest of what a client showed, in a time that does not tell how much of it is right."""
        return bool(self._digest) and hmac.compare_digest(self._digest, shown)

    def __repr__(self) -> str:
        return "********"

    def __bool__(self) -> bool:
        return bool(self._digest)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KeyDigest):
            return NotImplemented
        return hmac.compare_digest(self._digest, other._digest)

    def __hash__(self) -> int:
        return hash(self._digest)


@attrs.frozen
class KeyText(Kind):
    """A key in clear, or ``sha256:HEX``; kept as its digest."""

    _text: ClassVar[SecretText] = SecretText("")

    @property
    def allowed(self) -> str:
        return self._text.allowed

    def show(self, value: object) -> str:
        return self._text.show(value)

    def check(self, value: object) -> KeyDigest:
        return value if isinstance(value, KeyDigest) else KeyDigest.of(self._text.check(value).reveal())


def as_digest(value: str | KeyDigest) -> KeyDigest:
    """The converter of a key's field; leaves what is no text for the validator to refuse."""
    return KeyDigest.of(value) if isinstance(value, str) else value
