"""``agenthub serve``, which on SIGUSR1 writes how many tasks it runs: ``python -m tests.faults.serving FILE``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from agenthub.cli import main


def tell(number: int, frame: FrameType | None) -> None:
    """Write the count in one step, so that nobody reads half of it."""
    told = Path(sys.argv[1])
    written = told.with_suffix(".new")
    written.write_text(str(len(asyncio.all_tasks())), encoding="utf-8")
    os.replace(written, told)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, tell)
    main(["serve"])
