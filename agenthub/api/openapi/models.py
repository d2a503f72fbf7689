"""What there is: /, /api/version, /api/tags, /api/ps, /api/show, /v1/models."""

from __future__ import annotations

from collections.abc import Mapping

from agenthub.api.openapi.operation import Answer, Operation, whole
from agenthub.api.openapi.schema import Schema, anything, array, given, integer, or_null, ref, taken, text

_MODEL = text("A model's name or an alias.", minLength=1, examples=["llama3.2"])


def names_model(optional: Mapping[str, Schema]) -> Schema:
    """The body of a verb that takes ``model`` or, as of old, ``name``."""
    ways = [{"required": [name], "properties": {name: _MODEL}} for name in ("model", "name")]
    named = {"model": text(_MODEL["description"]), "name": text("The old word for model.")}
    return taken({}, {**named, **optional}, anyOf=ways)


SCHEMAS: Mapping[str, Schema] = {
    "Version": given({"version": text("Of an Ollama behind the hub, or one that editors accept.")}, {}),
    "ModelDetails": given(
        {},
        {
            "parent_model": text(),
            "format": text(),
            "family": text(),
            "families": or_null(array(text())),
            "parameter_size": text(),
            "quantization_level": text(),
        },
    ),
    "Tags": given(
        {
            "models": array(
                given(
                    {"name": text(), "model": text("The same as name.")},
                    {
                        "modified_at": text(format="date-time"),
                        "size": integer("In bytes."),
                        "digest": text(),
                        "details": ref("ModelDetails"),
                        "capabilities": array(text()),
                    },
                )
            )
        },
        {},
    ),
    "Running": given(
        {
            "models": array(
                given(
                    {},
                    {
                        "name": text(),
                        "model": text(),
                        "size": integer("In bytes."),
                        "digest": text(),
                        "details": ref("ModelDetails"),
                        "expires_at": text(format="date-time"),
                        "size_vram": integer("In bytes."),
                        "context_length": integer("In tokens."),
                    },
                )
            )
        },
        {},
    ),
    "ShowRequest": names_model({"verbose": anything("true: long lists in full.")}),
    "Show": given(
        {"model_info": {"type": "object"}, "capabilities": array(text())},
        {
            "details": ref("ModelDetails"),
            "modelfile": text(),
            "parameters": text("Lines of a key and a value."),
            "template": text(),
            "system": text(),
            "license": text(),
            "modified_at": text(format="date-time"),
        },
    ),
    "Model": given(
        {
            "id": text(),
            "object": {"const": "model"},
            "created": integer("Unix time."),
            "owned_by": text(),
        },
        {},
    ),
    "Models": given({"object": {"const": "list"}, "data": array(ref("Model"))}, {}),
}

# Lists are asked of all backends, and fail only where no backend answers and none ever did.
_LISTING = (500, 502, 504)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/"): Operation(
        id="root",
        summary="Say what Ollama says",
        tag="Ollama",
        answers={200: Answer("The process is up.", {"text/plain": {"const": "Ollama is running"}})},
    ),
    ("GET", "/api/version"): Operation(
        id="version",
        summary="Tell the version of Ollama",
        tag="Ollama",
        answers=whole(ref("Version")),
    ),
    ("GET", "/api/tags"): Operation(
        id="listTags",
        summary="List the models of all backends",
        tag="Ollama",
        answers=whole(ref("Tags")),
        fails=_LISTING,
    ),
    ("GET", "/api/ps"): Operation(
        id="listRunning",
        summary="List the models in memory",
        tag="Ollama",
        answers=whole(ref("Running")),
        fails=_LISTING,
    ),
    ("POST", "/api/show"): Operation(
        id="show",
        summary="Describe a model",
        tag="Ollama",
        takes=ref("ShowRequest"),
        example={"model": "llama3.2"},
        answers=whole(ref("Show")),
        asks=True,
    ),
    ("GET", "/v1/models"): Operation(
        id="listModels",
        summary="List the models of all backends",
        tag="OpenAI",
        answers=whole(ref("Models")),
        fails=_LISTING,
    ),
    ("GET", "/v1/models/{id}"): Operation(
        id="retrieveModel",
        summary="Describe a model",
        tag="OpenAI",
        path={"id": text("The model's id; its slashes may be encoded or not.", minLength=1, examples=["llama3.2"])},
        answers=whole(ref("Model")),
        fails=(404, 503, *_LISTING),
    ),
}
