"""What schemathesis needs to know beside the document: read by way of SCHEMATHESIS_HOOKS."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import schemathesis
from jsonschema_rs import Draft202012Validator

NDJSON = "application/x-ndjson"
EVENTS = "text/event-stream"
MODEL = "standin"
MADE = "mine"
"""What is created and deleted, so that the model stays."""
EXAMPLES = ("llama3.2", "me/llama3.2", "nomic-embed-text")
SERVED: dict[str, Any] = {}
"""The document as the hub serves it."""
READ = ("options", "reasoning")
JOBS = ("/api/pull", "/api/push", "/api/create")


@schemathesis.deserializer(NDJSON, EVENTS)
def frames(context: Any, response: Any) -> list[Any]:
    """The values of all frames of a stream but its end mark."""
    lines = [line.removeprefix("data: ") for line in response.content.decode().split("\n") if line]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Fit the document to this hub: what its upstream has, and that it answers nothing of its own."""
    SERVED.update(copy.deepcopy(raw_schema))
    for response in _responses(raw_schema):
        # Of events schemathesis checks one by one; lines it does not know.
        if (media := response.get("content", {}).get(NDJSON)) is not None:
            media["schema"] = {"type": "array", "minItems": 1, "items": media["schema"]}
    for operation in _operations(raw_schema):
        # Any status would be as documented with it. The stand-in has none but those that are described one by one.
        operation["responses"].pop("default", None)
    for name in ("CreateRequest", "DeleteRequest"):
        _fit(raw_schema["components"]["schemas"].get(name), MADE)
    _fit(raw_schema, MODEL)


REFUSALS = (
    # The document allows what some model at some backend can do; the one asked cannot, and says so.
    r"not support|is supported",
    r"^invalid input type$|Go struct field CompletionRequest.prompt of type string$",
    # A tool without a name is fit for some servers, and deadly for an Ollama.
    r"is missing or empty: an Ollama would",
    # A tool that must be called, without the tool.
    r"^tool_choice needs a tool",
    # Texts that must hold JSON or base64 are drawn without regard to that.
    r"^invalid tool call arguments$|^illegal base64 data",
    # Messages that say nothing, and parts of a kind that the upstream does not know: others take them.
    r"^invalid message content type: <nil>$|^invalid message format$|^invalid image input$",
    # To the hub an empty text is no wish; Ollama, which gets it as it was written, takes it for a wrong one.
    r'^invalid think value: ""',
    # The rest of a job is the upstream's to judge.
    r"^json: cannot unmarshal \w+ into Go struct field (Pull|Push|Create)Request\.",
    r"^neither 'from' or 'files' was specified$",
    # Names are drawn without regard to what a name is, and bytes without regard to their digest.
    r" is invalid$|^invalid model name$|^digest mismatch",
    r"^headers must be an object of names|^method must be an HTTP method|^path must be the path of a URL",
    # 5.0 is an integer in JSON Schema and to the hub, but not to Ollama, and it goes there as it was written.
    r"^json: cannot unmarshal number \S+ into Go struct field \S+ of type int$",
)
"""Words of a 400 to a request that its schema allows."""


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Leave out what is as it should be; everything else stays a failure."""
    words = _error(response)
    match type(failure).__name__:
        case "ServerError" | "RejectedPositiveData" if response.status_code == 500:
            return not _blames_the_request(words, case)
        case "RejectedPositiveData":
            return not (response.status_code == 400 and any(re.search(pattern, words) for pattern in REFUSALS))
        case "AcceptedNegativeData":
            return not _is_good_enough(failure.message, case)
    return True


def _blames_the_request(words: str, case: Any) -> bool:
    """Say whether a 500 is Ollama's, which the hub keeps: for options of a wrong type, and for jobs that failed."""
    return words.startswith('option "') or (case.operation.path in JOBS and words not in ("", "internal error"))


def _is_good_enough(complaint: str, case: Any) -> bool:
    """Say whether what was taken for bad data is none: by the document as it is served, and less what is said here."""
    # An empty header is none; the other headers take any text.
    mode = case.headers.get("X-AgentHub-Api-Mode")
    known = SERVED["components"]["parameters"]["X-AgentHub-Api-Mode"]["schema"]["enum"]
    if "in path" in complaint or (mode and mode not in known):
        return False
    operation = SERVED["paths"][case.operation.path][case.operation.method.lower()]
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return True
    # Types within these are for the reader: upstreams judge options, and overlook those that they do not need.
    body = case.body
    if isinstance(body, dict):
        body = {name: {} if name in READ and isinstance(value, dict) else value for name, value in body.items()}
    schema = {**content["application/json"]["schema"], "components": SERVED["components"]}
    return Draft202012Validator(schema).is_valid(body)


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


def _fit(value: Any, model: str) -> None:
    """Let each request name a model of the stand-in's, else nearly all would end with a 404; say what int64 means."""
    if isinstance(value, list):
        for item in value:
            _fit(item, model)
    if isinstance(value, dict):
        if "llama3.2" in value.get("examples", ()):
            value |= {"examples": [model], "enum": [model]}
        if value.get("format") == "int64":
            value |= {"minimum": -(2**63), "maximum": 2**63 - 1} | value
        if isinstance(example := value.get("example"), dict):
            example |= {name: model for name, given in example.items() if given in EXAMPLES}
        for item in value.values():
            _fit(item, model)
