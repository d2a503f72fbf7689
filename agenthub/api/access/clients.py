"""Clients: who asks, by the key that a request shows, and what it may do."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from multidict import CIMultiDictProxy

from agenthub.errors import ConfigError, Unauthorized
from agenthub.middleware import Caller
from agenthub.operations import GROUPS, meant
from agenthub.rights import EVERYTHING, Rights
from agenthub.settings import ClientSettings
from agenthub.settings.keys import KeyDigest, digest

NEEDED = "an API key is needed: Authorization: Bearer KEY, or x-api-key: KEY"
UNKNOWN = "the API key is not known here"
SEVERAL = "more than one API key is shown"


@attrs.frozen
class Clients:
    """The clients of the settings. Where any has a key, ``keys`` holds the name of each that has one."""

    rights: Mapping[str, Rights]
    keys: Mapping[KeyDigest, str]

    @classmethod
    def of(cls, clients: Mapping[str, ClientSettings]) -> Clients:
        """Return the clients; raises ConfigError where a key's file was not read, which would let anybody in."""
        for name, client in clients.items():
            if client.api_key_file and not client.api_key:
                raise ConfigError(f"clients.{name}.api_key_file: the file was not read: use agenthub.settings.load")
        keys = {client.api_key: name for name, client in clients.items() if client.api_key}
        usual = GROUPS["ask" if keys else "all"]
        rights = {
            name: Rights(client.models, meant(client.operations) if client.operations else usual)
            for name, client in clients.items()
        }
        # One that may do everything costs nothing to check.
        rights = {name: EVERYTHING if found == EVERYTHING else found for name, found in rights.items()}
        return cls(rights, keys)

    def identify(self, headers: CIMultiDictProxy[str], caller: Caller) -> None:
        """Make the caller the client whose key is shown; raise Unauthorized where there is none."""
        caller.client = ""
        own, bearer = headers.getall("x-api-key", ()), headers.getall("Authorization", ())
        if len(own) > 1 or len(bearer) > 1:
            raise Unauthorized(SEVERAL)
        by_own = self._owner(own[0]) if own else None
        by_bearer = self._owner(_token(bearer[0])) if bearer else None
        name = by_own if by_own is not None else by_bearer
        if name is None:
            raise Unauthorized(UNKNOWN if any(own) or any(bearer) else NEEDED)
        caller.client, caller.rights = name, self.rights[name]
        # A key in another scheme, or that of another client, opens nothing, but is none of the upstream's either.
        caller.shows_key = by_bearer is not None or any(map(self._is_key, _words(bearer)))

    def _is_key(self, text: str) -> bool:
        return self._owner(text) is not None

    def _owner(self, key: str) -> str | None:
        """Return the client whose key this is, as fast among a thousand as among two.

        The time that the look-up takes depends on the digest. Nobody can choose one that begins as that of a key they
        do not know, so that it tells nothing of the key. Digests whose hashes are equal are compared in constant time.
        """
        return self.keys.get(KeyDigest(digest(key.encode("utf-8", "surrogateescape"))))


def _token(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _words(authorization: tuple[str, ...] | list[str]) -> set[str]:
    return {word for text in authorization for word in (text, *text.split()[-1:])}
