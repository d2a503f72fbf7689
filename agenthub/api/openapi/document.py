"""The document: the routes that there are, with what is said of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agenthub.api.context import dialect_of
from agenthub.api.openapi import (
    embeddings,
    enhancing,
    errors,
    explaining,
    managing,
    models,
    ollama_text,
    openai_chat,
    openai_text,
    options,
    watching,
)
from agenthub.api.openapi.headers import (
    RATES,
    RESPONSE_HEADERS,
    SECURITY_SCHEMES,
    TELLING,
    header_refs,
    make_parameters,
    parameter_refs,
)
from agenthub.api.openapi.operation import Operation
from agenthub.api.openapi.schema import Schema

_DESCRIBED = (ollama_text, openai_chat, openai_text, embeddings, models, managing, enhancing, explaining, watching)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    route: operation for module in _DESCRIBED for route, operation in module.OPERATIONS.items()
}
"""What is said of each method and path, also of routes that are still to come."""

_SCHEMAS: Mapping[str, Schema] = {
    name: schema for module in (*_DESCRIBED, options, errors) for name, schema in module.SCHEMAS.items()
}

_ABOUT = """\
One gateway in front of every model server you run. Clients speak Ollama's API (`/api/*`) or OpenAI's (`/v1/*`); the
backend may speak either.

Members of a request that are not described here are passed on where the backend's API has a place for them; else the
request is refused, or they are left out and named in the header `X-AgentHub-Dropped`. Bodies are read as JSON whatever
their Content-Type says. A GET answers HEAD as well. A request whose `Via` says that it has come back to a hub that sent
it, or through too many of them, is a 508 on every path but `/health`; the lists tell another hub in `X-AgentHub-Loops`
by which backends its request would have come back. A path that does not exist is a 404, another method a 405 with
Allow, in the shape of the path's dialect. The schema of a streamed answer is that of each of its frames.

Where any client of the settings has a key, every request needs one, and X-Client-Name no longer says who asks. Answers
to a web page that may call carry Access-Control-Allow-Origin, and its preflights (OPTIONS) are a 204 on every path.
"""
_TAGS = {
    "Ollama": "What clients of Ollama ask.",
    "OpenAI": "What clients of OpenAI's API ask.",
    "AgentHub": "What the hub says of itself.",
}


def make_document(routes: Iterable[tuple[str, str]], api_modes: Sequence[str], version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of ``routes`` (method and aiohttp's path) as JSON values.

    ``api_modes`` are the kinds of the installed adapters. Raises LookupError for a route that nothing is said of.
    """
    paths: dict[str, dict[str, Any]] = {}
    for method, route in routes:
        path = plain_path(route)
        if (method, path) not in OPERATIONS:
            raise LookupError(f"{method} {path} is described nowhere in agenthub.api.openapi")
        paths.setdefault(path, {})[method.lower()] = _render(OPERATIONS[method, path], dialect_of(path))
    responses = errors.make_responses()
    used = set(_refs(paths))
    kept = {name: value for name, value in responses.items() if f"#/components/responses/{name}" in used}
    return {
        "openapi": "3.1.0",
        "info": {"title": "AgentHub", "version": version, "description": _ABOUT, "license": {"name": "MIT"}},
        "tags": [{"name": name, "description": about} for name, about in _TAGS.items()],
        "security": [{}, {"bearer": []}, {"key": []}],
        "paths": paths,
        "components": {
            "schemas": _reachable([paths, kept]),
            "responses": kept,
            "headers": RESPONSE_HEADERS,
            "parameters": make_parameters(api_modes),
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def plain_path(route: str) -> str:
    """Return aiohttp's path without the patterns of its variables."""
    return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", route)


def _render(operation: Operation, dialect: str) -> dict[str, Any]:
    path = [{"name": name, "in": "path", "required": True, "schema": schema} for name, schema in operation.path.items()]
    statuses = {*operation.fails, *(errors.ASKING if operation.asks else ())}
    guarded = () if operation.is_open else errors.GUARDED
    rendered: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": path + parameter_refs(operation.asks, operation.hears),
        "responses": _answers(operation, dialect)
        | errors.error_refs(dialect, {*statuses, *guarded}, any_other=bool(statuses - {*errors.GUARDED})),
    }
    if operation.is_open:
        rendered["security"] = []
    if operation.about:
        rendered["description"] = operation.about
    if operation.takes is not None:
        example = {"example": operation.example} if operation.example is not None else {}
        rendered["requestBody"] = {
            "required": True,
            "content": {operation.takes_type: {"schema": operation.takes, **example}},
        }
    return rendered


def _answers(operation: Operation, dialect: str) -> dict[str, Any]:
    told = (*TELLING, *RATES[dialect]) if operation.asks else ("X-Request-Id",)
    headers = header_refs((*told, *operation.tells))
    return {
        str(status): {
            "description": answer.about,
            "headers": headers,
            **(
                {"content": {kind: {"schema": schema} for kind, schema in answer.content.items()}}
                if answer.content
                else {}
            ),
        }
        for status, answer in operation.answers.items()
    }


def _reachable(value: Any) -> dict[str, Schema]:
    """Return the schemas that ``value`` refers to, and those that they refer to."""
    prefix, found = "#/components/schemas/", dict[str, Schema]()
    wanted = list(_refs(value))
    while wanted:
        target = wanted.pop()
        name = target.removeprefix(prefix)
        if target.startswith(prefix) and name not in found:
            found[name] = _SCHEMAS[name]
            wanted += _refs(found[name])
    return dict(sorted(found.items()))


def _refs(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(target := value.get("$ref"), str):
            yield target
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _refs(item)
