"""The log's buffer: lines go out in order, wait in bounded memory, are counted where lost, and hold up nobody."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gc
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest

from agenthub.log_buffer import _BUFFERS, LineBuffer

LIMIT_S = 20.0


def count_line(count: int) -> bytes:
    return b"dropped %d\n" % count


@attrs.define
class Pipe:
    """Both ends of a pipe, each closed once: its number may soon be that of something else."""

    reader: int
    writer: int
    _is_reader_open: bool = True

    def close_reader(self) -> None:
        if self._is_reader_open:
            self._is_reader_open = False
            os.close(self.reader)

    def read(self, size: int = 2**16) -> bytes:
        return os.read(self.reader, size)

    def read_until(self, mark: bytes) -> bytes:
        """Return what comes, up to the first line that begins with ``mark``."""
        text = b""
        while not (b"\n" + text).count(b"\n" + mark) or not text.endswith(b"\n"):
            assert select.select([self.reader], [], [], LIMIT_S)[0], f"nothing more comes after {text[-200:]!r}"
            text += self.read()
        return text


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    opened = Pipe(*os.pipe())
    yield opened
    # The reader first: a thread that still writes then gets an error, and no number that is another file's.
    opened.close_reader()
    for buffer in list(_BUFFERS):
        if buffer.fd == opened.writer:
            buffer.close()
    os.close(opened.writer)


def dropped(text: bytes) -> int:
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(b"dropped "))


async def test_lines_of_a_turn_go_out_together(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order; into a pipe never more at once than it takes in one piece, and no line in two pieces."""
    pieces: list[bytes] = []
    write = os.write
    monkeypatch.setattr(
        "agenthub.log_buffer.os.write", lambda fd, data: (pieces.append(bytes(data)), write(fd, data))[1]
    )
    buffer = LineBuffer(pipe.writer, count_line)
    lines = [b"%06d %s\n" % (number, b"x" * (number % 500)) for number in range(100)]
    for line in lines:
        buffer.write(line)
    assert not pieces
    buffer.write(b"last\n")
    assert await asyncio.to_thread(pipe.read_until, b"last") == b"".join(lines) + b"last\n"
    assert len(pieces) < 20
    assert all(len(piece) <= select.PIPE_BUF and piece.endswith(b"\n") for piece in pieces)


async def test_a_reader_that_does_not_read(pipe: Pipe) -> None:
    """Nobody waits for it: what fits is kept, the rest is dropped and counted, and the count goes out when it reads
    again, though no line comes after it. The next line is an ordinary one.
    """
    buffer = LineBuffer(pipe.writer, count_line, limit_bytes=10_000)
    lines = [b"%06d %s\n" % (number, b"x" * 92) for number in range(3000)]
    for start in range(0, len(lines), 50):
        for line in lines[start : start + 50]:
            buffer.write(line)
        await asyncio.sleep(0)
        assert buffer._waiting_bytes < 10_000 + 50 * 100
    text = await asyncio.to_thread(pipe.read_until, b"dropped")
    kept = [line for line in text.splitlines(keepends=True) if not line.startswith(b"dropped")]
    while len(kept) + dropped(text) < len(lines):
        text += await asyncio.to_thread(pipe.read)
        kept = [line for line in text.splitlines(keepends=True) if not line.startswith(b"dropped")]
    assert kept == [line for line in lines if line in set(kept)]
    assert len(kept) * 100 >= 10_000
    assert dropped(text) == len(lines) - len(kept) > 0
    buffer.write(b"next\n")
    assert await asyncio.to_thread(pipe.read_until, b"next") == b"next\n"


def test_a_line_longer_than_the_room(pipe: Pipe) -> None:
    """It goes out: the bound is one for what piles up."""
    buffer = LineBuffer(pipe.writer, count_line, limit_bytes=10)
    buffer.write(b"x" * 50 + b"\n")
    assert pipe.read_until(b"x") == b"x" * 50 + b"\n"


def test_the_end_waits_for_no_one(pipe: Pipe) -> None:
    """A flush ends though nobody reads; it waits for a slow reader for as long as that one reads."""
    buffer = LineBuffer(pipe.writer, count_line)
    for _ in range(2000):
        buffer.write(b"x" * 99 + b"\n")
    buffer.flush(stuck_s=0.01)
    count = 0

    def read() -> None:
        nonlocal count
        while count < 2000 * 100:
            count += len(pipe.read(1000))

    slow = threading.Thread(target=read)
    slow.start()
    buffer.flush(stuck_s=LIMIT_S, limit_s=LIMIT_S)
    slow.join(LIMIT_S)
    assert count == 2000 * 100


def test_what_cannot_be_written_is_counted(tmp_path: Path) -> None:
    """A full disk loses lines and nothing else; when there is room again, lines go out with the number of those."""
    out = tmp_path / "log"
    fd = os.open("/dev/full", os.O_WRONLY)
    room = os.open(out, os.O_WRONLY | os.O_CREAT)
    buffer = LineBuffer(fd, count_line)
    for _ in range(3):
        buffer.write(b"lost\n")
    buffer.flush()
    os.dup2(room, fd)
    buffer.write(b"kept\n")
    buffer.flush()
    assert out.read_bytes() == b"kept\ndropped 3\n"
    os.close(fd)
    os.close(room)


def test_the_end_tells_what_was_lost(pipe: Pipe) -> None:
    """The last count goes out too, though the one before it was told just now."""
    buffer = LineBuffer(pipe.writer, count_line)
    buffer.write(b"first\n")
    buffer.flush()
    buffer._counted_at = float("inf")
    buffer._dropped = 7
    buffer.close()
    assert pipe.read() == b"first\ndropped 7\n"


def test_a_reader_that_is_gone(pipe: Pipe) -> None:
    """Each line is lost, and writing goes on."""
    pipe.close_reader()
    buffer = LineBuffer(pipe.writer, count_line)
    for _ in range(100):
        buffer.write(b"lost\n")
    buffer.flush()
    assert buffer._dropped == 100


def test_half_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a disk that fills up leaves of a line stays a line of its own; those before it were written."""
    out = tmp_path / "log"
    fd = os.open(out, os.O_WRONLY | os.O_CREAT)
    write, room = os.write, 10

    def fill_up(number: int, data: Any) -> int:
        nonlocal room
        if not (taken := min(room, len(data))):
            raise OSError(errno.ENOSPC, "No space left on device")
        room -= taken
        return write(number, data[:taken])

    monkeypatch.setattr("agenthub.log_buffer.os.write", fill_up)
    buffer = LineBuffer(fd, count_line)
    buffer._writer.write([b"first\n", b"second\n", b"third\n"])
    assert buffer._writer.write([b"fourth\n"]) == 1
    room = 100
    assert buffer._writer.write([b"fifth\n"]) == 0
    assert out.read_bytes() == b"first\nseco\nfifth\n"
    os.close(fd)


async def test_a_pipe_that_does_not_block(pipe: Pipe) -> None:
    """Where another process has made the pipe they share non-blocking, no line is lost for that."""
    fcntl.fcntl(pipe.writer, fcntl.F_SETFL, os.O_NONBLOCK)
    buffer = LineBuffer(pipe.writer, count_line)
    for _ in range(2000):
        buffer.write(b"x" * 99 + b"\n")
    buffer.write(b"last\n")
    text = await asyncio.to_thread(pipe.read_until, b"last")
    assert len(text) == 2000 * 100 + 5


def test_lines_of_many_threads(pipe: Pipe) -> None:
    """Each arrives once, those of a thread in their order; a finalizer that logs in the midst of it blocks none."""
    buffer = LineBuffer(pipe.writer, count_line)

    class Last:
        def __del__(self) -> None:
            buffer.write(b"gone\n")

    def log(name: int) -> None:
        for number in range(200):
            loop: list[Any] = [Last()]
            loop.append(loop)
            buffer.write(b"%d %d\n" % (name, number))

    threads = [threading.Thread(target=log, args=(name,)) for name in range(4)]
    reader = threading.Thread(target=lambda: found.append(pipe.read_until(b"last")))
    found: list[bytes] = []
    for thread in (*threads, reader):
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    buffer.write(b"last\n")
    reader.join(LIMIT_S)
    gc.collect()  # else a later test's would write to this pipe's number, which is then another file's
    lines = found[0].splitlines()
    for name in range(4):
        assert [line for line in lines if line.startswith(b"%d " % name)] == [b"%d %d" % (name, n) for n in range(200)]


def test_no_more_threads(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system allows none, lines go out as far as that makes nobody wait."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    buffer = LineBuffer(pipe.writer, count_line)
    for number in range(2000):
        buffer.write(b"%06d %s\n" % (number, b"x" * 92))
    assert pipe.read(100) == b"000000 " + b"x" * 92 + b"\n"
    assert buffer._dropped > 1000


FORKING = """
import os, sys
from agenthub.log_buffer import _BUFFERS, LineBuffer
buffer = LineBuffer(1, lambda count: b"dropped %d\\n" % count)
for number in range(3000):
    buffer.write(b"parent %d\\n" % number)
if child := os.fork():
    buffer.write(b"parent 3000\\n")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
else:
    for number in range(3000):
        buffer.write(b"child %d\\n" % number)
buffer.close()
os._exit(0)
"""


def test_a_fork_in_the_midst() -> None:
    """Each process writes its own lines, all of them and none twice, though the parent's thread was writing."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING], capture_output=True, timeout=LIMIT_S
    )
    assert (run.returncode, run.stderr) == (0, b"")
    lines = run.stdout.splitlines()
    for name, count in ((b"parent", 3001), (b"child", 3000)):
        assert [line for line in lines if line.startswith(name)] == [b"%s %d" % (name, n) for n in range(count)]


ENDING = """
import json, sys
from agenthub.log import configure_logging
from agenthub.settings import LogSettings
configure_logging(LogSettings(format="json"))
print("plain", file=sys.stderr)
{last}
"""


@pytest.mark.parametrize(
    ("last", "status", "said"),
    [
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("import warnings; warnings.warn('mind the gap')", 0, "UserWarning: mind the gap"),
        ("import atexit; atexit.register(lambda: print('at the end', file=sys.stderr))", 0, "at the end"),
        ("import structlog; structlog.get_logger().error('an error')", 0, '"event":"an error"'),
        ("import logging; logging.getLogger('lib').error('an error')", 0, '"event":"an error"'),
        ("import threading; threading.Thread(target=lambda: 1 / 0).start()", 0, "ZeroDivisionError"),
    ],
)
def test_last_words(last: str, status: int, said: str) -> None:
    """Whatever is said on the way out comes out, behind what was said before, and the exit status is what it was."""
    run = subprocess.run(
        [sys.executable, "-c", ENDING.format(last=last)], capture_output=True, timeout=LIMIT_S, text=True
    )
    assert (run.returncode, run.stdout) == (status, "")
    assert run.stderr.startswith("plain\n")
    assert said in run.stderr


@pytest.mark.parametrize("last", ["1 / 0", "import logging; logging.getLogger('lib').error('an error')"])
@pytest.mark.parametrize("kind", ["closed", "full", "unread"])
def test_last_words_that_nobody_reads(last: str, kind: str, pipe: Pipe) -> None:
    """They change neither the exit status nor keep the process from its end."""
    if kind == "closed":
        pipe.close_reader()
    if kind == "unread":
        os.set_blocking(pipe.writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(pipe.writer, b"x" * 4096)
        os.set_blocking(pipe.writer, True)
    out = os.open("/dev/full", os.O_WRONLY) if kind == "full" else os.dup(pipe.writer)
    run = subprocess.run([sys.executable, "-c", ENDING.format(last=last)], stderr=out, timeout=LIMIT_S)
    os.close(out)
    assert run.returncode == (1 if last == "1 / 0" else 0)


def test_what_dropped_lines_are_called(tmp_path: Path) -> None:
    """The line with their number is one like all others."""
    script = (
        ENDING.format(last="import structlog; log = structlog.get_logger()")
        + """
import os
room, full = os.dup(2), os.open("/dev/full", os.O_WRONLY)
from agenthub.log_buffer import flush_all
flush_all()
os.dup2(full, 2)
log.info("lost"); log.info("lost"); flush_all()
os.dup2(room, 2)
log.info("kept")
"""
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=LIMIT_S, text=True)
    lines = [json.loads(line) for line in run.stderr.splitlines()[1:]]
    assert [(line["event"], line["level"], line.get("count")) for line in lines] == [
        ("kept", "info", None),
        ("agenthub.log_dropped", "warning", 2),
    ]
