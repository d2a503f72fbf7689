"""The native API: /api/chat, /api/generate, /api/embed and /api/embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from . import catalogue
from .answers import NDJSON, Refusal, Stream, Whole, dumps, quoted
from .body import BOOL, INT, STRING, check_format, check_options, mismatch, parse, unloads
from .reply import Ask, Call, Message, Reply, compose, pieces, raw_vector, vector
from .state import CONTEXT_LENGTH, Model, Standin

_THINK = (False, True, "low", "medium", "high", "max")
_OPTIONS = {"model": STRING, "stream": BOOL, "options": ((dict,), "map[string]interface {}")}
_CHAT = {**_OPTIONS, "messages": ((list,), "[]api.Message"), "tools": ((list,), "api.Tools")}
_TEXTS = {"prompt": STRING, "system": STRING, "template": STRING, "suffix": STRING}
_GENERATE = {**_OPTIONS, **_TEXTS, "raw": BOOL}
_EMBED = {**_OPTIONS, "dimensions": INT, "truncate": BOOL}


@attrs.frozen
class Shape:
    """The bytes around a token: ``opening`` follows ``created_at``, ``closing`` ends the line."""

    opening: bytes
    closing: bytes


CHAT = Shape(b'","message":{"role":"assistant","content":', b'},"done":false}\n')
GENERATE = Shape(b'","response":', b',"done":false}\n')


def chat(standin: Standin, data: bytes, streamed: bool | None) -> Whole | Stream:
    """POST /api/chat."""
    body = parse(data, "api.ChatRequest", _CHAT)
    messages = [_message(item) for item in body.get("messages", ())]
    name = body.get("model", "")
    if not name:
        raise Refusal(400, "model is required")
    model = catalogue.require(standin, name, pulling=standin.old)
    empty = {"message": {"role": "assistant", "content": ""}}
    needs = ["tools"] if body.get("tools") else []
    idle = _load(standin, body, model, "chat", needs, empty if not messages else None)
    return idle or _answer(standin, _ask(body, model, messages, streamed), CHAT, context=False)


def generate(standin: Standin, data: bytes, streamed: bool | None) -> Whole | Stream:
    """POST /api/generate."""
    body = parse(data, "api.GenerateRequest", _GENERATE)
    model = catalogue.require(standin, body.get("model", ""), pulling=False)
    raw = bool(body.get("raw"))
    if raw and (body.get("template") or body.get("system") or body.get("context")):
        raise Refusal(400, "raw mode does not support template, system, or context")
    prompt = body.get("prompt", "")
    needs = ["insert"] if body.get("suffix") else []
    idle = _load(standin, body, model, "generate", needs, {"response": ""} if not prompt else None)
    system = [Message("system", body["system"])] if body.get("system") else []
    messages = [*system, Message("user", prompt)]
    return idle or _answer(standin, _ask(body, model, messages, streamed), GENERATE, context=not raw)


def embed(standin: Standin, data: bytes, _streamed: bool | None) -> Whole:
    """POST /api/embed."""
    body = parse(data, "api.EmbedRequest", _EMBED)
    began = standin.clock()
    name = body.get("model", "")
    texts = embed_input(body.get("input", ""))
    model = catalogue.require(standin, name, pulling=True)
    catalogue.load(standin, model, unload=unloads(body))
    if body.get("input", "") == "":
        return Whole(dumps({"model": name, "embeddings": []}))
    counts = [len(pieces(text)) for text in texts]
    if max(counts, default=0) > CONTEXT_LENGTH and body.get("truncate") is False:
        old = "input length exceeds maximum context length"
        raise Refusal(400, old if standin.old else "the input length exceeds the context length")
    answer: dict[str, Any] = {"model": name, "embeddings": [vector(text, body.get("dimensions", 0)) for text in texts]}
    if texts:
        took = max(1, standin.clock() - began)
        answer |= {"total_duration": took + 1_000_000, "load_duration": 1_000_000, "prompt_eval_count": sum(counts)}
    return Whole(dumps(answer))


def embeddings(standin: Standin, data: bytes, _streamed: bool | None) -> Whole:
    """POST /api/embeddings, the older one: a single vector, not normalised."""
    body = parse(data, "api.EmbeddingRequest", {**_OPTIONS, "prompt": STRING})
    if not body.get("model"):
        raise Refusal(400, "model is required")
    model = catalogue.require(standin, body["model"], pulling=True)
    catalogue.load(standin, model, unload=unloads(body))
    prompt = body.get("prompt", "")
    return Whole(dumps({"embedding": raw_vector(prompt) if prompt else []}))


def embed_input(value: object) -> list[str]:
    """Return the texts of ``input``, or raise Ollama's 400."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refusal(400, "invalid input type")
    return texts


def error(message: str) -> bytes:
    """Return the error object."""
    return dumps({"error": message})


def _message(item: object) -> Message:
    if not isinstance(item, dict):
        raise mismatch("api.ChatRequest", "messages", item, "api.Message")
    content = item.get("content")
    if content is not None and not isinstance(content, str):
        raise mismatch("api.ChatRequest", "messages.content", content, "string")
    return Message(str(item.get("role", "")).lower(), content or "")


def _load(
    standin: Standin,
    body: Mapping[str, Any],
    model: Model,
    verb: str,
    needs: list[str],
    empty: Mapping[str, Any] | None,
) -> Whole | None:
    """Check the request; with ``empty``, the answer's own part, it only loads or unloads the model."""
    unload = unloads(body)
    think = body.get("think", False)
    if think not in _THINK:
        words = '"high", "medium", "low", "max", true, or false'
        raise Refusal(400, f'invalid think value: "{think}" (must be {words})')
    if not (empty and unload):
        catalogue.require_able(standin, model, body["model"], verb, [*needs, *(["thinking"] if think else [])])
    check_options(body.get("options", {}))
    check_format(body.get("format"))
    catalogue.load(standin, model, unload=unload)
    if empty is None:
        return None
    reason = "unload" if unload else "load"
    head = {"model": body["model"], "created_at": standin.stamp().decode(), **empty}
    return Whole(dumps(head | _done(reason, standin.old and verb == "chat")))


def _ask(body: Mapping[str, Any], model: Model, messages: Sequence[Message], streamed: bool | None) -> Ask:
    options = body.get("options", {})
    return Ask(
        model=model,
        name=body["model"],
        messages=messages,
        stream=body.get("stream", True) if streamed is None else streamed,
        limit=max(0, int(options.get("num_predict") or 0)),
        stop=[word for word in options.get("stop") or () if isinstance(word, str)],
        form=body.get("format"),
        tools=body.get("tools", ()),
        think=bool(body.get("think")),
    )


def _answer(standin: Standin, ask: Ask, shape: Shape, *, context: bool) -> Whole | Stream:
    began = standin.clock()
    reply = compose(standin, ask)

    def last(text: str = "", thinking: str = "", calls: Sequence[Call] = ()) -> bytes:
        answer: dict[str, Any] = {"model": ask.name, "created_at": standin.stamp().decode()}
        answer |= _said(standin, shape, text, thinking, calls) | _done(reply.reason, standin.old and shape is CHAT)
        if context:
            answer["context"] = list(range(1, reply.prompt_count + reply.eval_count + 1))
        return dumps(answer | _metrics(standin, reply, began))

    if ask.stream:
        deltas = _deltas(standin, ask, reply, shape)
        return Stream(NDJSON, deltas, lambda: [last() + b"\n"], lambda message: error(message) + b"\n")
    return Whole(last("".join(reply.tokens), "".join(reply.thinking), reply.calls), tokens=reply.eval_count)


def _deltas(standin: Standin, ask: Ask, reply: Reply, shape: Shape) -> Iterator[bytes]:
    head = b'{"model":' + quoted(ask.name) + b',"created_at":"'
    for token in reply.thinking:
        yield head + standin.stamp() + shape.opening + b'"","thinking":' + quoted(token) + shape.closing
    for token in reply.tokens:
        yield head + standin.stamp() + shape.opening + quoted(token) + shape.closing
    if reply.calls:
        calls = dumps([_call(standin, index, call) for index, call in enumerate(reply.calls)])
        yield head + standin.stamp() + shape.opening + b'"","tool_calls":' + calls + shape.closing


def _said(standin: Standin, shape: Shape, text: str, thinking: str, calls: Sequence[Call]) -> dict[str, Any]:
    extra = {"thinking": thinking} if thinking else {}
    if shape is GENERATE:
        return {"response": text, **extra}
    message: dict[str, Any] = {"role": "assistant", "content": text, **extra}
    if calls:
        message["tool_calls"] = [_call(standin, index, call) for index, call in enumerate(calls)]
    return {"message": message}


def _call(standin: Standin, index: int, call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"function": function} if standin.old else {"id": call.id, "function": {"index": index, **function}}


def _done(reason: str, reason_first: bool) -> dict[str, Any]:
    # Only /api/chat of 0.9.3 writes done_reason before done.
    return {"done_reason": reason, "done": True} if reason_first else {"done": True, "done_reason": reason}


def _metrics(standin: Standin, reply: Reply, began: int) -> dict[str, int]:
    load, prompt = 1_000_000, 50_000 * reply.prompt_count
    spent = max(standin.clock() - began, 20_000 * reply.eval_count)
    return {
        "total_duration": load + prompt + spent + 1_000,
        "load_duration": load,
        "prompt_eval_count": reply.prompt_count,
        "prompt_eval_duration": prompt,
        "eval_count": reply.eval_count,
        "eval_duration": spent,
    }
