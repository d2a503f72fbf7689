"""The end of Ollama's streams: what their parsers have in common, also of a line that is not understood."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from agenthub.canonical import JSON, Event
from agenthub.dialects import answerjson
from agenthub.dialects.ollama.fields import parse_finished
from agenthub.errors import UpstreamProtocol


@attrs.define
class EndParser:
    """What a line says of the end of its answer; a subclass reads the rest."""

    is_begun: bool = False
    _done: bool = False

    def skip(self, payload: bytes, events: list[Event]) -> None:
        """Take the end, its counts and its durations from a line of which the rest is not understood."""
        self.parse_end(answerjson.loads(payload), events)

    def parse_end(self, line: Mapping[str, JSON], events: list[Event]) -> None:
        """Append the end, where the line is the last."""
        self.is_begun = self.is_begun or "done" in line
        if line.get("done"):
            events.append(parse_finished(line))
            self._done = True

    def close(self, events: list[Event]) -> None:
        if not self._done:
            raise UpstreamProtocol("the upstream ended the stream without done")
