"""What the hub says of itself: /health, /ready, /openapi.json."""

from __future__ import annotations

from collections.abc import Mapping

from agenthub.api.openapi.operation import Answer, Operation, whole
from agenthub.api.openapi.schema import Schema, choice, given, ref, text

SCHEMAS: Mapping[str, Schema] = {
    "Health": given({"status": {"const": "ok"}}, {}),
    "Readiness": given(
        {
            "status": choice("ready", "unavailable", "stopping"),
            "backends": {
                "type": "object",
                "description": "`ok` or what is wrong, by the names of the backends.",
                "additionalProperties": text(),
            },
        },
        {},
    ),
}
_READINESS: Mapping[str, Schema] = {"application/json": ref("Readiness")}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/health"): Operation(
        id="health",
        summary="Tell whether the process is up",
        tag="AgentHub",
        answers=whole(ref("Health"), "It is."),
        is_open=True,
    ),
    ("GET", "/ready"): Operation(
        id="ready",
        summary="Tell whether requests can be answered",
        tag="AgentHub",
        answers={200: Answer("At least one backend answers.", _READINESS), 503: Answer("None does.", _READINESS)},
        fails=(508,),
        is_open=True,
    ),
    ("GET", "/openapi.json"): Operation(
        id="openapi",
        summary="Describe this API",
        tag="AgentHub",
        answers=whole({"type": "object", "required": ["openapi", "info", "paths"]}, "This document."),
    ),
}
