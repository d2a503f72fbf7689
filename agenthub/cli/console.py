"""What the commands print with: colour and tables on a terminal, plain aligned lines elsewhere."""

from __future__ import annotations

import io
import sys
from collections.abc import Collection

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agenthub.cli.findings import Finding, Level
from agenthub.cli.output import OutputClosed, close_output
from agenthub.log import configure_logging
from agenthub.settings import LogSettings

# In a pipe nothing is wrapped: what reads it counts lines.
_PIPE_WIDTH = 10_000

MARKS = {
    Level.OK: ("ok  ", "green"),
    Level.INFO: ("note", "cyan"),
    Level.WARNING: ("warn", "yellow"),
    Level.ERROR: ("FAIL", "bold red"),
}


class CommandConsole(Console):
    """rich's console, which ends by an ordinary exception where its pipe is closed.

    rich raises SystemExit, which an event loop lets through at once, past the open generators and connections of the
    command; Python then complains of each.
    """

    def on_broken_pipe(self) -> None:
        self.quiet = True
        close_output()
        raise OutputClosed


def make_console() -> Console:
    """Return a console on stdout that prints every text as it is given; raises OutputClosed once nobody reads it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a model may say what an old terminal cannot show
    console = CommandConsole(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


def make_table(console: Console, *columns: str, unbroken: Collection[str] = ()) -> Table:
    """Return an empty table with these headings; cells in the ``unbroken`` columns stay on one line."""
    lined = console.is_terminal
    table = Table(box=box.SIMPLE_HEAD if lined else None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in unbroken)
    return table


def print_finding(console: Console, finding: Finding) -> None:
    """Print one finding with its mark, and under it what to do."""
    mark, style = MARKS[finding.level]
    _print_indented(console, Text(f"{mark}  ", style), finding.text)
    for remedy in finding.remedies:
        _print_indented(console, Text("  ->  ", "cyan"), remedy)


def print_detail(console: Console, text: str) -> None:
    """Print a line that is no finding, below those that are."""
    _print_indented(console, Text(" " * 6), text)


def tame(words: str) -> str:
    """Return what a server said without anything that a terminal would obey."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in words)


def _print_indented(console: Console, lead: Text, words: str) -> None:
    text = Text(tame(words))
    width = max(20, console.width - len(lead))
    for number, line in enumerate(text.wrap(console, width)):
        console.print(Text.assemble(lead if number == 0 else " " * len(lead), line), soft_wrap=True)


def mute_logging() -> None:
    """Send log lines nowhere, for commands that print everything themselves."""
    configure_logging(LogSettings(level="error"), io.StringIO())
