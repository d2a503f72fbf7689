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
        title = f"enhancement rule{'s' * (len(those) > 1)} {names}"
        looked = [look(one) for one in dict.fromkeys(models)]
        yield _examine(title, looked)
        if any(finding.level is Level.OK for finding in looked):
            yield from [_lacking(title, finding) for finding in looked[1:] if finding.level is not Level.OK]


def _lacking(title: str, looked: Finding) -> Finding:
    """Return the finding of a fallback that could not be asked, while another model of its rules can."""
    text = f"{title}: fallback {looked.text}"
    return Finding("enhancement.no_fallback", _level([looked]), text, looked.remedies, looked.subject)


def _level(looked: list[Finding]) -> Level:
    """Return a warning where nobody has one of the models; who does not answer may have it."""
    return Level.WARNING if any(finding.id == "model.missing" for finding in looked) else Level.INFO


def _examine(title: str, looked: list[Finding]) -> Finding:
    first, subject = looked[0], looked[0].subject
    there = [finding for finding in looked if finding.level is Level.OK]
    if first.level is Level.OK:
        return Finding("enhancement.found", Level.OK, f"{title}: {first.text}", (), subject)
    if there:
        text = f"{title}: {first.text}; {there[0].subject} is asked instead"
        return Finding("enhancement.fallback", Level.INFO, text, first.remedies, subject)
    text = "; ".join(finding.text for finding in looked)
    return Finding(
        "enhancement.missing",
        _level(looked),
        f"{title}: {text}; prompts stay as they are",
        first.remedies,
        subject,
    )
