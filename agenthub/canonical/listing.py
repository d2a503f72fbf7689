"""Models as an upstream lists them."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from agenthub.canonical.requests import JSON

CAPABILITIES = ("completion", "tools", "vision", "thinking", "insert", "embedding", "audio", "image")
"""What a model can do, in Ollama's words, in the order in which they are shown."""


@attrs.frozen
class ModelInfo:
    """One model as an upstream lists it; ``entry`` is the upstream's own object, in the dialect ``dialect``.

    ``capabilities`` are those of a setting, or of another list of the same server; where empty, ``entry`` may tell.
    """

    name: str
    dialect: str
    entry: Mapping[str, JSON] = attrs.field(factory=dict, repr=False)
    capabilities: tuple[str, ...] = ()
