"""Lists of texts that must be something: words out of some, or origins of web pages and the patterns they mean."""

from __future__ import annotations

import re

import attrs

from agenthub.settings.kinds import Texts, either

_ENTRY = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?P<host>\*|(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>\*|[0-9]{1,5}))?",
    re.IGNORECASE | re.ASCII,
)
_DEFAULT_PORTS = {("http", "80"), ("https", "443")}
_ANY_HOST = r"(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])"


@attrs.frozen
class Words(Texts):
    """Distinct words out of ``choices``."""

    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        return f"a list of {either(self.choices)}"

    def check(self, value: object) -> tuple[str, ...]:
        words = super().check(value)
        for word in words:
            if word not in self.choices:
                raise self.refuse(word)
        return words


@attrs.frozen
class Origins(Texts):
    """Origins, in which a port or a host, or the first part of one, may be ``*``; ``*`` alone is any."""

    @property
    def allowed(self) -> str:
        return 'a list of origins as "https://chat.example.com", "https://*.example.com", "http://10.0.0.7:*" or "*"'

    def check(self, value: object) -> tuple[str, ...]:
        entries = super().check(value)
        for entry in entries:
            if entry not in ("*", "null") and not _ENTRY.fullmatch(entry):
                raise self.refuse(entry)
        return entries


def origin_pattern(entry: str) -> str:
    """Return the regular expression of an entry, for a whole origin in lower case."""
    if entry in ("*", "null"):
        return entry.replace("*", rf"null|[a-z][a-z0-9+.-]*://{_ANY_HOST}?(?::[0-9]{{1,5}})?")
    found = _ENTRY.fullmatch(entry.lower())
    assert found is not None, entry
    scheme, host, port = found["scheme"], found["host"], found["port"]
    if host == "*":
        host = _ANY_HOST
    elif host.startswith("*."):
        host = r"(?:[a-z0-9_-]+\.)+" + re.escape(host[2:])
    else:
        host = re.escape(host)
    if port is None or (scheme, port) in _DEFAULT_PORTS:  # browsers leave these out
        return f"{re.escape(scheme)}://{host}"
    return f"{re.escape(scheme)}://{host}" + (r"(?::[0-9]{1,5})?" if port == "*" else f":{port}")
