"""The kinds of value that a setting can have.

A kind is the attrs validator of its field and the only place that knows what the field allows: the loader, the error
text and ``describe()`` all ask it. Each kind reads one raw value (from TOML, or as text from the environment) and
refuses a wrong one with :class:`Wrong`, whose text is safe to print: it never holds the value of a secret.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

import attrs
from yarl import URL

from agenthub.errors import ConfigError

Path = tuple[str, ...]


class Wrong(Exception):
    """The value at ``path`` cannot be used; ``str()`` says what is wrong and what is allowed, without any secret."""

    def __init__(self, problem: str, path: Path = ()) -> None:
        super().__init__(problem)
        self.path = path


def show(value: object) -> str:
    """A short text for a wrong value; tables and lists are only named, since what they hold could be a secret."""
    match value:
        case None:
            return "nothing"
        case bool() | str():
            return json.dumps(value if len(str(value)) <= 60 else f"{str(value)[:60]}...", ensure_ascii=False)
        case int() if value.bit_length() > 64:
            return "so large a number"
        case int() | float():
            return str(value)
        case list() | tuple():
            return "a list"
        case Mapping():
            return "a table"
    return f"a {type(value).__name__}"


def either(choices: tuple[str, ...]) -> str:
    """``"a", "b" or "c"``."""
    quoted = [json.dumps(choice, ensure_ascii=False) for choice in choices]
    return " or ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))


@attrs.frozen
class Kind:
    """One field's rule; ``help`` is one line for people, ``allowed`` completes the sentence "use ..."."""

    help: str

    @property
    def allowed(self) -> str:
        raise NotImplementedError

    def parse(self, text: str) -> object:
        """What ``text`` means for this kind, or ``text`` itself when it means nothing, for :meth:`check` to refuse."""
        return text

    def check(self, value: object) -> object:
        """``value`` as the settings keep it; raises :class:`Wrong`."""
        raise NotImplementedError

    def show(self, value: object) -> str:
        return show(value)

    def refuse(self, value: object, path: Path = ()) -> Wrong:
        return Wrong(f"{self.show(value)} is not allowed: use {self.allowed}", path)

    def read(self, path: Path, value: object, *, text: bool) -> Iterator[tuple[Path, object]]:
        """Each leaf under ``path`` with its checked value; ``text``: strings are parsed. Raises :class:`Wrong`."""
        try:
            checked = self.check(self.parse(value) if text and isinstance(value, str) else value)
        except Wrong as wrong:
            raise Wrong(str(wrong), (*path, *wrong.path)) from None
        yield path, checked

    def build(self, values: Mapping[Path, object], path: Path) -> object:
        """The field's value out of the leaves; ``attrs.NOTHING`` asks for the default. Raises :class:`Wrong`."""
        return values.get(path, attrs.NOTHING)

    def __call__(self, instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """The attrs validator, so that settings made by hand obey the same rules."""
        try:
            self.check(value)
        except Wrong as wrong:
            raise ConfigError(f"{'.'.join((attribute.name, *wrong.path))}: {wrong}") from None


@attrs.frozen
class Text(Kind):
    """A string: one of ``choices`` if there are any, and not empty if ``filled``."""

    choices: tuple[str, ...] = ()
    filled: bool = False

    @property
    def allowed(self) -> str:
        return either(self.choices) if self.choices else f"a text{' that is not empty' if self.filled else ''}"

    def check(self, value: object) -> str:
        if not isinstance(value, str) or (self.choices and value not in self.choices) or (self.filled and not value):
            raise self.refuse(value)
        return value


@attrs.frozen
class Flag(Kind):
    """A boolean; as text also 1/0, yes/no, on/off in any case."""

    words: ClassVar[Mapping[str, bool]] = {
        "true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False,
    }  # fmt: skip

    @property
    def allowed(self) -> str:
        return "true or false"

    def parse(self, text: str) -> object:
        return self.words.get(text.strip().lower(), text)

    def check(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise self.refuse(value)
        return value


@attrs.frozen
class Whole(Kind):
    """An int from ``low`` to ``high``; ``unit`` is a word for the error text."""

    low: int = 0
    high: int | None = None
    unit: str = ""

    @property
    def allowed(self) -> str:
        span = f"{self.low} or more" if self.high is None else f"{self.low} to {self.high}"
        return f"a whole number{self.unit and ' of ' + self.unit}, {span}"

    def parse(self, text: str) -> object:
        try:
            return int(text)
        except ValueError:
            return text

    def check(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < self.low:
            raise self.refuse(value)
        if self.high is not None and value > self.high:
            raise self.refuse(value)
        return value


@attrs.frozen
class Seconds(Kind):
    """A duration: a finite float from 0 on; an int will do."""

    @property
    def allowed(self) -> str:
        return "a number of seconds, 0 or more"

    def parse(self, text: str) -> object:
        try:
            return float(text)
        except ValueError:
            return text

    def check(self, value: object) -> float:
        # The upper bound refuses inf, and ints too large for a float; nan fails every comparison.
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
            raise self.refuse(value)
        return float(value)


@attrs.frozen
class Texts(Kind):
    """Distinct strings, none empty; as text divided by commas."""

    @property
    def allowed(self) -> str:
        return "a list of texts, none empty and none twice"

    def parse(self, text: str) -> object:
        return [piece.strip() for piece in text.split(",") if piece.strip()]

    def check(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise self.refuse(value)
        for index, entry in enumerate(value):
            if not isinstance(entry, str) or not entry or entry in value[:index]:
                raise self.refuse(entry)
        return tuple(value)


@attrs.frozen
class Url(Kind):
    """The root of an HTTP server. What could hide a password or a token is refused without being shown."""

    @property
    def allowed(self) -> str:
        return "an http:// or https:// URL with a host and no credentials, query or fragment"

    def show(self, value: object) -> str:
        return "the URL" if isinstance(value, str) and set(value) & set("@?#") else show(value)

    def check(self, value: object) -> str:
        if not isinstance(value, str):
            raise self.refuse(value)
        if "@" in value:
            raise Wrong("credentials in the URL are not taken: use api_key or headers")
        if not _is_server_root(value):
            raise self.refuse(value)
        return value


def _is_server_root(url: str) -> bool:
    if set(url) & set("?#\\") or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        URL(url)  # which knows what may be in the name of a host
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port >= 0)
    except ValueError:
        return False


def without_slash(url: str) -> str:
    """The converter of a :class:`Url` field."""
    return url.rstrip("/")
