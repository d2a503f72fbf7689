"""Serves the hubs, marks what is excluded and counts what passed. The clients' packages are not imported here."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest

from tests.clients.excluded import EXCLUDED
from tests.clients.serving import Serving, served
from tests.conftest import lane  # noqa: F401

OUTCOMES = {"passed": "passed", "skipped": "skipped", "xfailed": "excluded", "failed": "failed", "error": "failed"}

_LANE = re.compile(r"(\w+-client-)?\w+-adapter")


@pytest.fixture(scope="session", autouse=True)
def serving() -> Iterator[Serving]:
    with served() as current:
        yield current


@pytest.fixture(autouse=True)
def _without_crash(serving: Serving) -> Iterator[None]:
    """Let a test fail in which the hub logged an error, even if the client did not mind."""
    before = len(serving.crashes())
    yield
    assert serving.crashes()[before:] == []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is excluded; an entry that excludes nothing, or something that passes, is an error."""
    names = {_name(item.nodeid): item for item in items}
    files = {name.partition("::")[0] for name in names}
    whole = all("[" not in argument and "::" not in argument for argument in _arguments(items))
    for name, reason in EXCLUDED.items():
        if name in names:
            names[name].add_marker(pytest.mark.xfail(reason=reason, strict=True))
        elif whole and name.partition("::")[0] in files:
            raise pytest.UsageError(f"excluded.py names {name}, which is not collected")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts of each suite, and each excluded or skipped case with its reason."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for key, outcome in OUTCOMES.items():
        for report in terminalreporter.getreports(key):
            name = _name(report.nodeid)
            counts[_suite(name)][outcome] += 1
            if outcome in ("skipped", "excluded"):
                reasons[outcome][f"{_suite(name)}: {_reason(report)}"] += 1
    terminalreporter.section("other people's clients")
    columns = ("passed", "skipped", "excluded", "failed")
    width = max(map(len, counts), default=0)
    terminalreporter.write_line(f"{'suite':{width}}" + "".join(f"{column:>10}" for column in columns))
    for suite, count in sorted(counts.items()):
        terminalreporter.write_line(f"{suite:{width}}" + "".join(f"{count[column]:>10}" for column in columns))
    for outcome, found in reasons.items():
        for reason, times in sorted(found.items()):
            terminalreporter.write_line(f"{outcome} {times} x {reason}")


def _arguments(items: list[pytest.Item]) -> list[str]:
    return items[0].config.args if items else []


def _name(nodeid: str) -> str:
    """Return the node id from its file's name on."""
    path, colons, rest = nodeid.partition("::")
    return path.rpartition("/")[2].removesuffix(".py") + colons + rest


def _suite(name: str) -> str:
    """Return the class that a test is in, or its file and its lane."""
    parts = name.split("::")
    through = _LANE.search(parts[-1])
    return parts[1] if len(parts) > 2 else f"{parts[0]} {through[0] if through else ''}".rstrip()


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return str(getattr(report, "wasxfail", ""))
