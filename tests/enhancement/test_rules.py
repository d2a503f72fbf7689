"""What a rule says of prompts and clients."""

from __future__ import annotations

import pytest

from agenthub.enhancement.rules import Rule
from agenthub.errors import ConfigError


def test_instructions_may_use_the_name_of_the_client() -> None:
    """Braces that are doubled stay braces; the name is never taken for a template itself."""
    rule = Rule(system_prompt="{client}: answer {{json}} for {client}.")
    assert rule.instructions("{x} ed") == "{x} ed: answer {json} for {x} ed."


@pytest.mark.parametrize(
    ("rule", "prompt", "reason"),
    [
        (Rule(), "anything", ""),
        (Rule(enabled=False, name="ed"), "anything", "the rule ed is off"),
        (Rule(), " \n", "the prompt is empty"),
        (Rule(skip_shorter_than=4), "  abc ", "the prompt is shorter than 4 characters"),
        (Rule(skip_shorter_than=4), "abcd", ""),
        (Rule(skip_longer_than=4), "abcde", "the prompt is longer than 4 characters"),
        (Rule(skip_longer_than=4), " abcd\n", ""),
        (Rule(skip_longer_than=0), "a" * 100_000, ""),
    ],
)
def test_which_prompts_are_left_alone(rule: Rule, prompt: str, reason: str) -> None:
    """Those of a rule that is off, empty ones, and those beyond the bounds, which count no blanks around."""
    assert rule.reason_to_skip(prompt) == reason


def test_rules_made_by_hand_are_checked_too() -> None:
    """As those of the file are."""
    with pytest.raises(ConfigError, match=r"system_prompt: it has other braces"):
        Rule(system_prompt="{name}")
    with pytest.raises(ConfigError, match=r"temperature: 9 is not allowed"):
        Rule(temperature=9)
