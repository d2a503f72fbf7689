"""Clients' keys: those that stand in files are read, and no two clients may have the same."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import attrs

from agenthub.settings.entries import ClientSettings
from agenthub.settings.keys import KeyDigest, KeyText
from agenthub.settings.kinds import Wrong

_LONGEST_BYTES = 4096


def with_keys(clients: dict[str, ClientSettings], directory: Path) -> MappingProxyType[str, ClientSettings]:
    """Return the clients with the keys that ``api_key_file`` names in ``directory``; raises Wrong."""
    ready: dict[str, ClientSettings] = {}
    owners: dict[KeyDigest, str] = {}
    for name, client in clients.items():
        ready[name] = client = _with_key(client, directory, ("clients", name, "api_key_file"))
        if client.api_key and (owner := owners.setdefault(client.api_key, name)) != name:
            member = "api_key_file" if client.api_key_file else "api_key"
            raise Wrong(f"this is the key of client {owner} too: give each one of its own", ("clients", name, member))
    return MappingProxyType(ready)


def _with_key(client: ClientSettings, directory: Path, path: tuple[str, ...]) -> ClientSettings:
    if not client.api_key_file:
        return client
    if client.api_key:
        raise Wrong("api_key is given as well: use one of the two", path)
    try:
        return attrs.evolve(client, api_key=KeyText("").check(_read_line(directory / client.api_key_file)))
    except Wrong as wrong:
        raise Wrong(str(wrong), path) from None


def _read_line(path: Path) -> str:
    """Return the one line of a file. Neither the file nor its name is shown: either may be the key itself."""
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_BYTES + 1).decode("utf-8-sig").strip()
    except OSError as error:
        raise Wrong(f"the file cannot be read: {error.strerror}") from None
    except ValueError:
        raise Wrong("the file cannot be read: it is not UTF-8 text, or its name is none") from None
    if not text:
        raise Wrong("the file is empty: use one that holds the key in one line")
    if len(text.splitlines()) > 1 or len(text) >= _LONGEST_BYTES:
        raise Wrong("the file holds more than a key: use one that holds the key in one line")
    return text
