"""What a client makes of an answer: all of it, a part and an error, or an error only."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import attrs

from tests.hubs import error_of

PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}
JSON_TYPE = "application/json"
STREAM_TYPES = {"ollama": "application/x-ndjson", "openai": "text/event-stream"}


@attrs.frozen
class Got:
    """An answer as its client reads it.

    ``end`` is "whole" where the answer ends as its dialect says, "error" where an error in the dialect's shape is its
    last word, else "cut": what no client can tell from an answer, or cannot read at all.
    """

    status: int
    text: str
    end: str
    error: str = ""


def ask_for(dialect: str, model: str, prompt: str, *, streamed: bool, **fields: Any) -> dict[str, Any]:
    """Return the body of a chat request; it looks the same in both dialects but for what ``fields`` adds."""
    return {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": streamed, **fields}


async def read(response: aiohttp.ClientResponse, dialect: str) -> Got:
    """Read an answer to its end."""
    try:
        body = (await response.read()).decode()
    except (aiohttp.ClientError, OSError) as error:
        return Got(response.status, "", "cut", f"{type(error).__name__}: {error}")
    return understand(response.status, response.content_type, body, dialect)


def understand(status: int, content_type: str, body: str, dialect: str) -> Got:
    """Return what an answer says; one that has the wrong shape or type is cut."""
    try:
        if status >= 400:
            return Got(status, "", "error" if content_type == JSON_TYPE else "cut", _error(json.loads(body), dialect))
        if content_type == STREAM_TYPES[dialect]:
            return _lines(status, body) if dialect == "ollama" else _events(status, body)
        message = json.loads(body)
        if dialect == "ollama":
            return Got(status, message["message"]["content"], "whole" if message["done"] is True else "cut")
        (choice,) = message["choices"]
        return Got(status, choice["message"]["content"], "whole" if choice["finish_reason"] else "cut")
    except (ValueError, LookupError, TypeError) as error:
        return Got(status, "", "cut", f"{type(error).__name__} in {body[-300:]!r}")


def _error(body: Any, dialect: str) -> str:
    assert list(body) == ["error"]
    if dialect == "openai":
        assert list(body["error"]) == ["message", "type", "param", "code"]
    return error_of(body)


def _lines(status: int, body: str) -> Got:
    *lines, last = [json.loads(line) for line in body.removesuffix("\n").split("\n")]
    if any(line["done"] for line in lines):
        raise ValueError("an end mark in the middle")
    text = "".join(line["message"]["content"] for line in lines)
    if "error" in last:
        return Got(status, text, "error", _error(last, "ollama"))
    return Got(status, text + last["message"]["content"], "whole" if last["done"] else "cut")


def _events(status: int, body: str) -> Got:
    # Each frame is one line; beside them are comments.
    frames = [line.removeprefix("data: ") for line in body.split("\n") if line.startswith("data: ")]
    *chunks, last = [frame if frame == "[DONE]" else json.loads(frame) for frame in frames]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    is_over = bool(choices) and choices[-1]["finish_reason"] is not None
    if last == "[DONE]":
        return Got(status, text, "whole" if is_over else "cut")
    if "error" in last:
        return Got(status, text, "error", _error(last, "openai"))
    return Got(status, text, "cut")
