"""Which models an upstream is likely to hold in memory: those with traffic in the last five minutes.

The OpenAI API cannot be asked; five minutes is Ollama's default ``keep_alive``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import attrs

from agenthub import JSON, ModelInfo
from agenthub.dialects import ollama
from agenthub.dialects.capabilities import parse_context_length

KEEP_ALIVE_S = 300.0
_MOST, _LONGEST_NAME = 256, 512


@attrs.define
class Running:
    """Remembers when each model was last asked something; ``clock`` gives Unix time."""

    clock: Callable[[], float] = time.time
    _used: dict[str, float] = attrs.field(factory=dict)

    def touch(self, model: str) -> None:
        """The model is being asked something."""
        if len(model) > _LONGEST_NAME:
            return  # no name of a model, and not worth the memory
        self._used.pop(model, None)
        self._used[model] = self.clock()
        self._expire()

    def forget(self, model: str) -> None:
        """The client wants the model out of memory."""
        self._used.pop(model, None)

    def entries(self, known: Mapping[str, ModelInfo]) -> list[dict[str, JSON]]:
        """Return entries as Ollama's /api/ps has them, latest first, for those models that the upstream lists."""
        self._expire()
        found = [(known.get(name) or known.get(f"{name}:latest"), used) for name, used in self._used.items()]
        return [_entry(model, used) for model, used in reversed(found) if model is not None]

    def _expire(self) -> None:
        # In order of use, so only the front can be too old. The bound is against made-up names.
        oldest = self.clock() - KEEP_ALIVE_S
        while self._used and (len(self._used) > _MOST or next(iter(self._used.values())) < oldest):
            del self._used[next(iter(self._used))]


def _entry(model: ModelInfo, used: float) -> dict[str, JSON]:
    listed = ollama.listing.render_entry(model)
    expires = datetime.fromtimestamp(used, UTC) + timedelta(seconds=KEEP_ALIVE_S)
    shown = {name: listed[name] for name in ("name", "model", "size", "digest", "details")}
    shown |= {"expires_at": expires.strftime("%Y-%m-%dT%H:%M:%SZ"), "size_vram": 0}
    context = parse_context_length(model.entry)
    return shown if context is None else shown | {"context_length": context}
