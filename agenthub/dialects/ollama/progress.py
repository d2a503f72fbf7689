"""Progress streams of pull, push and create: lines of ``{"status": …}`` that end with ``success``.

The lines go through as they are, of whatever kind; nothing is known of them but how they end.
Source: Ollama docs/api.md "Pull a Model".
"""

from __future__ import annotations

from agenthub.canonical import Answer, Batch, Event, Finished, RelayRequest
from agenthub.dialects import answerjson, jsontext, typed
from agenthub.dialects.words import complaint_of
from agenthub.errors import UpstreamError, UpstreamProtocol, UpstreamReport

SUCCESS = b'{"status":"success"}'


class ProgressParser:
    """Lines of a stream.

    A line that reports an error is a line like others, and what follows it is passed on as well (Ollama 0.9.3 creates a
    model from one that it could not pull, and says both); but the stream ends as a failure.
    """

    def __init__(self) -> None:
        self.is_begun = False
        self.reported: UpstreamReport | None = None

    def parse(self, payload: bytes, events: list[Event]) -> None:
        line = answerjson.loads(payload)
        if not typed.is_nothing(message := line.get("error")):
            self.is_begun, self.reported = True, self.reported or _report(message)
        elif "status" in line:
            self.is_begun = True
            if line["status"] == "success" and self.reported is None:
                events.append(Finished())

    def skip(self, payload: bytes, events: list[Event]) -> None:
        """Each line that is an object is understood."""

    def close(self, events: list[Event]) -> None:
        raise self.reported or UpstreamProtocol("the upstream ended the stream without success")


def _report(message: object) -> UpstreamReport:
    return UpstreamReport(message if isinstance(message, str) else jsontext.dumps(message).decode("utf-8", "replace"))


def parse_whole(body: bytes) -> list[Event]:
    """Return the end of an answer with ``stream: false``, which is the last line alone."""
    line = answerjson.loads(body)
    if not typed.is_nothing(message := line.get("error")):
        raise _report(message)
    if "status" not in line and (said := complaint_of(line)):
        raise UpstreamError(said)
    return [Finished()]


def render_whole(request: RelayRequest, answer: Answer) -> bytes:
    """Return the single object for a client that asked for no stream, where the upstream sent one."""
    return SUCCESS


class ProgressRenderer:
    """The last line alone, for a client that asked for a stream where the upstream sent none."""

    def __init__(self, request: RelayRequest) -> None:
        self.request = request

    def render(self, batch: Batch) -> bytes:
        return SUCCESS + b"\n" if type(batch[-1]) is Finished else b""
