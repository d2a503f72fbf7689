"""What became of a prompt."""

from __future__ import annotations

from typing import Any

import attrs

from agenthub.canonical import Usage
from agenthub.enhancement.rules import Rule

_LONGEST_ERROR = 500


@attrs.frozen(kw_only=True)
class Enhancement:
    """A prompt and what was made of it; ``error`` says why it is as it was, and is empty where it is not.

    ``model`` is the one that answered, empty where none did; ``usage`` are its tokens, where it counts them.
    ``is_forbidden`` says that the client may use none of the models.
    """

    original: str
    enhanced: str
    rule: Rule
    model: str = ""
    is_cached: bool = False
    elapsed_s: float = 0.0
    usage: Usage | None = None
    error: str = ""
    is_forbidden: bool = False

    @property
    def was_enhanced(self) -> bool:
        return not self.error

    @property
    def label(self) -> str:
        """``rule@version``, or why not, as a header and a log line say it: printable ASCII on one line."""
        text = f"no: {self.error}" if self.error else self.rule.label
        return "".join([char if " " <= char <= "~" else "?" for char in text[:_LONGEST_ERROR]])

    def to_json(self) -> dict[str, Any]:
        """Return it as the answer of /hub/enhance."""
        usage = self.usage
        return {
            "original": self.original,
            "enhanced": self.enhanced,
            "was_enhanced": self.was_enhanced,
            "rule": self.rule.name,
            "rule_version": self.rule.version,
            "model": self.model or None,
            "cached": self.is_cached,
            "elapsed_s": round(self.elapsed_s, 6),
            "usage": usage and {"prompt_tokens": usage.prompt, "completion_tokens": usage.completion},
            "error": self.error[:_LONGEST_ERROR] or None,
        }
