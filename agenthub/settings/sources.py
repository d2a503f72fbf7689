"""Where settings come from: a TOML file, ``.env``, the environment, the command line; later layers win.

Every layer is read by the same kinds, so each wrong value is found where it stands, even when a later layer hides it.
"""

from __future__ import annotations

import io
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path as FilePath

from attrs import field, frozen
from dotenv.parser import parse_stream

from agenthub.errors import ConfigError
from agenthub.settings.kinds import Path, Wrong
from agenthub.settings.tables import Table, Unknown

PREFIX = "AGENTHUB_"
CONFIG = "AGENTHUB_CONFIG"
DEFAULT_CONFIG = "config/agenthub.toml"
OLLAMA_HOST = "OLLAMA_HOST"
_OLLAMA_URL = ("backends", "ollama", "url")
PLAIN_NAMES: Mapping[str, Path] = {"OLLAMA_API_MODE": ("api_mode",)}


def dotted(path: Path) -> str:
    """The path as a TOML key: ``models."gpt-4.1".target``."""
    bare = re.compile(r"[A-Za-z0-9_-]+")
    return ".".join(part if bare.fullmatch(part) else json.dumps(part, ensure_ascii=False) for part in path)


@frozen
class Layers:
    """The checked leaves of every layer read so far, the source of each, and what each hides of the layers below."""

    root: Table
    values: dict[Path, object] = field(factory=dict)
    sources: dict[Path, str] = field(factory=dict)
    hidden: dict[Path, list[tuple[str, object]]] = field(factory=dict)

    def add(self, tree: object, source: str, *, text: bool = False) -> None:
        """Put a layer's nested tables on top; ``text``: strings are parsed to their field's type."""
        try:
            for path, value in self.root.read((), tree, text=text):
                if path in self.sources and value is not None:
                    self.hidden.setdefault(path, []).append((self.sources[path], self.values[path]))
                self.values[path] = value
                self.sources[path] = source
        except Wrong as wrong:
            raise self.error(wrong, source) from None

    def build(self) -> object:
        """The settings object; raises ConfigError when a required key is missing."""
        try:
            return self.root.build(self.values, ())
        except Wrong as wrong:
            raise self.error(wrong) from None

    def named_sources(self) -> dict[str, str]:
        """Key path -> source; without the marks that a table is there."""
        return {dotted(path): source for path, source in self.sources.items() if self.values[path] is not None}

    def named_hidden(self) -> dict[str, tuple[tuple[str, object], ...]]:
        """Key path -> source and value of each layer that a later one hides, the nearest first."""
        return {dotted(path): tuple(reversed(found)) for path, found in self.hidden.items()}

    def respell(self, path: Path) -> Path:
        """``path`` in the spelling of a key already there; the environment does not keep the case of a name."""
        found: Path = ()
        for part in path:
            here = {known[len(found)] for known in self.sources if known[: len(found)] == found != known}
            found += (part if part in here else min((k for k in here if k.lower() == part), default=part),)
        return found

    def error(self, wrong: Wrong, source: str = "") -> ConfigError:
        """One line; without ``source``, that of the value itself or of a neighbour in the same table."""
        if not source:
            tables = (wrong.path, wrong.path[:-1])
            source = next(self.sources[p] for table in tables for p in self.sources if p[: len(table)] == table)
        problem = f"{wrong}{self._hint(wrong, source)}" if isinstance(wrong, Unknown) else str(wrong)
        line = ": ".join(filter(None, (source, dotted(wrong.path), problem)))
        return ConfigError("".join(char if char.isprintable() else ascii(char)[1:-1] for char in line))

    def _hint(self, unknown: Unknown, source: str) -> str:
        """The closest key: over the whole path, as for AGENTHUB_CACHING_POLICY, or else in the same table."""
        *table, name = unknown.path
        everywhere = {dotted(path): path for path, _, _ in self.root.leaves()}
        near = [everywhere[key] for key in get_close_matches(dotted(unknown.path), everywhere, 1, 0.85)]
        near = near or [(*table, sibling) for sibling in get_close_matches(name, unknown.siblings, 1)]
        if not near:
            return f": use {', '.join(unknown.siblings)}"
        variable = re.match(rf"(\.env|environment): {PREFIX}", source, re.IGNORECASE)
        return f": did you mean {PREFIX + '__'.join(near[0]).upper() if variable else dotted(near[0])}?"


def add_sources(
    layers: Layers,
    path: FilePath | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    directory: FilePath,
) -> None:
    """Read every layer in order into ``layers``; raises ConfigError."""
    dotenv = read_dotenv(directory)
    shown, is_named = config_name(path, environ, dotenv)
    layers.add(_read_toml(directory / shown, shown, required=is_named), shown)
    _add_variables(layers, dotenv, ".env")
    _add_variables(layers, environ, "environment")
    for key, value in overrides.items():
        if value is not None:
            layers.add(_parse_override(key, value), "command line", text=True)
    # What only that one backend has of settings is beside its URL, which is still Ollama's own variable's.
    backends = [found for found in layers.values if found[0] == "backends"]
    if all(found[1] == _OLLAMA_URL[1] for found in backends) and _OLLAMA_URL not in backends:
        _add_ollama(layers, {".env": dotenv, "environment": environ})


def config_name(
    path: FilePath | None, environ: Mapping[str, str], dotenv: Mapping[str, str | None]
) -> tuple[str, bool]:
    """Return the TOML file's name as it is shown, and whether anybody named it: then it must be there."""
    named = path or environ.get(CONFIG) or dotenv.get(CONFIG)
    return str(named or DEFAULT_CONFIG), bool(named)


def _read_text(path: FilePath, shown: str, *, required: bool) -> str:
    """The file's text, empty when it need not be there and is not; a folder counts as absent: some call a venv .env."""
    try:
        return path.read_bytes().decode("utf-8-sig")  # editors on Windows put a mark first
    except OSError as exc:
        if not required and isinstance(exc, FileNotFoundError | NotADirectoryError | IsADirectoryError):
            return ""
        raise ConfigError(f"{shown}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError:
        raise ConfigError(f"{shown}: cannot be read: the file is not UTF-8 text") from None


def _read_toml(path: FilePath, shown: str, *, required: bool) -> dict[str, object]:
    text = _read_text(path, shown, required=required)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        # The parser's words hold a character or a key at most; the cause is cut off, for it can carry the whole text.
        raise ConfigError(f"{shown}: not valid TOML: {exc}") from None


def read_dotenv(directory: FilePath) -> dict[str, str | None]:
    """The variables of ``.env`` as written: ``${NAME}`` stays, since filling it in would read ``os.environ``.

    ``dotenv_values`` only logs a line that it cannot parse; here one that is about us stops the start.
    """
    values: dict[str, str | None] = {}
    for line in parse_stream(io.StringIO(_read_text(directory / ".env", ".env", required=False))):
        ours = re.match(rf"(\s*)(export\s+)?({PREFIX}|OLLAMA_)", line.original.string, re.IGNORECASE)
        if line.error and ours:
            number = line.original.line + ours[1].count("\n")  # the parser counts blank lines to what follows
            raise ConfigError(f".env: line {number} cannot be read: use NAME=value, quotes closed")
        if line.key is not None:
            values[line.key] = line.value
    return values


def _nest(path: Iterable[str], value: object) -> object:
    for part in reversed(tuple(path)):
        value = {part: value}
    return value


def _add_variables(layers: Layers, variables: Mapping[str, str | None], source: str) -> None:
    """Put the variables on top that are ours; of two spellings, AGENTHUB_* and upper case win."""
    for name in sorted(variables, key=lambda name: (name.upper().startswith(PREFIX), name.isupper(), name)):
        value, upper = variables[name], name.upper()
        if upper in PLAIN_NAMES and value:  # empty is unset, as with all of Ollama's own variables
            path = PLAIN_NAMES[upper]
        elif upper.startswith(PREFIX) and upper != CONFIG:
            path = layers.respell(tuple(name[len(PREFIX) :].lower().split("__")))
        else:
            continue
        layers.add(_nest(path, value), f"{source}: {name}", text=True)


def _parse_override(key: str, value: object) -> object:
    """A key path as TOML writes it, so names with dots or colons can be quoted: ``models."llama3:8b".target``."""
    try:
        tree = tomllib.loads(f"{key} = 0") if key.isprintable() else {}
    except ValueError:
        tree = {}
    path: list[str] = []
    node: object = tree
    while isinstance(node, dict) and len(node) == 1:
        [(part, node)] = node.items()
        path.append(part)
    if node != 0:
        # The key is not shown: it may be a whole "headers.Authorization: Bearer ..." line.
        raise ConfigError('command line: a key is not a key path: use one as TOML writes it, as models."a:8b".target')
    return _nest(path, value)


def _add_ollama(layers: Layers, variables: Mapping[str, Mapping[str, str | None]]) -> None:
    """The one backend of a hub that has none configured: the server that Ollama's own client would ask."""
    url, source = parse_ollama_host(""), ""
    for name, layer in variables.items():
        if host := (layer.get(OLLAMA_HOST) or "").strip():
            url, source = parse_ollama_host(host), f"{name}: {OLLAMA_HOST}"
    layers.add(_nest(_OLLAMA_URL, url), source)
    if not source:
        del layers.sources[_OLLAMA_URL]


def parse_ollama_host(text: str) -> str:
    """The server's URL as a client reaches it, from Ollama's ``[scheme://]host[:port][/path]``; it always has a port.

    The rules are those of ``Host()`` in Ollama's ``envconfig/config.go``, but that a wrong port stays for the check of
    the URL to refuse, and that an address meaning "every interface", which a server listens on, becomes this machine's.
    """
    text = text.strip().strip("\"'").strip()
    scheme, cut, rest = text.partition("://")
    if not cut:
        scheme, rest = ("https", "ollama.com:443") if text == "ollama.com" else ("http", text)
    hostport, _, trail = rest.partition("/")
    host, port = _split_port(hostport)
    port = port or ({"http": "80", "https": "443"}.get(scheme, "11434") if cut else "11434")
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/{trail}".rstrip("/")


def _split_port(hostport: str) -> tuple[str, str]:
    if hostport.startswith("["):
        host, _, tail = hostport[1:].partition("]")
        return host, tail.removeprefix(":")
    if hostport.count(":") > 1:
        return hostport, ""
    host, _, port = hostport.partition(":")
    return host, port


def read_toml(path: FilePath, shown: str) -> dict[str, object]:
    """The tables of a file that must be there, and is called ``shown``; raises ConfigError."""
    return _read_toml(path, shown, required=True)
