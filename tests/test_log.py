"""What is logged becomes a line, whatever it is; what repeats without end is said once a minute, with its number."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import logging
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from agenthub.log import configure_logging
from agenthub.log_bridge import BridgeHandler, Repeats
from agenthub.settings import LogSettings

Log = Callable[..., None]


class Odd:
    """What somebody else's plugin may log."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


ODD: dict[str, Any] = {
    "repr raises": Odd(),
    "within a list": [Odd()],
    "a lone surrogate": "\ud800",
    "many levels": nested(5000),
    "long integers": 2**200,
    "longer ones": 10**5000,
    "bytes": b"\xff\x00",
    "keys that are no texts": {1: {(): Odd()}},
    "no number": float("nan"),
    "an exception": OddError(),
}


@pytest.fixture
def _own() -> Iterator[None]:
    """Logging is set up for the whole process: that of the tests gets its own back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


class Stream(io.TextIOWrapper):
    """A text stream of an encoding that keeps what is written."""

    def __init__(self, encoding: str) -> None:
        self.kept = io.BytesIO()
        super().__init__(self.kept, encoding)

    def lines(self, form: str) -> list[str]:
        self.flush()
        return self.kept.getvalue().decode("utf-8" if form == "json" else self.encoding).splitlines()


@pytest.mark.usefixtures("_own")
@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("name", ODD)
def test_odd_values(form: str, encoding: str, name: str) -> None:
    """They are shown as far as they can be; whoever logs notices nothing, and the line says what it is about."""
    stream = Stream(encoding)
    configure_logging(LogSettings(format=form), stream)
    structlog.get_logger().info("agenthub.something", odd=ODD[name], fine="\u20ac 5")
    (line,) = stream.lines(form)
    assert "agenthub.something" in line
    if form == "json":
        assert json.loads(line)["event"] == "agenthub.something"
        assert json.loads(line).get("fine", "\u20ac 5") == "\u20ac 5"


@pytest.mark.usefixtures("_own")
@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    ("message", "arguments"),
    [("count %d", ("many",)), ("%s and %s", ("one",)), ("got %s", (Odd(),)), (Odd(), ()), ("\ud800", ())],
)
def test_odd_records(form: str, message: Any, arguments: tuple[Any, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """A library's call whose arguments do not fit is a line all the same, and nothing goes to stderr by itself."""
    stream = Stream("utf-8")
    configure_logging(LogSettings(format=form), stream)
    logging.getLogger("lib").error(message, *arguments)
    try:
        raise OddError
    except OddError:
        logging.getLogger("lib").exception(message, *arguments)
    lines = stream.lines(form)
    assert sum("lib" in line for line in lines) >= 2
    if form == "json":
        assert [json.loads(line)["level"] for line in lines] == ["error", "error"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("_own")
@pytest.mark.parametrize("form", ["json", "console"])
def test_a_stream_that_fails(form: str) -> None:
    """Lines that cannot be written are lost, and that is all."""

    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    configure_logging(LogSettings(format=form), Broken())
    structlog.get_logger().info("agenthub.something")
    logging.getLogger("lib").error("something")


@pytest.mark.usefixtures("_own")
def test_stderr_that_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then Python has none at all; lines and what else is printed there go nowhere."""
    monkeypatch.setattr(sys, "stderr", None)
    configure_logging(LogSettings())
    structlog.get_logger().info("agenthub.something")
    print("something", file=sys.stderr)
    assert sys.stderr is not None


class Lines:
    """A bridge whose lines are kept as their fields, and whose clock stands."""

    def __init__(self, every_s: float = 60.0) -> None:
        self.now, self.told = 0.0, asyncio.Event()
        self.found: list[dict[str, Any]] = []
        handler = BridgeHandler(self._render, lambda line: None, Repeats(every_s, lambda: self.now))
        self.handler = handler
        self.log = logging.Logger("lib")
        self.log.addHandler(handler)

    def _render(self, logger: Any, method: str, event: dict[str, Any]) -> bytes:
        self.found.append({"level": method, **event})
        if "repeated" in event:
            self.told.set()
        return b""

    def fail_to_accept(self, number: int = errno.EMFILE) -> None:
        try:
            raise OSError(number, "Too many open files")
        except OSError as error:
            self.log.error(f"socket.accept() out of system resource\nfd={len(self.found)}", exc_info=error)

    def said(self) -> list[tuple[str, Any]]:
        return [(line["event"].partition("\n")[0], line.get("repeated")) for line in self.found]


ACCEPT = "socket.accept() out of system resource"


def test_one_line_a_minute() -> None:
    """The first is said at once, with its traceback; the next a minute later, with the number of those between."""
    lines = Lines()
    for _ in range(1000):
        lines.fail_to_accept()
    assert lines.said() == [(ACCEPT, None)]
    assert lines.found[0]["exc_info"]
    lines.now = 60.0
    lines.fail_to_accept()
    lines.now = 119.0
    lines.fail_to_accept()
    assert lines.said() == [(ACCEPT, None), (ACCEPT, 999)]


async def test_the_number_is_told_by_itself() -> None:
    """Also when no further one comes: a minute later, or at the end of the process; once."""
    lines = Lines(every_s=0.01)
    for _ in range(5):
        lines.fail_to_accept()
    await asyncio.wait_for(lines.told.wait(), 20)
    lines.fail_to_accept()
    lines.handler.tell_all()
    lines.handler.tell_all()
    assert lines.said() == [(ACCEPT, None), (ACCEPT, 4), (ACCEPT, 1)]
    assert "exc_info" not in lines.found[1]


def test_other_lines_are_not_held_back() -> None:
    """Neither another error, nor another place, nor what only tells; addresses and numbers make no difference."""
    lines = Lines()
    for number in (errno.EMFILE, errno.ENFILE):
        lines.fail_to_accept(number)
    for pid in (1, 2):
        lines.log.error("Worker (pid:%s) was sent %s!", pid, "SIGKILL")
        lines.log.info("Booting worker")
        lines.log.warning(f"Unclosed connection <Connection 0x7f{pid}>")
    assert lines.said() == [
        (ACCEPT, None),
        (ACCEPT, None),
        ("Worker (pid:1) was sent SIGKILL!", None),
        ("Booting worker", None),
        ("Unclosed connection <Connection 0x7f1>", None),
        ("Worker (pid:2) was sent SIGKILL!", None),
        ("Booting worker", None),
    ]


def test_kinds_are_bounded() -> None:
    """However many there are, memory is not filled by them."""
    lines = Lines()
    for number in range(2000):
        lines.log.error("kind %s", number)
    assert len(lines.found) == 2000
    assert len(lines.handler._repeats._found) <= 256


async def test_asyncio_out_of_descriptors() -> None:
    """asyncio tries to accept as often as connections may wait, each second; of all that one line is left."""
    lines = Lines()
    log = logging.getLogger("asyncio")
    log.addHandler(lines.handler)
    log.propagate = False

    class Listening(socket.socket):
        def accept(self) -> Any:
            raise OSError(errno.EMFILE, "Too many open files")

    loop, listening = asyncio.SelectorEventLoop(), Listening()
    try:
        loop.call_later = lambda *args, **kwargs: None  # type: ignore[method-assign, assignment, return-value]
        loop._remove_reader = lambda fd: None  # type: ignore[attr-defined]
        loop._accept_connection(None, listening, backlog=2048)  # type: ignore[attr-defined]
    finally:
        log.removeHandler(lines.handler)
        log.propagate = True
        loop.close()
        listening.close()
    assert lines.said() == [(ACCEPT, None)]
    lines.handler.tell_all()
    assert lines.said() == [(ACCEPT, None), (ACCEPT, 2047)]
