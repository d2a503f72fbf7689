"""Which models a list of patterns means."""

from __future__ import annotations

from fnmatch import fnmatchcase

EVERY = ("*",)


def fits(model: str, patterns: tuple[str, ...]) -> bool:
    """Say whether a pattern, as in a shell, means the model: in any case, with and without ``:latest``."""
    if patterns == EVERY:
        return True
    name = model.lower()
    bare = name.removesuffix(":latest")
    spellings = (name, bare, f"{bare}:latest")
    return any(fnmatchcase(spelling, pattern.lower()) for pattern in patterns for spelling in spellings)
