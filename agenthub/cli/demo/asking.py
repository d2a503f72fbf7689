"""A client of the hub, in plain aiohttp: one question, in the dialect of Ollama or of OpenAI."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import attrs

# The demo is to be brief on a slow machine too.
MAX_TOKENS = 100


@attrs.frozen
class Lane:
    """One way through the hub: what the client speaks, and the adapter on the other side."""

    dialect: str
    path: str
    api_mode: str


LANES = (
    Lane("Ollama", "/api/chat", "native"),
    Lane("Ollama", "/api/chat", "openai"),
    Lane("OpenAI", "/v1/chat/completions", "native"),
    Lane("OpenAI", "/v1/chat/completions", "openai"),
)


@attrs.frozen
class Answer:
    """What came back, with its times in seconds; ``cache`` is the hub's X-AgentHub-Cache."""

    cache: str
    tokens: int
    first_s: float
    total_s: float


class NoAnswer(Exception):
    """The hub or the model server refused or broke off; ``str()`` says why."""


async def ask(
    session: aiohttp.ClientSession,
    lane: Lane,
    model: str,
    question: str,
    on_text: Callable[[str], None],
    *,
    temperature: float | None = None,
) -> Answer:
    """Ask through ``lane`` and hand each piece of the answer to ``on_text`` as it arrives; raises NoAnswer."""
    body = make_body(lane, model, question, temperature)
    started = time.perf_counter()
    first_s, tokens = 0.0, 0
    try:
        async with session.post(lane.path, json=body, headers={"X-AgentHub-Api-Mode": lane.api_mode}) as response:
            async for event in read_events(response):
                if "error" in event:
                    raise NoAnswer(error_text(event["error"]))
                first_s = first_s or time.perf_counter() - started
                tokens = count_tokens(event) or tokens
                on_text(text_of(event))
            return Answer(response.headers["X-AgentHub-Cache"], tokens, first_s, time.perf_counter() - started)
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
        raise NoAnswer(repr(error)) from error


def make_body(lane: Lane, model: str, question: str, temperature: float | None) -> dict[str, Any]:
    """Return the request for a streamed answer; without a temperature it is the model's own, and not cached."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": question}], "stream": True}
    sampling = {} if temperature is None else {"temperature": temperature}
    if lane.dialect == "Ollama":
        return body | {"options": {"num_predict": MAX_TOKENS, **sampling}}
    return body | {"max_tokens": MAX_TOKENS, "stream_options": {"include_usage": True}, **sampling}


async def read_events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Yield the objects of a stream: Ollama sends one a line, OpenAI one after each ``data:``."""
    async for line in response.content:
        text = line.decode().strip().removeprefix("data:").strip()
        if text and text != "[DONE]":
            yield json.loads(text)


def text_of(event: dict[str, Any]) -> str:
    """Return the text in one event of either dialect, thoughts included."""
    message: dict[str, Any] = event.get("message") or next((each["delta"] for each in event.get("choices", ())), {})
    return message.get("content") or message.get("thinking") or message.get("reasoning") or ""


def count_tokens(event: dict[str, Any]) -> int:
    """Return the length of the answer where an event tells it, else 0."""
    usage = event.get("usage") or {}
    return int(event.get("eval_count") or usage.get("completion_tokens") or 0)


def error_text(error: Any) -> str:
    """Return the words of an error: a text in Ollama's dialect, an object in OpenAI's."""
    return str(error.get("message") if isinstance(error, dict) else error)
