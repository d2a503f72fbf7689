"""What the tests of enhancement share: settings with rules, and an upstream that tells rewriting from answering."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from agenthub.enhancement.rules import Rule, Rules
from agenthub.settings import EnhancementSettings
from tests.upstreams import Reply, answering, line

TOLD = "You rewrite."
BETTER = "A better prompt."


def by_rules(default: Rule | None = None, **clients: Rule) -> EnhancementSettings:
    """Return the settings; each client's rule is named after it."""
    named = {name: attrs.evolve(rule, name=name) for name, rule in clients.items()}
    return EnhancementSettings(rules=Rules(default or a_rule(), named))


def a_rule(**fields: Any) -> Rule:
    """Return a rule whose model is ``m``, and whose instructions a ``Rewriter`` knows."""
    return Rule(**({"model": "m", "system_prompt": TOLD} | fields))


def is_rewriting(body: Any) -> bool:
    """Say whether an upstream was asked for a better prompt, not for an answer to one."""
    messages = body.get("messages") or [{}]
    return str(messages[0].get("content")).startswith(TOLD)


@attrs.define
class Rewriter:
    """Replies ``better`` where it is to rewrite, ``answer`` elsewhere; ``rewrote`` and ``answered`` are the bodies."""

    better: str = BETTER
    answer: str = "the answer"
    rewrote: list[Any] = attrs.field(factory=list)
    answered: list[Any] = attrs.field(factory=list)
    instead: Callable[[str, Any], Reply | None] = lambda path, body: None
    """Replies in the place of ``better``, unless it gives None."""

    def __call__(self, path: str, body: Any) -> Reply:
        if body is None:
            return Reply({})
        if not is_rewriting(body):
            self.answered.append(body)
            return answering(self.answer)(path, body)
        self.rewrote.append(body)
        return self.instead(path, body) or answering(self.better)(path, body)


def cut_at_length(path: str, text: str) -> Reply:
    """Return a whole answer that ended because it was too long."""
    if path == "/api/chat":
        return Reply(line(done=True, content=text) | {"done_reason": "length"})
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
    return Reply({"id": "c1", "choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
