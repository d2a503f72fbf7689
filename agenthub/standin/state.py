"""The stand-in itself: its models, its pace, its script, and its memory of what it was asked."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any

import attrs
import orjson

from .faults import Fault

CHAT = ("completion", "tools", "thinking")
EMBEDDING = ("embedding",)
AGENT = (*CHAT, "vision")
CONTEXT_LENGTH = 2048

INFERENCE = frozenset(
    {
        "/api/chat",
        "/api/generate",
        "/api/embed",
        "/api/embeddings",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
    }
)


@attrs.frozen
class Model:
    """A model by its name, with Ollama's capability words; a name with "embed" in it makes an embedding model.

    One with "agent" in its name sees, chooses its tools itself and fills schemas with what the prompt says.
    ``origin`` is what it was copied or created from: models of equal origin have equal digests. ``system`` is the
    system prompt that it was created with.
    """

    name: str
    capabilities: tuple[str, ...] = attrs.field()
    origin: str = ""
    system: str = ""

    @capabilities.default
    def _capabilities(self) -> tuple[str, ...]:
        if "embed" in self.name.lower():
            return EMBEDDING
        return AGENT if self.agent else CHAT

    @property
    def agent(self) -> bool:
        """Whether it chooses tools and fills schemas by the words of the prompt."""
        return "agent" in self.name.lower()

    @property
    def tag(self) -> str:
        """The name as lists show it, always with a tag."""
        return self.name if ":" in self.name else f"{self.name}:latest"

    @property
    def digest(self) -> str:
        """64 hex digits made from the name, or from the origin."""
        return sha256((self.origin or self.name).encode()).hexdigest()


@attrs.frozen
class Received:
    """One request as it came in; ``headers`` look up without regard to case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, parsed."""
        return orjson.loads(self.body)


@attrs.define(eq=False)
class Tally:
    """A count that can be waited for."""

    count: int = 0
    _changed: asyncio.Event = attrs.field(factory=asyncio.Event, repr=False)

    def bump(self) -> None:
        """Count one more."""
        self.count += 1
        self._changed.set()

    async def reach(self, count: int = 1, timeout_s: float = 5.0) -> None:
        """Return as soon as ``count`` is reached; TimeoutError after ``timeout_s`` seconds."""
        async with asyncio.timeout(timeout_s):
            while self.count < count:
                self._changed.clear()
                await self._changed.wait()


def _models(values: Iterable[str | Model]) -> tuple[Model, ...]:
    return tuple(value if isinstance(value, Model) else Model(value) for value in values)


def _remembered(standin: Standin) -> deque[Received]:
    return deque(maxlen=standin.remember)


@attrs.define(eq=False, kw_only=True)
class Standin:
    """A stand-in Ollama. Every public field may be changed while it runs.

    ``text`` is the answer to everything (None: one made from the request), ``endless`` repeats it without end,
    ``pace_s`` are the seconds between two tokens, ``burst`` the tokens put into one write. ``version`` below 0.10 makes
    the wire shapes those of Ollama 0.9.3, anything newer those of 0.33. ``clock`` is wall time in nanoseconds.
    ``blobs`` are the uploads by the names of their files (``sha256-…``), with their sizes in bytes.
    ``down`` makes every request a 503. ``requests`` holds the last ``remember`` requests, oldest first.
    """

    models: tuple[Model, ...] = attrs.field(default=("standin", "standin-embed"), converter=_models)
    text: str | None = None
    endless: bool = False
    pace_s: float = 0.0
    burst: int = 1
    version: str = "0.33.0"
    clock: Callable[[], int] = time.time_ns
    down: bool = False
    remember: int = 1000

    requests: deque[Received] = attrs.field(init=False, default=attrs.Factory(_remembered, takes_self=True))
    received: Tally = attrs.field(init=False, factory=Tally)
    abandoned: Tally = attrs.field(init=False, factory=Tally)
    in_flight: int = attrs.field(init=False, default=0)
    open_streams: int = attrs.field(init=False, default=0)
    loaded: dict[str, int] = attrs.field(init=False, factory=dict)
    blobs: dict[str, int] = attrs.field(init=False, factory=dict)
    stopping: bool = attrs.field(init=False, default=False)
    faults: list[Fault] = attrs.field(init=False, factory=list)
    _serial: int = attrs.field(init=False, default=0)

    @property
    def old(self) -> bool:
        """Whether the wire shapes are those of 0.9.3."""
        return self.version.startswith(("0.9.", "0.8.", "0.7.", "0.6."))

    def script(self, *faults: Fault) -> None:
        """Queue ``faults``: each befalls the next inference request, or the next request to its own ``path``."""
        self.faults.extend(faults)

    def take_fault(self, path: str) -> Fault | None:
        """Return the first queued fault that fits ``path``, and forget it."""
        for index, fault in enumerate(self.faults):
            if fault.path == path or (fault.path is None and path in INFERENCE):
                return self.faults.pop(index)
        return None

    def note(self, received: Received) -> None:
        """Remember a request."""
        self.requests.append(received)
        self.received.bump()

    def find(self, name: str) -> Model | None:
        """Return the model of that name, with or without ``:latest``, in any case."""
        wanted = _plain(name)
        return next((model for model in self.models if _plain(model.name) == wanted), None)

    def put(self, model: Model) -> None:
        """Have the model, in the place of one of the same name; the newest is listed first."""
        self.models = (model, *(kept for kept in self.models if _plain(kept.name) != _plain(model.name)))

    def remove(self, model: Model) -> None:
        """Have it no longer, neither on disk nor in memory."""
        self.models = tuple(kept for kept in self.models if kept is not model)
        self.loaded.pop(model.tag, None)

    def can_pull(self, name: str) -> bool:
        """Say whether the registry has a model: all but those whose name begins with "nope"."""
        return not name.lower().rpartition("/")[2].startswith("nope")

    def next_serial(self) -> int:
        """Return 1, 2, 3 ...; ids are made of it."""
        self._serial += 1
        return self._serial

    def stamp(self) -> bytes:
        """Return the clock as Ollama's ``created_at``: RFC 3339, UTC, nine fractional digits."""
        seconds, nanoseconds = divmod(self.clock(), 1_000_000_000)
        return b"%s.%09dZ" % (_second(seconds), nanoseconds)


def _plain(name: str) -> str:
    return name.lower().removesuffix(":latest")


@lru_cache(maxsize=16)
def _second(seconds: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode()
