"""What a long frame costs that arrives in pieces: ``python -m bench.framing``.

Prints processor time, the best of several runs: of a frame in one read, of the same frame in reads of 64 KiB, their
ratio (about the same for any length: the cost is linear), and of short frames, of which nearly every stream consists.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from agenthub.dialects.framing import EventFramer, Framer, LineFramer

FRAME_BYTES, READ_BYTES, SHORT_FRAMES, RUNS = 10 * 2**20, 2**16, 20_000, 5
SHORT = b'{"model":"m","message":{"role":"assistant","content":"abc"},"done":false}'
KINDS: Sequence[tuple[str, Callable[[], Framer], bytes, bytes]] = (
    ("NDJSON", LineFramer, b"", b"\n"),
    ("events", EventFramer, b"data: ", b"\n\n"),
    ("events, CR LF", EventFramer, b"data: ", b"\r\n\r\n"),
)


def main() -> None:
    """Measure and print."""
    print(f"{'':16}{'10 MiB':>10}{'in 64 KiB':>12}{'ratio':>8}{'20,000 short':>15}   ms of processor time")
    for name, make, start, end in KINDS:
        frame = start + b'"' + b"x" * FRAME_BYTES + b'"' + end
        whole, pieces = _cpu_ms(make, [frame]), _cpu_ms(make, cut(frame, READ_BYTES))
        short = _cpu_ms(make, [start + SHORT + end] * SHORT_FRAMES)
        print(f"{name:16}{whole:10.1f}{pieces:12.1f}{pieces / whole:8.2f}{short:15.1f}")


def cut(data: bytes, length: int) -> list[bytes]:
    """Return pieces of this length."""
    return [data[start : start + length] for start in range(0, len(data), length)]


def _cpu_ms(make: Callable[[], Framer], reads: Sequence[bytes]) -> float:
    return min(_once(make(), reads) for _ in range(RUNS))


def _once(framer: Framer, reads: Sequence[bytes]) -> float:
    start = time.process_time()
    for read in reads:
        for frame in framer.feed(read):
            framer.payload(frame)
    return 1000 * (time.process_time() - start)


if __name__ == "__main__":
    main()
