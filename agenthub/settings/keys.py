"""Keys that clients show: only a digest of each is kept, so that nothing that holds the settings can tell them."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator
from typing import ClassVar

import attrs

from agenthub.settings.kinds import Kind, Path, Text, Wrong
from agenthub.settings.secret import Secret, SecretText

_PREFIX = "sha256:"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.IGNORECASE)
_LIKE_DIGEST = re.compile(r"\s*(?:sha-?\d+|md5|blake2[bs]?)\s*(?:[:=]|-?[0-9a-f]{32,}\s*$)", re.IGNORECASE)
_REMEDY = "use a key, or leave the setting out"
_QUOTES = ('"', "'", "`")


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
    """The SHA-256 of a key; falsy where there is none. Keys are long and random, so that no salt is needed.

    Two are compared in a time that does not tell how much of them is equal.
    """

    __slots__ = ("_digest",)

    def __init__(self, digest: bytes = b"") -> None:
        self._digest = digest

    @classmethod
    def of(cls, text: str) -> KeyDigest:
        """Return the digest of a key, or the one that ``sha256:HEX`` spells; of nothing none."""
        if _DIGEST.fullmatch(text):
            return cls(bytes.fromhex(text[len(_PREFIX) :]))
        return cls(digest(_as_sent(text)) if text else b"")

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


def problem_with(text: str) -> str:
    """Return why no client can show this as its key, without the key; empty where one can."""
    if not text.strip():
        return f"the key is {'empty' if not text else 'nothing but blanks'}: {_REMEDY}"
    if text != text.strip():
        return "the key (secret, not shown) begins or ends with a blank, which no header keeps: leave it out"
    if len(text) > 1 and text[0] in _QUOTES and text[-1] == text[0]:
        return "the key (secret, not shown) stands in quotes, which would be part of it: leave them out"
    if _LIKE_DIGEST.match(text) and not _DIGEST.fullmatch(text):
        return "the digest (not shown) is not one: use sha256: and 64 hexadecimal digits"
    return ""


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
        if isinstance(value, KeyDigest):
            return value
        text = self._text.check(value).reveal()
        if problem := problem_with(text):
            raise Wrong(problem)
        return KeyDigest.of(text)


def as_digest(value: str | KeyDigest) -> KeyDigest:
    """The converter of a key's field; leaves what cannot be one for the validator to refuse."""
    try:
        return KeyText("").check(value)
    except Wrong:
        return value  # type: ignore[return-value]


@attrs.frozen
class KeyFileName(Text):
    """The name of a file with a key; the default is none, but one that is given must not be empty."""

    def read(self, path: Path, value: object, *, text: bool) -> Iterator[tuple[Path, object]]:
        if isinstance(value, str) and not value.strip():
            raise Wrong("the name is empty: use that of a file with the key, or leave the setting out", path)
        return super().read(path, value, text=text)


@attrs.frozen
class BackendKeyText(SecretText):
    """A key that is sent to a backend; empty where it wants none."""

    def check(self, value: object) -> Secret:
        secret = super().check(value)
        text = secret.reveal()
        if text and (problem := problem_with(text)) and not _LIKE_DIGEST.match(text):
            raise Wrong(problem)
        return secret
