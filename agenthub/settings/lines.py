"""On which line a setting stands, which neither of the parsers tells; for people who look for it."""

from __future__ import annotations

import io
import tomllib
from collections.abc import Iterator

from dotenv.parser import parse_stream

from agenthub.settings.kinds import Path


def toml_lines(text: str) -> dict[Path, int]:
    """Return the line, from 1, on which each table and each key of a TOML file begins; nothing of one that is broken.

    A line is joined with the next ones until what they hold is TOML by itself, so that a list or a text may go over
    several.
    """
    found: dict[Path, int] = {}
    table: Path = ()
    statement, began = "", 1
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        statement += line
        try:
            tree = tomllib.loads(statement)
        except (ValueError, RecursionError):
            continue
        is_table = statement.lstrip().startswith("[")
        inner = list(_paths(tree, ()))
        if is_table and inner:
            table, inner = inner[-1], [()]
        for path in inner:
            found.setdefault(table + path, began)
        statement, began = "", number + 1
    return found if not statement.strip() else {}


def _paths(tree: object, path: Path) -> Iterator[Path]:
    if isinstance(tree, dict):
        for name, inner in tree.items():
            yield (*path, name)
            yield from _paths(inner, (*path, name))
    elif isinstance(tree, list) and tree and isinstance(tree[-1], dict):
        yield from _paths(tree[-1], path)


def dotenv_lines(text: str) -> dict[str, int]:
    """Return the line, from 1, on which each variable of a ``.env`` stands, the last one where it is there twice."""
    found: dict[str, int] = {}
    for binding in parse_stream(io.StringIO(text)):
        original = binding.original
        if binding.key is not None:
            # The parser counts blank lines to what follows.
            blank = len(original.string) - len(original.string.lstrip())
            found[binding.key] = original.line + original.string[:blank].count("\n")
    return found
