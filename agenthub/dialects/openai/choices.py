"""What the streams of both text endpoints have in common: choices, counts and the end."""

from __future__ import annotations

import attrs

from agenthub.canonical import JSON, Event, Finished, Usage
from agenthub.dialects import jsontext, typed
from agenthub.dialects.openai import fields as common
from agenthub.errors import UpstreamProtocol


@attrs.define
class ChoiceParser:
    """Chunks of a stream, of which only the first choice counts; a subclass says what a choice holds.

    The end comes in any order: the reason, the counts (some servers put them on the chunk with the reason), ``[DONE]``.
    """

    _reason: str = ""
    _usage: Usage | None = None
    _done: bool = False

    def parse(self, payload: bytes, events: list[Event]) -> None:
        if self._done:
            return
        if payload == b"[DONE]":
            self._done = True
            events.append(self._finish())
            return
        frame = jsontext.loads(payload)
        common.raise_error(frame)
        if usage := frame.get("usage"):
            self._usage = common.parse_usage(usage)
        for choice in frame.get("choices") or ():
            if not choice.get("index"):
                self.parse_choice(choice, events)
                if reason := choice.get("finish_reason"):
                    self._reason = common.parse_reason(typed.text(reason))

    def parse_choice(self, choice: JSON, events: list[Event]) -> None:
        """Append the events of a choice."""
        raise NotImplementedError

    def close(self, events: list[Event]) -> None:
        if not self._done:
            events.append(self._finish())

    def _finish(self) -> Finished:
        if not self._reason and not self._done:
            raise UpstreamProtocol("the upstream ended the stream without a finish reason")
        return Finished(self._reason or "stop", self._usage)
