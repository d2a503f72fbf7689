"""The table and the JSON."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any, Final

from bench.cases import CONNECTIONS, Case, Result

START_AIM_S: Final = 1.5
MEMORY_AIM_MB: Final = 90.0


def make_report(
    loop: str, results: Sequence[Result], starts_s: Sequence[float], memory: dict[str, Any]
) -> dict[str, Any]:
    """Return all figures; ``memory`` is in units of 2**20 bytes."""
    middle = sorted(starts_s)[len(starts_s) // 2]
    return {
        "python": platform.python_version(),
        "loop": loop,
        "cases": {result.case.name: result.figures() for result in results},
        "start_s": {"median": round(middle, 3), "all": [round(value, 3) for value in starts_s], "aim": START_AIM_S},
        "memory_mb": {**memory, "aim": MEMORY_AIM_MB},
    }


def render(report: dict[str, Any], results: Sequence[Result]) -> str:
    """Return the table that people read."""
    lines = [f"Python {report['python']}, both sides on {report['loop']}, {CONNECTIONS} connections, medians", ""]
    lines.append(f"{'':38}{'hub/s':>9}{'bare/s':>9}{'CPU us each':>15}{'ratio':>7}{'range':>13}{'aim':>7}   against")
    lines += [_row(result.case, report["cases"][result.case.name]) for result in results]
    start, memory = report["start_s"], report["memory_mb"]
    lines.append(f"{'start until /health answers':38}{start['median']:7.2f} s{start['aim']:>50.1f} s")
    for name, title in (("start", "memory after the start"), ("load", "memory after the load")):
        shown = "unknown" if memory[name] is None else f"{memory[name]:.1f} MiB"
        lines.append(f"{title:38}{shown:>9}{memory['aim']:>50.0f} MiB")
    return "\n".join(lines)


def _row(case: Case, figures: dict[str, Any]) -> str:
    rates = f"{figures['hub_per_s']:9,.0f}{figures['bare_per_s']:9,.0f}"
    cpu = f"{figures['hub_cpu_us']:8,.0f} :{figures['bare_cpu_us']:5,.0f}"
    ratio = f"{figures['ratio']:7.2f}{figures['ratio_min']:8.2f}-{figures['ratio_max']:.2f}"
    return f"{case.title:38}{rates}{cpu}{ratio}  {_aim(figures['aim'])}   {case.against}"


def _aim(aim: float | None) -> str:
    return "    -" if aim is None else f"{aim:5.2f}"
