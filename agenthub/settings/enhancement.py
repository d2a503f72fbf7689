"""[enhancement]: where the rules stand, and the rules themselves."""

from __future__ import annotations

from attrs import field, frozen

from agenthub.enhancement.rules import Rules
from agenthub.settings.kinds import Text


@frozen
class EnhancementSettings:
    """[enhancement]; ``rules`` are what the file holds."""

    file: str = field(
        default="",
        validator=Text(
            "The TOML file with the rules for prompts; empty: config/enhancement.toml, without it a built-in rule."
        ),
    )
    model: str = field(
        default="",
        validator=Text("The model that rewrites where neither the request nor the rule names one; empty: none."),
    )
    rules: Rules = field(factory=Rules)
