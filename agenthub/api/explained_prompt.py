"""Whether a prompt would be put better before it is used, by which rule, and what its model would be asked."""

from __future__ import annotations

from collections.abc import Sequence

from agenthub.api.bodies import check_body
from agenthub.api.described import Described
from agenthub.api.enhancing import make_errand, take_asked, wants_enhancement
from agenthub.api.hub import Hub
from agenthub.api.streaming import authorization_of
from agenthub.canonical import JSON, Request
from agenthub.dialects.prompts import NoPrompt, find_prompt
from agenthub.enhancement.asking import Question
from agenthub.enhancement.rules import Rule
from agenthub.explaining import make_case
from agenthub.explaining.sendings import explain_upstream
from agenthub.middleware import Caller

_ABOUT = "what follows is of the prompt as it is: how the model would put it is not known before it is asked"


async def explain_prompt(hub: Hub, described: Described, caller: Caller, path: str, request: Request) -> JSON:
    """Return what in-line enhancement has to do with a request to the endpoint at ``path``."""
    rule = hub.enhancer.rules.of(caller.client)
    models = hub.enhancer.models(rule, instead=request.model)
    told = _start(rule, models)
    if not wants_enhancement(hub, described, caller):
        why_not = "neither X-Enhance: true nor auto_enhance of the client asks for it"
        return told | {"is_wanted": False, "why_not": why_not}
    try:
        prompt = find_prompt(path, described.body)
    except NoPrompt as none:
        return told | {"why_not": str(none)}
    if why_not := rule.reason_to_skip(prompt.text) or ("" if models else rule.without_model):
        return told | {"why_not": why_not}
    question = Question(prompt.text, rule, make_errand(caller), authorization_of(hub, described, caller))
    return told | await _ask(hub, question, question.to_request(models[0], stream=False)) | {"about": _ABOUT}


def _start(rule: Rule, models: Sequence[str]) -> dict[str, JSON]:
    told: dict[str, JSON] = {"is_wanted": True, "rule": rule.label, "models": list(models)}
    return told | dict.fromkeys(("why_not", "cache", "upstream", "about"))


async def _ask(hub: Hub, question: Question, request: Request) -> dict[str, JSON]:
    case = await make_case(hub.dispatcher, request, question.caller, enhancing=question.rule.label)
    upstream = explain_upstream(case)
    why_not = None if case.error is None else str(case.error)
    return {"why_not": why_not, "cache": case.cache, "upstream": upstream}


async def explain_enhance(hub: Hub, described: Described, caller: Caller) -> JSON:
    """Return the same of a request to /hub/enhance; raises AgentHubError where its client would get that."""
    check_body(described.headers, len(described.body), hub.settings.max_body_bytes)
    asked = take_asked(hub, caller, described.body)
    rule = hub.enhancer.rules.of(caller.client)
    models = hub.enhancer.models(rule, asked.model)
    told = _start(rule, models)
    if why_not := rule.reason_to_skip(asked.prompt) or ("" if models else rule.without_model):
        return told | {"why_not": why_not}
    question = Question(asked.prompt, rule, caller, authorization_of(hub, described, caller))
    return told | await _ask(hub, question, question.to_request(models[0], stream=asked.stream))
