"""Finds modules and functions that have grown too long. Run by `tox -e lint`; test_structure.py uses it too."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE_LINES = 300
FUNCTION_LINES = 45


def modules() -> list[Path]:
    """Every module of the three distributions and of the benchmark; not `build/`, which a wheel may have left."""
    found = (path for folder in ("agenthub", "plugins", "bench") for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if "build" not in path.relative_to(ROOT).parts)


def too_long(module: Path) -> Iterator[str]:
    """One line for the module and for each function in it over the limit; a function counts from `def` to its end."""
    source = module.read_bytes()
    name = module.relative_to(ROOT) if module.is_relative_to(ROOT) else module
    if (lines := len(source.splitlines())) > MODULE_LINES:
        yield f"{name}: {lines} lines, the limit is {MODULE_LINES}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {lines} lines, the limit is {FUNCTION_LINES}"


def main() -> None:
    """Print what is too long; end with code 1 if anything is."""
    checked = modules()
    found = [line for module in checked for line in too_long(module)]
    print(*found, f"length check: {len(checked)} modules, {len(found)} too long", sep="\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
