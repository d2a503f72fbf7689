"""Errors: what an upstream's refusal says, whatever its shape, and how each dialect shows each failure."""

from __future__ import annotations

import json
from typing import Any

import ollama as ollama_package
import openai as openai_package
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenthub.dialects import ollama, openai
from agenthub.dialects.ollama import fields as ollama_fields
from agenthub.dialects.openai import errors as openai_errors
from agenthub.errors import (
    AgentHubError,
    BackendUnavailable,
    DispatchError,
    InvalidRequest,
    RateLimited,
    TooLarge,
    Unauthorized,
    UnknownModel,
    Unsupported,
    UpstreamError,
    UpstreamProtocol,
    UpstreamStatus,
    UpstreamTimeout,
)
from agenthub.upstream.errors import make_status_error


def innocent(message: str) -> bool:
    return False


@pytest.mark.parametrize(
    ("body", "text", "code"),
    [
        (b'{"error":"boom"}', "boom", None),
        (b'{"error":{"message":"boom","type":"x","code":"bad"}}', "boom", "bad"),
        (b'{"error":{"message":"boom","code":400}}', "boom", "400"),
        (b'{"error":{"message":"boom","code":null}}', "boom", None),
        (b'{"error":{"code":7}}', "the upstream answered 503 Service Unavailable", "7"),
        (b'{"message":"boom"}', "boom", None),
        (b'{"detail":"Not Found"}', "Not Found", None),
        (b'{"detail":[{"msg":"field required"}]}', '[{"msg":"field required"}]', None),
        (b'{"error":["a"]}', '["a"]', None),
        (b'{"other":1}', "the upstream answered 503 Service Unavailable", None),
        (b"{}", "the upstream answered 503 Service Unavailable", None),
        (b"", "the upstream answered 503 Service Unavailable", None),
        (b" \n", "the upstream answered 503 Service Unavailable", None),
        (b"Internal Server Error\n", "Internal Server Error", None),
        (b"<html><body>503</body></html>", "<html><body>503</body></html>", None),
        (b'"text"', '"text"', None),
        (b"[1]", "[1]", None),
        (b'{"error":', '{"error":', None),
        (b"caf\xe9", "caf\ufffd", None),
        ('{"error":"café ☕"}'.encode(), "café ☕", None),
    ],
)
def test_what_an_upstream_says(body: bytes, text: str, code: str | None) -> None:
    """Ollama's text, OpenAI's object, integer codes, HTML, nothing, other encodings: always a text, maybe a code."""
    error = make_status_error(503, {}, body, innocent)
    assert (str(error), error.code, error.status, error.counted) == (text, code, 503, True)


@pytest.mark.parametrize(
    "body",
    [b"x" * 10**7, b'{"error":"' + b"x" * 10**6 + b'"}', "é".encode() * 10**5, b"[" * 10**6],
    ids=["text", "json", "two bytes a character", "nested"],
)
def test_what_is_too_much(body: bytes) -> None:
    """A long text is cut at 4096 characters."""
    assert len(str(make_status_error(500, {}, body, innocent))) == 4096


@given(st.integers(400, 599), st.binary(max_size=60) | st.text('{}[]":error,1nul', max_size=30).map(str.encode))
@settings(max_examples=150)
def test_any_refusal_is_a_text(status: int, body: bytes) -> None:
    """Any body and any status is an error with a text that both dialects can show."""
    error = make_status_error(status, {}, body, innocent)
    assert (error.status, bool(str(error))) == (status, True)
    assert json.loads(ollama_fields.render_error(error))["error"] == str(error)
    assert json.loads(openai_errors.render_error(error))["error"]["message"] == str(error)


def test_headers_and_fields_that_clients_may_see() -> None:
    """Rate limits pass, whatever their case; cookies and servers' names do not; where to sign in is told."""
    headers = {"Retry-After": "7", "X-RateLimit-Remaining-Tokens": "5", "Set-Cookie": "s", "Server": "x"}
    error = make_status_error(401, headers, b'{"error":"unauthorized","signin_url":"https://x"}', innocent)
    assert error.headers == {"Retry-After": "7", "X-RateLimit-Remaining-Tokens": "5"}
    assert error.fields == {"signin_url": "https://x"}
    assert make_status_error(401, {}, b'{"error":"unauthorized","signin_url":5}', innocent).fields == {}
    assert json.loads(ollama_fields.render_error(error)) == {"error": "unauthorized", "signin_url": "https://x"}


@pytest.mark.parametrize(("status", "fault", "counted"), [(500, False, True), (500, True, False), (499, False, False)])
def test_whose_fault_it_is(status: int, fault: bool, counted: bool) -> None:
    """Only the upstream's own failures count against it."""
    error = make_status_error(status, {}, b'{"error":"option x"}', lambda text: fault and text == "option x")
    assert error.counted == counted


@pytest.mark.parametrize(
    ("error", "kind", "code", "param"),
    [
        (InvalidRequest("m", param="top_p"), "invalid_request_error", None, "top_p"),
        (InvalidRequest("m"), "invalid_request_error", None, None),
        (Unauthorized("m"), "invalid_request_error", "invalid_api_key", None),
        (UnknownModel("x"), "invalid_request_error", "model_not_found", "model"),
        (TooLarge("m"), "invalid_request_error", "request_too_large", None),
        (RateLimited("m", retry_after_s=1), "rate_limit_error", "rate_limit_exceeded", None),
        (Unsupported("m", param="n"), "invalid_request_error", None, "n"),
        (Unsupported("m", status=501), "invalid_request_error", "not_supported", None),
        (DispatchError("m"), "server_error", "upstream_error", None),
        (BackendUnavailable("m", retry_after_s=1), "server_error", "overloaded", None),
        (UpstreamError("m"), "server_error", "upstream_error", None),
        (UpstreamProtocol("m"), "server_error", "upstream_error", None),
        (UpstreamTimeout("m"), "server_error", "timeout", None),
        (AgentHubError("m"), "server_error", None, None),
        (UpstreamStatus(400, "m"), "invalid_request_error", None, None),
        (UpstreamStatus(400, "m", code="too_long"), "invalid_request_error", "too_long", None),
        (UpstreamStatus(401, "m"), "invalid_request_error", "invalid_api_key", None),
        (UpstreamStatus(403, "m"), "permission_error", None, None),
        (UpstreamStatus(404, "no model m"), "invalid_request_error", "model_not_found", None),
        (UpstreamStatus(404, "Not Found"), "invalid_request_error", None, None),
        (UpstreamStatus(418, "m"), "invalid_request_error", None, None),
        (UpstreamStatus(429, "m"), "rate_limit_error", "rate_limit_exceeded", None),
        (UpstreamStatus(429, "m", code="insufficient_quota"), "rate_limit_error", "insufficient_quota", None),
        (UpstreamStatus(500, "m"), "server_error", None, None),
        (UpstreamStatus(503, "m"), "server_error", "overloaded", None),
        (UpstreamStatus(504, "m"), "server_error", "timeout", None),
    ],
    ids=lambda value: f"{type(value).__name__}-{value.status}" if isinstance(value, AgentHubError) else "",
)
def test_every_error_in_both_dialects(error: AgentHubError, kind: str, code: str | None, param: str | None) -> None:
    """OpenAI's clients get four keys, always; Ollama's a text, always; neither more than that."""
    expected = {"message": str(error), "type": kind, "param": param, "code": code}
    assert json.loads(openai_errors.render_error(error)) == {"error": expected}
    assert json.loads(ollama_fields.render_error(error)) == {"error": str(error)}
    for codec in openai.CODECS.values():
        assert codec.render_stream_error(error) == b"data: " + openai_errors.render_error(error) + b"\n\n"
    for codec in ollama.CODECS.values():
        assert codec.render_stream_error(error) == ollama_fields.render_error(error) + b"\n"


@pytest.mark.parametrize("text", ["boom", 'a "b"\nc', "☕", "\ud800", ""])
def test_a_stream_that_broke_is_read_by_the_sdks(text: str) -> None:
    """The last line is one that both SDKs raise an error for, with its text; a line break does not cut it."""
    error = UpstreamProtocol(text)
    line = ollama_fields.render_stream_error(error)
    assert line.count(b"\n") == 1
    part: Any = json.loads(line)
    assert str(ollama_package.ResponseError(part.get("error"))).startswith(text)
    frame = openai_errors.render_stream_error(error)
    assert frame.count(b"\n") == 2
    body = json.loads(frame.removeprefix(b"data: "))
    assert openai_package.APIError(body["error"]["message"], None, body=body["error"]).code == "upstream_error"  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [302, 304, 600, 999])
def test_what_is_no_refusal_is_a_broken_upstream(status: int) -> None:
    """A redirect, or a number that is no status, is a 502 that counts: the URL is probably wrong."""
    error = make_status_error(status, {}, b"", innocent)
    assert (error.status, error.counted) == (502, True)


def test_headers_with_control_characters_are_dropped() -> None:
    """They would break the answer that carries them."""
    assert make_status_error(429, {"Retry-After": "5\x01"}, b"", innocent).headers == {}  # type: ignore[attr-defined]
