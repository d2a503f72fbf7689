"""Holds an answer against what /openapi.json says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from jsonschema import Draft202012Validator

from tests.hubs import Answered

OWN_HEADERS = (
    "x-agenthub-",
    "x-request-id",
    "server-timing",
    "retry-after",
    "x-should-retry",
    "www-authenticate",
    "ratelimit-",
    "x-ratelimit-",
)


@attrs.define
class Described:
    """An OpenAPI document, with its references followed."""

    document: Mapping[str, Any]

    def resolve(self, value: Any) -> Any:
        """Return ``value``, or what it refers to."""
        while isinstance(value, Mapping) and "$ref" in value:
            target = value["$ref"]
            value = self.document
            for step in target.removeprefix("#/").split("/"):
                value = value[step]
        return value

    def operation(self, method: str, path: str) -> Mapping[str, Any]:
        described: Mapping[str, Any] = self.document["paths"][path][method.lower()]
        return described

    def operations(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        """All operations by method and path."""
        return {
            (method.upper(), path): operation
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
        }

    def body_schema(self, method: str, path: str) -> Mapping[str, Any]:
        content = self.operation(method, path)["requestBody"]["content"]
        schema: Mapping[str, Any] = self.resolve(content["application/json"]["schema"])
        return schema

    def complaints(self, schema: Mapping[str, Any], value: object) -> list[str]:
        """What is wrong with ``value``, each with the place where it stands."""
        validator = Draft202012Validator({**schema, "components": self.document["components"]})
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]

    def accepts(self, schema: Mapping[str, Any], value: object) -> bool:
        return not self.complaints(schema, value)

    def check(self, method: str, path: str, answer: Answered, *, status: int, named: bool = True) -> None:
        """Assert that ``answer`` is one that the operation describes; ``named``: under its own status."""
        assert answer.status == status, answer.text
        responses = self.operation(method, path)["responses"]
        assert (str(status) in responses) is named
        response = self.resolve(responses[str(status) if named else "default"])
        self.check_headers(response["headers"], answer)
        if method == "HEAD" or "content" not in response:
            assert answer.body == b""
            return
        content_type = answer.headers["Content-Type"].partition(";")[0]
        schema = response["content"][content_type]["schema"]
        for value in _values(content_type, answer):
            assert self.complaints(schema, value) == [], value

    def check_headers(self, described: Mapping[str, Any], answer: Answered) -> None:
        """Assert that the answer's headers are among the ``described`` ones, and none is missing."""
        known = {name.lower(): self.resolve(header) for name, header in described.items()}
        sent = {name.lower(): value for name, value in answer.headers.items()}
        assert {name for name, header in known.items() if header.get("required")} <= sent.keys()
        assert {name for name in sent if name.startswith(OWN_HEADERS)} <= known.keys()
        for name in known.keys() & sent.keys():
            assert self.complaints(known[name]["schema"], sent[name]) == [], name


def _values(content_type: str, answer: Answered) -> list[Any]:
    if content_type == "application/json":
        return [answer.json()]
    if content_type == "text/plain":
        return [answer.text]
    frames = answer.frames()
    assert frames
    return [frame for frame in frames if frame != "[DONE]"]
