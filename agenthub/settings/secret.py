"""Texts that must never be shown, and the kind of setting that holds one."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from types import MappingProxyType

import attrs

from agenthub.settings.kinds import Kind


class Secret:
    """A text that shows as ``********`` everywhere but in :meth:`reveal`; falsy when empty.

    Not an attrs class on purpose: ``attrs.asdict`` of what holds it would spell it out.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself; for the one place that sends or compares it."""
        return self._text

    def __repr__(self) -> str:
        return "********"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._bytes(), other._bytes())

    def __hash__(self) -> int:
        return hash(self._text)

    def _bytes(self) -> bytes:
        return self._text.encode("utf-8", "surrogatepass")  # os.environ may hold lone surrogates


@attrs.frozen
class SecretText(Kind):
    """A :class:`Secret` that can stand in a header."""

    @property
    def allowed(self) -> str:
        return "a text without control characters"

    def show(self, value: object) -> str:
        return "the value (secret, not shown)"

    def check(self, value: object) -> Secret:
        text = value.reveal() if isinstance(value, Secret) else value
        if not isinstance(text, str) or any(ord(char) < 32 or ord(char) == 127 for char in text):
            raise self.refuse(value)
        return Secret(text)


def as_secret(value: str | Secret) -> Secret:
    """The converter of a secret field; leaves what is no text for the validator to refuse."""
    return Secret(value) if isinstance(value, str) else value


def as_secrets(value: Mapping[str, str | Secret]) -> Mapping[str, Secret]:
    """The converter of a table of secrets."""
    return MappingProxyType({name: as_secret(text) for name, text in value.items()})
