"""What doctor found as a whole: its exit status, and how it is shown to people and to scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import attrs
from rich.console import Console
from rich.text import Text

from agenthub import __version__
from agenthub.canonical import JSON
from agenthub.cli.console import print_detail, print_finding
from agenthub.cli.doctor.origins import Row
from agenthub.cli.findings import Finding, Level
from agenthub.settings import Settings
from agenthub.settings.redis_url import DEFAULT_URL, parse_redis_url
from agenthub.upstream.hiding import Hiding

EXIT_STATUS = {Level.OK: 0, Level.WARNING: 3, Level.ERROR: 1}
"""By the worst level, where a note is as good as none. 2 is taken: wrong usage."""


@attrs.define
class Report:
    """The findings so far, each with its group, and the rows of settings to show; None where they do not load."""

    rows: Sequence[Row] | None
    findings: list[tuple[str, Finding]] = attrs.field(factory=list)

    def add(self, group: str, finding: Finding) -> None:
        """Take up one more."""
        self.findings.append((group, finding))

    @property
    def worst(self) -> Level:
        """The level that decides: ``ok`` where nothing is worth more than a note."""
        levels = {finding.level for _, finding in self.findings}
        return next((level for level in (Level.ERROR, Level.WARNING) if level in levels), Level.OK)

    @property
    def verdict(self) -> str:
        """One line that sums it up."""
        errors, warnings = (self._count(level) for level in (Level.ERROR, Level.WARNING))
        found = [f"{errors} that keep{'s' * (errors == 1)} requests from working"] if errors else []
        found += [f"{warnings} warning{'s' * (warnings != 1)}"] if warnings else []
        return f"Found: {' and '.join(found)}." if found else "All is well."

    def as_json(self) -> str:
        """Return the whole as one JSON object; docs/doctor.md describes it."""
        return json.dumps(
            {
                "version": __version__,
                "status": self.worst.value,
                "findings": [_render(group, finding) for group, finding in self.findings],
                "settings": None if self.rows is None else [row.as_json() for row in self.rows],
            },
            indent=2,
        )

    def _count(self, level: Level) -> int:
        return sum(finding.level is level for _, finding in self.findings)


def _render(group: str, finding: Finding) -> JSON:
    return {
        "id": finding.id,
        "group": group,
        "subject": finding.subject,
        "level": finding.level.value,
        "text": finding.text,
        "remedies": list(finding.remedies),
    }


@attrs.define
class Printer:
    """Shows findings as they come, group by group; ``rows`` follow those about the settings."""

    console: Console
    rows: Sequence[Row]
    _group: str = ""

    def show(self, group: str, finding: Finding) -> None:
        """Print one finding, below its group's name."""
        if group != self._group:
            self._end_group()
            self.console.print(Text(group.capitalize(), "bold"))
            self._group = group
        print_finding(self.console, finding)

    def end(self, verdict: str) -> None:
        """Print what it all comes to."""
        self._end_group()
        self.console.print(Text(verdict, "bold"), soft_wrap=True)

    def _end_group(self) -> None:
        if self._group == "settings":
            # Those that hide something were findings.
            for row in self.rows:
                if not row.hidden:
                    print_detail(self.console, str(row))
        if self._group:
            self.console.print()


@attrs.frozen
class Cleaner:
    """Takes secrets out of texts that somebody else wrote: a server may repeat the key that it refuses."""

    hidings: Sequence[Hiding] = attrs.field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Cleaner:
        """Return what hides all that the settings keep secret."""
        hidings = [Hiding.of(backend) for backend in settings.backends.values()]
        return cls((*hidings, Hiding(tuple(_redis_secrets(settings)))))

    def clean(self, finding: Finding) -> Finding:
        """Return the finding with stars in the place of each secret."""
        remedies = [self._text(remedy) for remedy in finding.remedies]
        return attrs.evolve(finding, text=self._text(finding.text), remedies=remedies)

    def _text(self, text: str) -> str:
        for hiding in self.hidings:
            text = hiding.hide_text(text)
        return text


def _redis_secrets(settings: Settings) -> Iterator[bytes]:
    url = settings.caching.url.reveal()
    password = parse_redis_url(url or DEFAULT_URL).options.get("password", "")
    yield from (text.encode("utf-8", "surrogatepass") for text in (url, password) if text)
