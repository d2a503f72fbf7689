"""Prompts put better: /hub/enhance, /hub/enhancement."""

from __future__ import annotations

from collections.abc import Mapping

from agenthub.api.openapi.headers import RATES
from agenthub.api.openapi.operation import Answer, Operation, whole
from agenthub.api.openapi.schema import Schema, array, either, flag, given, integer, number, or_null, ref, taken, text

_RULE: Mapping[str, Schema] = {
    "enabled": flag("false: prompts stay as they are."),
    "model": text("What rewrites; empty: the model that the request asks for, else that of the settings."),
    "fallback_models": array(text(), "Asked one after the other where that one fails."),
    "system_prompt": text("What the model is told; `{client}` stands for the client's name."),
    "temperature": number(),
    "max_tokens": integer("Longest rewritten prompt; one that is cut is not used."),
    "think": either(flag(), text(), about="Whether it thinks first; empty: as the model does."),
    "timeout_s": number("Longest wait for all models together; 0: no limit."),
    "skip_shorter_than": integer("Shorter prompts stay as they are."),
    "skip_longer_than": integer("Longer prompts stay as they are; 0: no limit."),
    "version": text("The version of the rule."),
}

SCHEMAS: Mapping[str, Schema] = {
    "EnhanceRequest": taken(
        {"prompt": text("The prompt.", examples=["write something about cats"])},
        {
            "client": text(
                "Whose rule is meant, as by X-Client-Name. Where clients have keys, no other than the key's.",
                minLength=1,
                maxLength=128,
            ),
            "model": text("Ask this model and no other. Without one that of the rule, else that of the settings."),
            "stream": flag("true: tell the prompt as it is written. false by default."),
            "bypass_cache": flag("true: ask anew; the answer takes the place of the kept one."),
        },
    ),
    "Enhancement": given(
        {
            "original": text("The prompt as it was."),
            "enhanced": text("The prompt put better; as it was where `was_enhanced` is false."),
            "was_enhanced": flag(),
            "rule": text("The rule's name: the client's, or `default`."),
            "rule_version": text(),
            "model": or_null(text("What answered; null where none did, or where a plugin enhances.")),
            "cached": flag("True of a kept answer."),
            "elapsed_s": number("Seconds that it took."),
            "usage": or_null(given({"prompt_tokens": integer(), "completion_tokens": integer()}, {})),
            "error": or_null(text("Why the prompt is as it was; null where it is not.")),
        },
        {},
    ),
    "EnhancementDelta": given({"delta": text("The next piece; pieces may turn out wrong.")}, {}),
    "EnhancementRule": given(_RULE, {}),
    "EnhancementRules": given(
        {
            "file": or_null(text("Where the rules stand; null: nowhere, so that the built-in rule is the default.")),
            "clients": {
                "type": "object",
                "description": "The rules by the names of the clients, with what they inherit.",
                "additionalProperties": ref("EnhancementRule"),
            },
            "auto_enhance": array(text(), "The clients all of whose prompts are put better."),
        },
        {
            "default": ref("EnhancementRule"),
            "built_in": flag("True where `default` is the rule that the hub brings along."),
        },
    ),
}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/hub/enhance"): Operation(
        id="enhance",
        summary="Put a prompt better",
        tag="AgentHub",
        about="By the rule for the client. Whatever keeps the hub from it, the answer is a 200 with the prompt as it "
        "was and the reason: the rule is off, there is no such model, its backend fails, the answer is empty, endless "
        "or late, the client is over its limit. The client needs the rights that a chat with the model needs.",
        takes=ref("EnhanceRequest"),
        example={"prompt": "write something about cats", "client": "chat"},
        answers={
            200: Answer(
                "The result; streamed, deltas and then the result, one object a line. Only the last line counts.",
                {
                    "application/json": ref("Enhancement"),
                    "application/x-ndjson": either(ref("EnhancementDelta"), ref("Enhancement")),
                },
            )
        },
        hears=("X-Client-Name", "X-AgentHub-Api-Mode", "Cache-Control"),
        tells=tuple(RATES["ollama"]),
        fails=(400, 408, 413, 503),
    ),
    ("GET", "/hub/enhancement"): Operation(
        id="enhancement",
        summary="Show the rules for prompts",
        tag="AgentHub",
        about="A client with a key sees the rule for itself, unless it may manage models as well.",
        answers=whole(ref("EnhancementRules"), "The rules in force."),
    ),
}
