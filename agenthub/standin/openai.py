"""The OpenAI-compatible API as Ollama has it: /v1/chat/completions, /v1/completions and /v1/embeddings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import catalogue, chunks
from .answers import JSON, Refusal, Stream, Whole, dumps
from .body import BOOL, FLOAT, INT, STRING, mismatch, parse
from .native import embed_input
from .reply import Ask, Message, Reply, compose, pieces, vector
from .state import Standin

_FLOATS = ("temperature", "top_p", "frequency_penalty", "presence_penalty")
_COMMON = {"model": STRING, "stream": BOOL, "max_tokens": INT, "seed": INT} | dict.fromkeys(_FLOATS, FLOAT)
_CHAT = {**_COMMON, "messages": ((list,), "[]openai.Message"), "tools": ((list,), "[]api.Tool")}
_COMPLETION = {**_COMMON, "prompt": STRING, "suffix": STRING}
_EMBED = {"model": STRING, "dimensions": INT}
_IMAGES = tuple(f"data:{kind};base64," for kind in ("", "image/jpeg", "image/jpg", "image/png", "image/webp"))


def chat(standin: Standin, data: bytes, streamed: bool | None) -> Whole | Stream:
    """POST /v1/chat/completions.

    ``max_completion_tokens`` counts where ``max_tokens`` is absent, and an agent obeys ``tool_choice``, as many servers
    do; Ollama ignores both.
    """
    body = parse(data, "openai.ChatCompletionRequest", _CHAT, early=True)
    messages = [message for item in body.get("messages", ()) for message in _messages(item)]
    if not messages:
        raise Refusal(400, "[] is too short - 'messages'", early=True)
    if not body.get("model"):
        raise Refusal(400, "model is required")
    ask = _ask(standin, body, messages, streamed, "chat")
    return chunks.chat(_facts(standin, body, ask, compose(standin, ask)))


def completions(standin: Standin, data: bytes, streamed: bool | None) -> Whole | Stream:
    """POST /v1/completions; an empty prompt only loads the model, with finish_reason "load"."""
    body = parse(data, "openai.CompletionRequest", _COMPLETION, early=True)
    prompt = body.get("prompt", "")
    ask = _ask(standin, body, [Message("user", prompt)], streamed, "generate")
    reply = compose(standin, ask) if prompt else Reply((), (), (), "load", 0, 0)
    return chunks.completion(_facts(standin, body, ask, reply))


def embeddings(standin: Standin, data: bytes, _streamed: bool | None) -> Whole:
    """POST /v1/embeddings; as 0.9.3 it ignores ``encoding_format`` and ``dimensions``."""
    body = parse(data, "openai.EmbedRequest", _EMBED, early=True)
    form = "float" if standin.old else str(body.get("encoding_format", "float")).lower()
    if form not in ("float", "base64"):
        words = f"Invalid value for 'encoding_format' = {form}. Supported values: ['float', 'base64']."
        raise Refusal(400, words, early=True)
    if body.get("input") in (None, []):
        raise Refusal(400, "invalid input", early=True)
    texts = embed_input(body["input"])
    name = body.get("model", "")
    catalogue.load(standin, catalogue.require(standin, name, pulling=True), unload=False)
    size = 0 if standin.old else body.get("dimensions", 0)
    vectors = [vector(text, size) for text in texts]
    rows = [
        {"object": "embedding", "embedding": chunks.in_base64(row) if form == "base64" else row, "index": index}
        for index, row in enumerate(vectors)
    ]
    count = sum(len(pieces(text)) for text in texts)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return Whole(dumps({"object": "list", "data": rows, "model": name, "usage": usage}) + b"\n", content_type=JSON)


def error(standin: Standin, status: int, message: str, *, early: bool) -> bytes:
    """Return the error object; 0.9.3 says ``api_error`` to all but what the /v1 layer refuses itself."""
    kinds = {400: "invalid_request_error", 404: "not_found_error"}
    kind = "api_error" if standin.old and not early else kinds.get(status, "api_error")
    body = dumps({"error": {"message": message, "type": kind, "param": None, "code": None}})
    return body if early else body + b"\n"


def _ask(
    standin: Standin, body: Mapping[str, Any], messages: Sequence[Message], streamed: bool | None, verb: str
) -> Ask:
    name = body.get("model", "")
    chatting = verb == "chat"
    think = chatting and not standin.old and body.get("reasoning_effort") not in (None, "none")
    wants = {"thinking": think, "tools": chatting and body.get("tools"), "insert": body.get("suffix")}
    model = catalogue.require(standin, name, pulling=standin.old and chatting)
    catalogue.require_able(standin, model, name, verb, [need for need, wanted in wants.items() if wanted])
    catalogue.load(standin, model, unload=False)
    stop = body.get("stop", ())
    limit = body.get("max_tokens", body.get("max_completion_tokens", 0))
    return Ask(
        model=model,
        name=name,
        messages=messages,
        stream=body.get("stream", False) if streamed is None else streamed,
        limit=max(0, limit) if isinstance(limit, int) else 0,
        stop=[stop] if isinstance(stop, str) else [word for word in stop if isinstance(word, str)],
        form=_form(body.get("response_format")),
        tools=body.get("tools", ()),
        choice=body.get("tool_choice"),
        think=think,
    )


def _facts(standin: Standin, body: Mapping[str, Any], ask: Ask, reply: Reply) -> chunks.Facts:
    options = body.get("stream_options")
    return chunks.Facts(
        ask=ask,
        reply=reply,
        serial=standin.next_serial(),
        created=standin.clock() // 1_000_000_000,
        old=standin.old,
        usage=isinstance(options, dict) and bool(options.get("include_usage")),
    )


def _form(response_format: object) -> object:
    if not isinstance(response_format, dict):
        return None
    if response_format.get("type") == "json_schema":
        return (response_format.get("json_schema") or {}).get("schema")
    return "json" if response_format.get("type") == "json_object" else None


def _messages(item: object) -> Iterator[Message]:
    """Yield one message for a text, and one for each part of a list, as Ollama does."""
    if not isinstance(item, dict):
        raise mismatch("openai.ChatCompletionRequest", "messages", item, "openai.Message", early=True)
    role, content = str(item.get("role", "")).lower(), item.get("content")
    for call in item.get("tool_calls") or ():
        _check_arguments(call)
    if isinstance(content, str):
        yield Message(role, content)
    elif isinstance(content, list):
        yield from (Message(role, _part(part)) for part in content)
    elif content is not None:
        raise Refusal(400, "invalid message format", early=True)
    elif item.get("tool_calls"):
        yield Message(role, "")
    else:
        raise Refusal(400, "invalid message content type: <nil>", early=True)


def _part(part: object) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if isinstance(part, dict) and kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        if not str(url).startswith(_IMAGES):
            raise Refusal(400, "invalid image input", early=True)
        return ""
    raise Refusal(400, "invalid message format", early=True)


def _check_arguments(call: object) -> None:
    function = call.get("function") if isinstance(call, dict) else None
    arguments = function.get("arguments") if isinstance(function, dict) else None
    try:
        good = isinstance(arguments, str) and isinstance(json.loads(arguments), dict)
    except ValueError:
        good = False
    if not good:
        raise Refusal(400, "invalid tool call arguments", early=True)
