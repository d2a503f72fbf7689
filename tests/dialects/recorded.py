"""Exchanges with a real Ollama 0.9.3 and a real llama.cpp server, as they stood on the wire."""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from agenthub.canonical import Batch
from agenthub.dialects import Codec, StreamParser, ollama, openai, parse_whole

DATA = Path(__file__).parents[1] / "data"
CODECS = ollama.CODECS | openai.CODECS


@attrs.frozen
class Recording:
    """One exchange; ``name`` is its file, under tests/data."""

    name: str
    path: str
    request: bytes
    status: int
    content_type: str
    body: bytes

    @property
    def codec(self) -> Codec:
        return CODECS[self.path]

    @property
    def streamed(self) -> bool:
        return self.content_type == self.codec.stream_type


def names(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


def load(name: str) -> Recording:
    """Read one exchange, for example ``ollama-0.9.3/58-chat-stream``."""
    record = json.loads((DATA / f"{name}.json").read_text())
    request, response = record["request"], record["response"]
    headers = {key.lower(): value for key, value in response["headers"]}
    return Recording(
        name=name,
        path=request["path"],
        request=(request["body"] or "").encode(),
        status=response["status"],
        content_type=headers.get("content-type", "").partition(";")[0],
        body=(response["body"] or "").encode(),
    )


def everything(folder: str = "*") -> list[Recording]:
    """All exchanges, in the order of their names."""
    files = sorted(DATA.glob(f"{folder}/*.json"))
    return [load(f"{file.parent.name}/{file.stem}") for file in files]


def parse(recording: Recording) -> tuple[Batch, Exception | None]:
    """The events of an answer and how it broke, if it did."""
    if not recording.streamed:
        return parse_whole(recording.codec, recording.body), None
    parser = StreamParser(recording.codec)
    events = parser.feed(recording.body) + parser.close()
    return events, parser.error
