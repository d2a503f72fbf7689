"""For endpoints that never stream: their codecs have no frames."""

from __future__ import annotations

from typing import Any

from agenthub.canonical import Batch, Event
from agenthub.errors import UpstreamProtocol


class NoFrames:
    """Stands where a codec has its parser and its renderer, and says what an upstream that streams did wrong."""

    is_begun = False

    def __init__(self, request: Any = None) -> None:
        self.request = request

    def parse(self, payload: bytes, events: list[Event]) -> None:
        raise UpstreamProtocol("the upstream streamed an answer that is never streamed")

    def skip(self, payload: bytes, events: list[Event]) -> None:
        """Nothing is known of a frame, since there are none."""

    def close(self, events: list[Event]) -> None:
        raise UpstreamProtocol("the upstream streamed an answer that is never streamed")

    def render(self, batch: Batch) -> bytes:
        raise TypeError("this endpoint never streams")
