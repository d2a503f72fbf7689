"""Last batch of an answer: its durations, measured from outside, and no reason that is Ollama's alone."""

from __future__ import annotations

import time

import attrs

from agenthub import Batch, Finished, RawFrames, Started, Timings


def without_load(batch: Batch) -> Batch:
    """Return the last batch, without its bytes where they say ``load``: Ollama's word, and no reason of OpenAI's."""
    started, finished = batch[0], batch[-1]
    if not (isinstance(started, Started) and isinstance(finished, Finished) and finished.reason == "load"):
        return batch
    return (attrs.evolve(started, raw_path=""), *(event for event in batch[1:] if not isinstance(event, RawFrames)))


@attrs.define
class StreamClock:
    """Times an answer from outside, since most servers of this API tell no durations: native clients divide by them."""

    _started: float = attrs.field(factory=time.perf_counter)
    _first: float = 0.0

    def see(self) -> None:
        """The first batch arrived."""
        self._first = time.perf_counter()

    def timed(self, batch: Batch) -> Batch:
        """Return the last batch with durations in its Finished."""
        now, finished = time.perf_counter(), batch[-1]
        assert isinstance(finished, Finished)
        told = finished.timings or Timings(prompt_s=self._first - self._started, completion_s=now - self._first)
        timings = attrs.evolve(told, total_s=now - self._started)
        return (*batch[:-1], attrs.evolve(finished, timings=timings))
