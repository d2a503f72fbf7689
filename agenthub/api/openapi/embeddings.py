"""/api/embed, its predecessor /api/embeddings, and /v1/embeddings."""

from __future__ import annotations

from collections.abc import Mapping

from agenthub.api.openapi.operation import Operation, whole
from agenthub.api.openapi.options import KEEP_ALIVE, MODEL
from agenthub.api.openapi.schema import (
    Schema,
    anything,
    array,
    choice,
    either,
    flag,
    given,
    integer,
    number,
    ref,
    taken,
    text,
)

_SHARED: Mapping[str, Schema] = {"options": ref("Options"), "keep_alive": KEEP_ALIVE}
_VECTOR = array(number())

SCHEMAS: Mapping[str, Schema] = {
    "OllamaEmbedRequest": taken(
        {"model": MODEL},
        {
            "input": either(text(), array(text()), about="Without any, the model is only loaded."),
            "truncate": flag("false: fail rather than cut a text that is too long."),
            "dimensions": integer("Shorten the vectors to this many numbers."),
            **_SHARED,
        },
    ),
    "OllamaEmbed": given(
        {"embeddings": array(_VECTOR, "One vector for each text, of length 1.")},
        {
            "model": text("As it was asked for."),
            "total_duration": integer("In nanoseconds."),
            "load_duration": integer(),
            "prompt_eval_count": integer("Tokens of all texts."),
        },
    ),
    "OllamaEmbeddingsRequest": taken(
        {"model": MODEL}, {"prompt": text("Without one, the model is only loaded."), **_SHARED}
    ),
    "OllamaEmbeddings": given({"embedding": _VECTOR}, {}),
    "EmbeddingsRequest": taken(
        {
            "model": MODEL,
            "input": either(
                text(),
                array(text(), minItems=1),
                array(
                    either(integer(), array(integer())),
                    "Tokens; whether they can be sent on depends on the backend.",
                    minItems=1,
                ),
            ),
        },
        {
            "encoding_format": choice("float", "base64", about="base64: the vector as little-endian float32."),
            "dimensions": integer("Shorten the vectors to this many numbers."),
            "user": anything("Who is behind the request."),
            **_SHARED,
        },
    ),
    "Embeddings": given(
        {
            "object": {"const": "list"},
            "data": array(
                given(
                    {
                        "object": {"const": "embedding"},
                        "index": integer(),
                        "embedding": either(_VECTOR, text(contentEncoding="base64")),
                    },
                    {},
                ),
                "In the order of the texts.",
            ),
            "model": text("As it was asked for."),
            "usage": ref("Usage"),
        },
        {},
    ),
}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/api/embed"): Operation(
        id="embed",
        summary="Turn texts into vectors",
        tag="Ollama",
        takes=ref("OllamaEmbedRequest"),
        example={"model": "nomic-embed-text", "input": ["one", "two"]},
        answers=whole(ref("OllamaEmbed")),
        asks=True,
    ),
    ("POST", "/api/embeddings"): Operation(
        id="embedLegacy",
        summary="Turn a text into a vector, the older way",
        about="The vector is not brought to length 1.",
        tag="Ollama",
        takes=ref("OllamaEmbeddingsRequest"),
        example={"model": "nomic-embed-text", "prompt": "one"},
        answers=whole(ref("OllamaEmbeddings")),
        asks=True,
    ),
    ("POST", "/v1/embeddings"): Operation(
        id="createEmbedding",
        summary="Turn texts into vectors",
        tag="OpenAI",
        takes=ref("EmbeddingsRequest"),
        example={"model": "nomic-embed-text", "input": ["one", "two"]},
        answers=whole(ref("Embeddings")),
        asks=True,
    ),
}
