"""What a recorded answer says, and how each dialect has to say it: told by a few lines that use no code of the hub."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import attrs

from tests.replay.exchanges import Exchange

KINDS: dict[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", None),
    404: ("invalid_request_error", "model_not_found"),
    405: ("invalid_request_error", None),
    500: ("server_error", None),
    501: ("invalid_request_error", "not_supported"),
    502: ("server_error", "upstream_error"),
    503: ("server_error", "overloaded"),
}
"""What OpenAI's clients are told of a status, unless the upstream had words of its own."""
STREAM_BROKE = 502
"""The status of a whole answer whose upstream broke off in the middle of a stream."""


@attrs.frozen
class Call:
    """A call of a tool; ``arguments`` is JSON text without spaces, keys in order; ``id`` is empty if none came."""

    name: str
    arguments: str
    id: str = ""


@attrs.frozen
class Said:
    """An answer in words of no dialect: ``reason`` is stop, length, load or unload, whether tools are called or not.

    ``usage`` is prompt, completion and cached tokens. ``error`` is the text of what went wrong, with the upstream's own
    ``kind`` and ``code``; a text of ``?`` stands for any.
    """

    status: int = 200
    text: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    reason: str = ""
    usage: tuple[int, int, int | None] | None = None
    logprobs: tuple[Any, ...] = ()
    vectors: tuple[tuple[float, ...], ...] = ()
    error: str = ""
    kind: str = ""
    code: str | None = None


def told(exchange: Exchange) -> Said:
    """What the answer of an exchange says."""
    if exchange.status >= 400:
        return refusal(exchange)
    said = Said(status=exchange.status)
    for item in objects(exchange.answer.decode()):
        said = _add(said, item, exchange.path)
    complete = bool(said.reason) or "embed" in exchange.path
    return said if complete or said.error else attrs.evolve(said, error="?")


def refusal(exchange: Exchange) -> Said:
    """An error in Ollama's shape, in OpenAI's, or as plain text."""
    if not exchange.answer.startswith(b"{"):
        return Said(status=exchange.status, error=exchange.answer.decode().strip())
    error = json.loads(exchange.answer)["error"]
    if isinstance(error, str):
        return Said(status=exchange.status, error=error)
    code = None if error.get("code") is None else str(error["code"])
    if error["type"] == "exceed_context_size_error":
        # llama.cpp's word for what OpenAI's clients know by its code.
        code = "context_length_exceeded"
    return Said(status=exchange.status, error=error["message"], kind=error["type"], code=code)


def objects(body: str) -> list[Any]:
    """The JSON objects of a whole answer, of NDJSON or of server-sent events."""
    lines = [line.removeprefix("data: ") for line in body.split("\n") if line.strip()]
    return [json.loads(line) for line in lines if line != "data: [DONE]" and line != "[DONE]"]


def _add(said: Said, item: Any, path: str) -> Said:
    if "embed" in path:
        return _embedded(said, item)
    if "error" in item:
        return attrs.evolve(said, error=item["error"])
    native = path.startswith("/api")
    choice = item if native else next(iter(item["choices"]), {})
    part = choice.get("message") or choice.get("delta") or choice
    logprobs = choice.get("logprobs") or {}
    return attrs.evolve(
        said,
        text=said.text + (part.get("content") or part.get("response") or part.get("text") or ""),
        reasoning=said.reasoning + (part.get("thinking") or part.get("reasoning") or ""),
        calls=said.calls + tuple(_call(call) for call in part.get("tool_calls") or ()),
        reason=_reason(choice) or said.reason,
        usage=_usage(item) or said.usage,
        logprobs=said.logprobs + tuple(known(entry) for entry in (logprobs.get("content") or () if logprobs else ())),
    )


def _call(call: Any) -> Call:
    arguments = call["function"]["arguments"]
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    return Call(call["function"]["name"], arguments, call.get("id") or "")


def _reason(choice: Any) -> str:
    reason = choice.get("done_reason") or choice.get("finish_reason") or ("stop" if choice.get("done") else "")
    return "stop" if reason == "tool_calls" else str(reason)


def _usage(item: Any) -> tuple[int, int, int | None] | None:
    if counts := item.get("usage"):
        cached = (counts.get("prompt_tokens_details") or {}).get("cached_tokens")
        return counts["prompt_tokens"], counts.get("completion_tokens", 0), cached
    if "eval_count" in item or "prompt_eval_count" in item:
        return item.get("prompt_eval_count", 0), item.get("eval_count", 0), item.get("prompt_eval_cached_count")
    return None


def known(entry: Any) -> Any:
    """A log-probability with the fields that both dialects have; servers add more."""
    names = ("token", "logprob", "bytes")
    tops = [{name: top[name] for name in names} for top in entry["top_logprobs"]]
    return {name: entry[name] for name in names} | {"top_logprobs": tops}


def _embedded(said: Said, item: Any) -> Said:
    one = [item["embedding"]] if item.get("embedding") else []
    rows = [row["embedding"] for row in item.get("data", ())]
    vectors = tuple(vector(row) for row in item.get("embeddings") or rows or one)
    return attrs.evolve(said, vectors=vectors, usage=_usage(item))


def vector(value: Any) -> tuple[float, ...]:
    """A vector in the precision of float32, given as numbers or as base64 of little-endian float32."""
    data = base64.b64decode(value) if isinstance(value, str) else struct.pack(f"<{len(value)}f", *value)
    return struct.unpack(f"<{len(data) // 4}f", data)


def error_body(said: Said, dialect: str, param: str | None = None) -> Any:
    """The body that tells of an error in a dialect: an upstream's own words, the rest by the status."""
    if dialect == "ollama":
        return {"error": said.error}
    kind, code = KINDS[said.status]
    if said.status == 404 and "model" not in said.error:
        code = None
    return {"error": {"message": said.error, "type": said.kind or kind, "param": param, "code": said.code or code}}
