"""The verbs that change what an Ollama has: pull, push, create, copy, delete, blobs."""

from __future__ import annotations

from collections.abc import Mapping

from agenthub.api.openapi.models import names_model
from agenthub.api.openapi.operation import Answer, Operation
from agenthub.api.openapi.options import STREAM_BY_DEFAULT
from agenthub.api.openapi.schema import Schema, anything, either, given, integer, ref, taken, text

_INSECURE = anything("true: take a registry without TLS.")
_NAME = text("A model's name.", minLength=1, examples=["llama3.2"])
_DIGEST: Mapping[str, Schema] = {
    "digest": text("SHA-256 of the bytes.", pattern="^sha256[:-][0-9a-fA-F]{64}$", examples=[f"sha256:{'0' * 64}"])
}

SCHEMAS: Mapping[str, Schema] = {
    "TransferRequest": names_model({"insecure": _INSECURE, "stream": STREAM_BY_DEFAULT}),
    "CreateRequest": names_model(
        {
            "from": text("The model to start from."),
            "files": {"type": "object", "description": "Digests of blobs by the names of the files."},
            "adapters": {"type": "object", "description": "The same, for LoRA adapters."},
            "template": anything("The template of prompts."),
            "system": anything("The system text."),
            "license": anything("A text or several."),
            "parameters": anything("Options by their names."),
            "messages": anything("A conversation to begin with."),
            "quantize": anything("What to quantise to."),
            "stream": STREAM_BY_DEFAULT,
        }
    ),
    "Progress": given(
        {"status": text("What is being done; `success` at the end.")},
        {
            "digest": text("The layer that it is about."),
            "total": integer("Its bytes."),
            "completed": integer("Bytes done; absent while there are none."),
        },
    ),
    "CopyRequest": taken({"source": _NAME, "destination": _NAME}, {}),
    "DeleteRequest": names_model({}),
}


def _progressing(id: str, summary: str, takes: str, example: Schema) -> Operation:
    content = {"application/json": ref("Progress"), "application/x-ndjson": either(ref("Progress"), ref("OllamaError"))}
    about = "The last status as JSON, or all streamed, one object a line. A stream that breaks ends with an error."
    return Operation(
        id=id,
        summary=summary,
        tag="Ollama",
        takes=ref(takes),
        example={**example, "stream": False},
        answers={200: Answer(about, content)},
        asks=True,
    )


OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/api/pull"): _progressing("pull", "Fetch a model", "TransferRequest", {"model": "llama3.2"}),
    ("POST", "/api/push"): _progressing("push", "Publish a model", "TransferRequest", {"model": "me/llama3.2"}),
    ("POST", "/api/create"): _progressing(
        "create", "Make a model", "CreateRequest", {"model": "mine", "from": "llama3.2", "system": "Be brief."}
    ),
    ("POST", "/api/copy"): Operation(
        id="copy",
        summary="Give a model a second name",
        tag="Ollama",
        takes=ref("CopyRequest"),
        example={"source": "llama3.2", "destination": "mine"},
        answers={200: Answer("Done.")},
        asks=True,
    ),
    ("DELETE", "/api/delete"): Operation(
        id="delete",
        summary="Remove a model",
        tag="Ollama",
        takes=ref("DeleteRequest"),
        example={"model": "mine"},
        answers={200: Answer("Done.")},
        asks=True,
    ),
    ("HEAD", "/api/blobs/{digest}"): Operation(
        id="hasBlob",
        summary="Ask whether a blob is there",
        tag="Ollama",
        path=_DIGEST,
        answers={200: Answer("It is.")},
        asks=True,
    ),
    ("POST", "/api/blobs/{digest}"): Operation(
        id="addBlob",
        summary="Upload a blob",
        about="The bytes go through to the backend as they come.",
        tag="Ollama",
        path=_DIGEST,
        takes=text(format="binary"),
        takes_type="application/octet-stream",
        answers={200: Answer("It was there already."), 201: Answer("It is there now.")},
        asks=True,
    ),
}
