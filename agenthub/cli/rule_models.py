"""Models of the enhancement rules: whether one that can be asked is there, as check and doctor say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from agenthub.cli.findings import Finding, Level
from agenthub.enhancement.rules import Rule
from agenthub.settings import EnhancementSettings


def examine_rules(enhancement: EnhancementSettings, look: Callable[[str], Finding]) -> Iterator[Finding]:
    """Yield a finding for the rules that are on and name a model, rules with the same models together.

    ``look`` finds out who has a model. A missing one is a warning, not an error: prompts stay as they are.
    """
    rules = [enhancement.rules.default, *enhancement.rules.clients.values()]
    named: dict[tuple[str, ...], list[Rule]] = {}
    for rule in rules:
        if rule.enabled and (models := rule.models(enhancement.model)):
            named.setdefault(models, []).append(rule)
    for models, those in named.items():
        names = ", ".join(rule.name for rule in those)
        yield _examine(
            f"enhancement rule{'s' * (len(those) > 1)} {names}", [look(one) for one in dict.fromkeys(models)]
        )


def _examine(title: str, looked: list[Finding]) -> Finding:
    first, subject = looked[0], looked[0].subject
    there = [finding for finding in looked if finding.level is Level.OK]
    if first.level is Level.OK:
        return Finding("enhancement.found", Level.OK, f"{title}: {first.text}", (), subject)
    if there:
        text = f"{title}: {first.text}; {there[0].subject} is asked instead"
        return Finding("enhancement.fallback", Level.INFO, text, first.remedies, subject)
    level = Level.WARNING if any(finding.id == "model.missing" for finding in looked) else Level.INFO
    text = "; ".join(finding.text for finding in looked)
    return Finding("enhancement.missing", level, f"{title}: {text}; prompts stay as they are", first.remedies, subject)
