"""Log buffer: finished lines wait in memory for a thread that writes them, so that no reader holds up the hub."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import stat
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from queue import Empty, SimpleQueue

import attrs

_PIPE_BYTES = select.PIPE_BUF
_COUNT_EVERY_S = 1.0
_STUCK_S, _FLUSH_S = 1.0, 5.0


@attrs.define(eq=False)
class LineBuffer:
    """Takes lines without ever waiting or failing, and writes them to the file descriptor ``fd`` in their order.

    The lines of one turn of the event loop are handed to the thread together: under load one system call serves many
    requests. While ``limit_bytes`` wait (0: no limit) those of further turns are dropped, as are all that cannot be
    written. ``render_count`` makes the line with their number, which goes out as soon as lines flow again.
    """

    fd: int
    render_count: Callable[[int], bytes]
    limit_bytes: int = 0
    _turn: deque[bytes] = attrs.field(factory=deque)
    _queue: SimpleQueue[list[bytes] | threading.Event] = attrs.field(factory=SimpleQueue)
    # Reentrant: the garbage collector may call a finalizer that logs at any time.
    _lock: threading.RLock = attrs.field(factory=threading.RLock)
    _thread: threading.Thread | None = None
    _waiting_bytes: int = 0
    _dropped: int = 0
    _counted_at: float = 0.0
    _is_closed: bool = False
    _writer: _Writer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._writer = _Writer(self.fd)
        _BUFFERS.add(self)

    def write(self, line: bytes) -> None:
        """Take a line, which goes on when this turn of the loop is over, or at once where there is no loop."""
        self._turn.append(line)
        if len(self._turn) == 1:
            try:
                asyncio.get_running_loop().call_soon(self.hand_over)
            except RuntimeError:
                self.hand_over()

    def hand_over(self) -> None:
        """Give the thread what there is, or drop it where as much as may wait does so already."""
        turn, batch = self._turn, []
        with self._lock:
            while turn:
                batch.append(turn.popleft())
            # Not line by line: those of one turn are here anyway, and a thread that can write gets none in between.
            if self.limit_bytes and self._waiting_bytes >= self.limit_bytes:
                self._dropped += len(batch)
                return
            self._waiting_bytes += sum(map(len, batch))
            if batch:
                self._queue.put(batch)
                if self._thread is None and not self._start():
                    self._write_what_fits()

    def flush(self, stuck_s: float = _STUCK_S, limit_s: float = _FLUSH_S) -> None:
        """Return when all lines are written, when none was for ``stuck_s``, or after ``limit_s``."""
        self.hand_over()
        if self._thread is None:
            return
        done, until, pieces = threading.Event(), time.monotonic() + limit_s, self._writer.pieces
        self._queue.put(done)
        while not done.wait(stuck_s) and self._writer.pieces != pieces and time.monotonic() < until:
            pieces = self._writer.pieces

    def close(self) -> None:
        """Flush; lines that come later, while the interpreter ends, are written at once or not at all."""
        self.flush()
        with self._lock:
            self._thread, self._is_closed = None, True

    def _start(self) -> bool:
        if self._is_closed:
            return False
        self._thread = threading.Thread(target=self._run, name="agenthub-log", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the system allows no more threads
            self._thread = None
        return self._thread is not None

    def _run(self) -> None:
        # Signals are for the main thread.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            item = self._queue.get()
            if isinstance(item, threading.Event):
                self._tell_dropped()  # it may be the end: nothing else will
                item.set()
            else:
                self._write(item)

    def _write_what_fits(self) -> None:
        with suppress(Empty):
            while True:
                item = self._queue.get_nowait()
                for line in item if isinstance(item, list) else ():
                    if self._writer.is_ready(len(line)):
                        self._write([line])
                    else:
                        self._waiting_bytes -= len(line)
                        self._dropped += 1

    def _write(self, batch: list[bytes]) -> None:
        lost = self._writer.write(batch)
        with self._lock:
            self._waiting_bytes -= sum(map(len, batch))
            self._dropped += lost
        if not lost and (self._queue.empty() or time.monotonic() - self._counted_at >= _COUNT_EVERY_S):
            self._tell_dropped()

    def _tell_dropped(self) -> None:
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            self._counted_at = time.monotonic()
            if self._writer.write([self.render_count(dropped)]):
                with self._lock:
                    self._dropped += dropped

    def _start_over(self) -> None:
        """Leave to the parent process what was its own: the thread, the lines, and whatever holds the lock."""
        self._turn.clear()
        self._queue, self._lock, self._thread = SimpleQueue(), threading.RLock(), None
        self._waiting_bytes = self._dropped = 0


@attrs.define
class _Writer:
    """Writes lines to a file descriptor, and knows what became of them.

    What goes into a pipe at once is never more than it takes in one piece, so that the lines of several processes do
    not run into each other.
    """

    fd: int
    pieces: int = 0
    """How many were written so far, for who wants to see that there is progress."""
    _is_torn: bool = False
    _is_pipe: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        try:
            self._is_pipe = stat.S_ISFIFO(os.fstat(self.fd).st_mode)
        except OSError:
            self._is_pipe = False

    def write(self, lines: Sequence[bytes]) -> int:
        """Wait until all are written; return the number of those that could not be."""
        return sum(map(self._write_piece, _pieces(lines) if self._is_pipe else (lines,)))

    def is_ready(self, size: int) -> bool:
        """Say whether as many bytes could be written without a wait."""
        return not (self._is_pipe and size > _PIPE_BYTES) and bool(_poll(self.fd).poll(0))

    def _write_piece(self, lines: Sequence[bytes]) -> int:
        data = b"".join(lines)
        # Behind half a line that a full disk left, the next one would be as unreadable.
        lead = b"\n" if self._is_torn else b""
        written = self._write_all(lead + data) - len(lead)
        self.pieces += 1
        if written == len(data):
            self._is_torn = False
            return 0
        ends = list(accumulate(map(len, lines)))
        if written > 0:
            self._is_torn = written not in ends
        return sum(end > written for end in ends)

    def _write_all(self, data: bytes) -> int:
        written, rest = 0, memoryview(data)
        while written < len(data):
            try:
                written += os.write(self.fd, rest[written:])
            except BlockingIOError:  # set by another process that shares the terminal or the pipe
                _poll(self.fd).poll()
            except OSError:
                break
        return written


def _poll(fd: int) -> select.poll:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return poll


def _pieces(lines: Sequence[bytes]) -> Iterator[list[bytes]]:
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > _PIPE_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield piece


_BUFFERS: weakref.WeakSet[LineBuffer] = weakref.WeakSet()


def flush_all() -> None:
    """Flush every buffer of the process."""
    for buffer in list(_BUFFERS):
        buffer.flush()


def _start_over() -> None:
    for buffer in list(_BUFFERS):
        buffer._start_over()


os.register_at_fork(after_in_child=_start_over)
