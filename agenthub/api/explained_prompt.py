"""Whether a prompt would be put better before it is used, by which rule, and what its model would be asked."""

from __future__ import annotations

from agenthub.api.described import Described
from agenthub.api.enhancing import make_errand, wants_enhancement
from agenthub.api.hub import Hub
from agenthub.api.streaming import authorization_of
from agenthub.canonical import JSON, Request
from agenthub.dialects.prompts import NoPrompt, find_prompt
from agenthub.enhancement.asking import Question
from agenthub.explaining import make_case
from agenthub.explaining.sendings import explain_upstream
from agenthub.middleware import Caller

_ABOUT = "what follows is of the prompt as it is: how the model would put it is not known before it is asked"


async def explain_prompt(hub: Hub, described: Described, caller: Caller, path: str, request: Request) -> JSON:
    """Return what in-line enhancement has to do with a request to the endpoint at ``path``."""
    rule = hub.enhancer.rules.of(caller.client)
    models = rule.models(request.model)
    told: dict[str, JSON] = {
        "is_wanted": wants_enhancement(hub, described, caller),
        "rule": rule.label,
        "models": list(models),
        "why_not": None,
        "cache": None,
        "upstream": None,
        "about": None,
    }
    if not told["is_wanted"]:
        return told | {"why_not": "neither X-Enhance: true nor auto_enhance of the client asks for it"}
    try:
        prompt = find_prompt(path, described.body)
    except NoPrompt as none:
        return told | {"why_not": str(none)}
    if why_not := rule.reason_to_skip(prompt.text) or ("" if models else f"the rule {rule.name} names no model"):
        return told | {"why_not": why_not}
    question = Question(prompt.text, rule, make_errand(caller), authorization_of(hub, described, caller))
    asked = question.to_request(models[0], stream=False)
    case = await make_case(hub.dispatcher, asked, question.caller, enhancing=rule.label)
    upstream = explain_upstream(case)
    if case.error is not None:
        told["why_not"] = str(case.error)
    return told | {"cache": case.cache, "upstream": upstream, "about": _ABOUT}
