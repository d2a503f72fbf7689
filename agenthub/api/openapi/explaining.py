"""What the hub says of its own doings: /hub/explain."""

from __future__ import annotations

from collections.abc import Mapping

from agenthub.api.openapi.operation import Operation, whole
from agenthub.api.openapi.schema import (
    Schema,
    anything,
    array,
    choice,
    either,
    flag,
    given,
    integer,
    or_null,
    ref,
    taken,
    text,
)

_TEXTS = array(text())
_HEADERS: Schema = {
    "type": "object",
    "description": "Texts, or lists of texts, by the names of the headers. Host is that of this request if left out.",
    "additionalProperties": either(text(), array(text())),
}

SCHEMAS: Mapping[str, Schema] = {
    "ExplainRequest": taken(
        {"path": text("As in /v1/chat/completions; it may have a query.", pattern="^/", examples=["/api/chat"])},
        {
            "method": text("POST, if left out."),
            "headers": _HEADERS,
            "body": anything("A text stands for its own bytes, any other JSON for the bytes that it is written in."),
        },
        additionalProperties=False,
    ),
    "ExplainedAnswer": given(
        {
            "status": or_null(integer("What the client would get, null where the upstream decides.")),
            "by": choice("hub", "cache", "backend", about="Whose answer it would be."),
            "body": anything("The error's body, in the dialect of the path; else null."),
        },
        {
            "why": text("Why there would be no body."),
            "headers": {"type": "object", "additionalProperties": text()},
        },
    ),
    "ExplainedClient": given(
        {"name": or_null(text()), "known_by": or_null(text("By what, never the key itself."))},
        {
            "is_configured": flag(),
            "strict": flag(),
            "requests_per_minute": integer("0: any number. How many are left is not looked at."),
            "max_concurrency": integer("0: any number."),
            "models": _TEXTS,
            "operations": _TEXTS,
        },
    ),
    "ExplainedModel": given(
        {
            "asked": text(),
            "alias": or_null(text()),
            "upstream": text("What the backend is asked for."),
            "options": {"type": "object", "description": "What the alias adds."},
            "why": text(),
        },
        {},
    ),
    "ExplainedCandidate": given(
        {
            "backend": text(),
            "place": or_null(integer("In the line of those that may answer, from 1; null for one that may not.")),
            "is_asked": flag("true for the one that would be asked now."),
            "for": _TEXTS,
            "against": _TEXTS,
            "breaker": or_null(given({"state": choice("closed", "open", "half_open"), "failures": integer()}, {})),
            "queue": given(
                {name: integer() for name in ("in_flight", "max_concurrency", "waiting", "queue_size")},
                {},
            ),
        },
        {},
    ),
    "ExplainedMode": given(
        {
            "mode": text("The kind of the adapter."),
            "wished": text("The same, or `auto`."),
            "level": choice("request", "client", "model", "backend", "hub", "default"),
            "rule": text("Where it is said.", examples=["clients.vscode.api_mode"]),
        },
        {"weighed": array({"type": "object"}, "What `auto` has compared, the best first.")},
    ),
    "ExplainedLoss": given(
        {"field": text(), "fate": choice("dropped", "rejected", "noted"), "reason": text()},
        {},
    ),
    "ExplainedEnhancement": given(
        {
            "is_wanted": flag("X-Enhance or the client's settings ask for it."),
            "rule": text(examples=["vscode@1"]),
            "models": array(text(), "Those that would be asked, one after the other."),
            "why_not": or_null(text("Why the prompt stays as it is, where that is known.")),
            "cache": or_null(text("What the cache has of the rewritten prompt.")),
            "upstream": or_null(ref("ExplainedUpstream")),
            "about": or_null(text()),
        },
        {},
    ),
    "ExplainedCache": given(
        {
            "is_cacheable": flag(),
            "why": text(),
            "key": or_null(text()),
            "now": choice("hit", "shared", "miss", "bypass"),
        },
        {},
    ),
    "ExplainedUpstream": given(
        {
            "is_sent": flag("false where the answer is there already: then the requests are those of a miss."),
            "requests": array(
                given(
                    {
                        "backend": text(),
                        "method": text(),
                        "url": text(),
                        "headers": array(array(text()), "Names and values; secrets are stars."),
                        "body": or_null(text()),
                        "is_certain": flag("false: it hangs on the answer to the one before."),
                    },
                    {"body_base64": text("Where the body is no UTF-8."), "about": text()},
                )
            ),
        },
        {
            "backend": text(),
            "api_mode": text(),
            "open_end": or_null(text("Why there may be more requests than these.")),
        },
    ),
    "Explanation": given(
        {
            "request": given({"method": text(), "path": text(), "dialect": choice("ollama", "openai")}, {}),
            "answer": ref("ExplainedAnswer"),
            "client": ref("ExplainedClient"),
        },
        {
            "model": or_null(ref("ExplainedModel")),
            "candidates": or_null(array(ref("ExplainedCandidate"))),
            "api_mode": or_null(ref("ExplainedMode")),
            "losses": or_null({"type": "object", "additionalProperties": or_null(array(ref("ExplainedLoss")))}),
            "enhancement": or_null(ref("ExplainedEnhancement")),
            "cache": or_null(ref("ExplainedCache")),
            "upstream": or_null(ref("ExplainedUpstream")),
        },
    ),
}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/hub/explain"): Operation(
        id="explain",
        summary="Tell what would become of a request, and why",
        tag="AgentHub",
        about="No model is asked, no place is taken and nothing is counted or kept. Where clients have keys, a request "
        "that shows none is explained in the name of whoever asks; one that shows a key, in the name of its owner.",
        takes=ref("ExplainRequest"),
        example={"path": "/api/chat", "body": {"model": "llama3.2", "messages": [{"role": "user", "content": "Hi"}]}},
        answers=whole(ref("Explanation")),
        fails=(400, 408, 413, 503),
    ),
}
