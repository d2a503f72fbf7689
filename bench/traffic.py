"""What is sent in each case, and what the upstream answers: bytes that are made once."""

from __future__ import annotations

import json
from typing import Any, Final

MODEL: Final = "llama3.2:3b"
CHUNKS: Final = 200
_CREATED: Final = "2026-01-05T09:30:00.123456789Z"
_WORDS: Final = (" the", " hub", " answers", " every", " client", " in", " its", " own", " words", ",", " naïve", " ☕")
WORDS: Final = tuple(_WORDS[number % len(_WORDS)] for number in range(CHUNKS))
TEXT: Final = "".join(WORDS)
_REPORT: Final = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 1_650_000_000,
    "load_duration": 12_000_000,
    "prompt_eval_count": 61,
    "prompt_eval_duration": 38_000_000,
    "eval_count": CHUNKS,
    "eval_duration": 1_600_000_000,
}
_HISTORY: Final = [
    {"role": "system", "content": "You are a helpful assistant. Answer briefly, and say so when you do not know."},
    {"role": "user", "content": "What is a gateway?"},
    {"role": "assistant", "content": "A program that stands between clients and servers and speaks for both."},
]
_CASES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "dispatch": ("/api/chat", {"stream": False, "options": {"num_predict": 256}}),
    "floor": ("/api/chat", {"stream": False, "options": {"num_predict": 256}}),
    "cross": ("/v1/chat/completions", {"stream": False, "max_tokens": 256}),
    "hit": ("/api/chat", {"stream": False, "options": {"num_predict": 256, "temperature": 0}}),
    "stream": ("/v1/chat/completions", {"stream": True, "stream_options": {"include_usage": True}}),
}
"""Without a temperature or a seed an answer is not cached."""
_QUESTIONS: Final = 1024


def dump(value: Any) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def path(case: str) -> str:
    """Return the path that a case asks."""
    return _CASES[case][0]


def body(case: str, number: int = 0) -> bytes:
    """Return the body of a case with a question of that number."""
    question = {"role": "user", "content": f"And why would I put {number:04d} of them in front of my model servers?"}
    return dump({"model": MODEL, "messages": [*_HISTORY, question], **_CASES[case][1]})


def http_requests(case: str, port: int, path: str, headers: str = "") -> list[bytes]:
    """Return whole HTTP requests to be sent in turn: all alike for a hit, else so many that no two near ones are.

    ``headers`` are lines of further ones, each with its end.
    """
    numbers = range(1 if case == "hit" else _QUESTIONS)
    return [_http_request(path, port, body(case, number), headers) for number in numbers]


def _http_request(path: str, port: int, body: bytes, headers: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: bench\r\nAccept: */*\r\n{headers}"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def http_answer(body: bytes, content_type: str = "application/json; charset=utf-8", status: str = "200 OK") -> bytes:
    """Return a whole HTTP answer, as Ollama frames it."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nDate: Mon, 05 Jan 2026 09:30:00 GMT\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def whole_answer() -> bytes:
    """Return the body of an answer of /api/chat that is not streamed."""
    message = {"role": "assistant", "content": TEXT}
    return dump({"model": MODEL, "created_at": _CREATED, "message": message, **_REPORT})


def streamed_answer(per_write: int) -> list[bytes]:
    """Return the writes of a streamed answer of /api/chat, one HTTP chunk for each token as Ollama sends them."""
    shared = {"model": MODEL, "created_at": _CREATED}
    lines = [dump({**shared, "message": {"role": "assistant", "content": word}, "done": False}) for word in WORDS]
    lines.append(dump({**shared, "message": {"role": "assistant", "content": ""}, **_REPORT}))
    chunks = [f"{len(line) + 1:x}\r\n".encode() + line + b"\n\r\n" for line in lines]
    writes = [b"".join(chunks[start : start + per_write]) for start in range(0, len(chunks), per_write)]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nDate: Mon, 05 Jan 2026 09:30:00 GMT\r\n"
    writes[0] = head + b"Transfer-Encoding: chunked\r\n\r\n" + writes[0]
    writes[-1] += b"0\r\n\r\n"
    return writes


def model_list() -> bytes:
    """Return the body of /api/tags."""
    details = {"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"]}
    details |= {"parameter_size": "3.2B", "quantization_level": "Q4_K_M"}
    entry = {"name": MODEL, "model": MODEL, "modified_at": _CREATED, "size": 2_019_393_189, "digest": "a8" * 32}
    return dump({"models": [{**entry, "details": details}]})
