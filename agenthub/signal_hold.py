"""Signal hold: SIGHUP waits until the hub can serve it, and a stop during the start is a stop and no crash.

Imported before anything else of the package, since the other imports take most of the start: until they are done a
signal would do what it does by default, which is to kill the process. Imports next to nothing itself.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

_HELD = (signal.SIGHUP,)
_STOPPING = (signal.SIGINT, signal.SIGTERM)
_is_in_force = False


def is_program(argv: list[str], orig_argv: list[str]) -> bool:
    """Return whether this process is ``agenthub`` or ``python -m agenthub``, and not one that imports it."""
    if argv[:1] == ["-m"]:  # what Python puts there while it looks for the module
        return orig_argv[-len(argv) :][:1] in (["agenthub"], ["-magenthub"])
    return os.path.basename(argv[0] if argv else "") == "agenthub"


def hold() -> None:
    """Keep SIGHUP back until ``lifted``, and let SIGINT and SIGTERM end the process at once, with 0, as they do later.

    Of several SIGHUPs that are kept back one is left.
    """
    global _is_in_force
    _is_in_force = True
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    for number in _STOPPING:
        signal.signal(number, _end)


@contextmanager
def lifted() -> Iterator[None]:
    """Let SIGHUP come in for the length of the block, in which all three have handlers; ``settle`` without them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
    try:
        yield
    finally:
        if _is_in_force:  # until then, for what a signal does by default is to kill
            signal.pthread_sigmask(signal.SIG_BLOCK, (*_HELD, *_STOPPING))


def settle() -> None:
    """Let none of the three change any more how the process ends, where ``hold`` was what it began with."""
    if _is_in_force:
        ignore((*_HELD, *_STOPPING))


def ignore(numbers: Iterable[int]) -> None:
    """Ignore signals to the end of the process, in all of its threads, which a mask would be for one only."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, frame: FrameType | None) -> None:
    # An exception could be lost in a finalizer, or be taken by an import for its failure.
    if flush := getattr(sys.modules.get("agenthub.log_buffer"), "flush_all", None):
        flush()
    os._exit(0)


def _fill_standard_files() -> None:
    """Open /dev/null for each of stdin, stdout and stderr that is closed: else a socket of ours would get its number.

    libuv aborts the process when it closes such a socket.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


if is_program(getattr(sys, "argv", []), sys.orig_argv):
    if sys.argv[1:2] == ["serve"]:
        hold()
    _fill_standard_files()
