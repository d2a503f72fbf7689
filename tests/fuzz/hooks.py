"""What schemathesis needs to know beside the document: read by way of SCHEMATHESIS_HOOKS."""

from __future__ import annotations

import json
import re
from typing import Any

import schemathesis

NDJSON = "application/x-ndjson"
EVENTS = "text/event-stream"
MODEL = "standin"


@schemathesis.deserializer(NDJSON, EVENTS)
def frames(context: Any, response: Any) -> list[Any]:
    """The values of all frames of a stream but its end mark."""
    lines = [line.removeprefix("data: ") for line in response.content.decode().split("\n") if line]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Fit the document to this hub: what its upstream has, and that it answers nothing of its own."""
    for response in _responses(raw_schema):
        # Of events schemathesis checks one by one; lines it does not know.
        if (media := response.get("content", {}).get(NDJSON)) is not None:
            media["schema"] = {"type": "array", "minItems": 1, "items": media["schema"]}
    for operation in _operations(raw_schema):
        # Any status would be as documented with it. The stand-in has none but those that are described one by one.
        operation["responses"].pop("default", None)
    _fit(raw_schema)


REFUSALS = (
    # The document allows what some model at some backend can do; the one asked cannot, and says so.
    r"not support|is supported",
    r"^invalid input type$|Go struct field CompletionRequest.prompt of type string$",
    # Texts that must hold JSON or base64 are drawn without regard to that.
    r"^invalid tool call arguments$|^illegal base64 data",
    # Messages that say nothing, and parts of a kind that the upstream does not know: others take them.
    r"^invalid message content type: <nil>$|^invalid message format$|^invalid image input$",
    # 5.0 is an integer in JSON Schema and to the hub, but not to Ollama, and it goes there as it was written.
    r"^json: cannot unmarshal number \S+ into Go struct field \S+ of type int$",
)
"""Words of a 400 to a request that its schema allows."""


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Leave out what is as it should be; everything else stays a failure."""
    words = _error(response)
    match type(failure).__name__:
        case "ServerError":
            # Ollama's status for an option of the wrong type, kept by the hub: bad data, and its sender is told so.
            return not (response.status_code == 500 and words.startswith('option "'))
        case "RejectedPositiveData":
            return not (response.status_code == 400 and any(re.search(pattern, words) for pattern in REFUSALS))
        case "AcceptedNegativeData":
            return not _is_good_enough(failure.message, case)
    return True


def _is_good_enough(complaint: str, case: Any) -> bool:
    # Types within these are for the reader: upstreams judge options, and overlook those that they do not need.
    faults = re.findall(r"- (.+)", complaint.partition("Invalid component")[2])
    if faults and all(
        re.search(r"^(options|reasoning) -> |/properties/(options|reasoning)/", fault) for fault in faults
    ):
        return True
    # Any other name is only bad data because of _fit; an adapter that cannot load models says so of each.
    if isinstance(case.body, dict) and case.body.get("model", "") not in ("", None, MODEL) and "model" in complaint:
        return isinstance(case.body["model"], str)
    # An empty header is none.
    return "X-AgentHub-Api-Mode" in complaint and not case.headers.get("X-AgentHub-Api-Mode")


def _error(response: Any) -> str:
    try:
        error = response.json()["error"]
    except (ValueError, LookupError, TypeError):
        return ""
    return str(error["message"] if isinstance(error, dict) else error)


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for methods in document["paths"].values() for operation in methods.values()]


def _responses(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [response for operation in _operations(document) for response in operation["responses"].values()]


def _fit(value: Any) -> None:
    """Let each request name the stand-in's model, else nearly all would end with a 404, and know what int64 means."""
    if isinstance(value, list):
        for item in value:
            _fit(item)
    if isinstance(value, dict):
        if "llama3.2" in value.get("examples", ()):
            value |= {"examples": [MODEL], "enum": [MODEL]}
        if value.get("format") == "int64":
            value |= {"minimum": -(2**63), "maximum": 2**63 - 1} | value
        if isinstance(example := value.get("example"), dict):
            example["model"] = MODEL
        for item in value.values():
            _fit(item)
