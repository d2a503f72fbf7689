"""Serves the hubs, marks what is excluded and counts what passed. The clients' packages are not imported here."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest

from tests.clients.excluded import COLLECTED, EXCLUDED
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
    """Mark what is excluded; an excluded case that passes is a failure."""
    for item in items:
        name = _name(item.nodeid)
        item.config.stash.setdefault(COLLECTED, set()).add(name)
        if name in EXCLUDED:
            item.add_marker(pytest.mark.xfail(reason=EXCLUDED[name], strict=True))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts of each suite, each excluded case and each reason to skip."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for key, outcome in OUTCOMES.items():
        for report in terminalreporter.getreports(key):
            name = _name(report.nodeid)
            counts[_suite(name)][outcome] += 1
            if outcome in ("skipped", "excluded"):
                where = f"{name}: " if outcome == "excluded" else ""
                reasons[outcome][where + _reason(report)] += 1
    terminalreporter.section("other people's clients")
    columns = ("passed", "skipped", "excluded", "failed")
    width = max(map(len, counts), default=0)
    terminalreporter.write_line(f"{'suite':{width}}" + "".join(f"{column:>10}" for column in columns))
    for suite, count in sorted(counts.items()):
        terminalreporter.write_line(f"{suite:{width}}" + "".join(f"{count[column]:>10}" for column in columns))
    for outcome, found in reasons.items():
        for reason, times in sorted(found.items()):
            terminalreporter.write_line(f"{outcome} {times} x {reason}")


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
