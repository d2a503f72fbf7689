"""What the commands that look at a set-up find, each thing in one shape."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import attrs


class Level(enum.StrEnum):
    """How bad it is: ``info`` is good to know, a ``warning`` may bite, an ``error`` keeps requests from working."""

    OK = enum.auto()
    INFO = enum.auto()
    WARNING = enum.auto()
    ERROR = enum.auto()


@attrs.frozen
class Finding:
    """One thing that was looked at: its name for scripts, how it is, what was seen, and what to do, likeliest first.

    ``subject`` is the backend, the alias, the plugin or the setting that it is about, where there may be several.
    """

    id: str
    level: Level
    text: str
    remedies: Sequence[str] = ()
    subject: str = ""
