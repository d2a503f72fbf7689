"""Models as an upstream lists them."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from agenthub.canonical.requests import JSON


@attrs.frozen
class ModelInfo:
    """One model as an upstream lists it; ``entry`` is the upstream's own object, in the dialect ``dialect``."""

    name: str
    dialect: str
    entry: Mapping[str, JSON] = attrs.field(factory=dict, repr=False)
