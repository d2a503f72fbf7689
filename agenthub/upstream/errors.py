"""An upstream's error answers, whatever shape they have: Ollama's text, OpenAI's object, HTML or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus

import attrs

from agenthub.canonical import JSON
from agenthub.dialects import answerjson, jsontext
from agenthub.errors import KeyRefused, UpstreamError, UpstreamProtocol, UpstreamStatus

KEPT_HEADERS = frozenset(
    {"retry-after", "retry-after-ms"}
    | {f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")}
)
"""Response headers of an upstream that its client may see, in lower case."""

_USUAL = frozenset({"Content-Type", "Content-Length", "Date", "Server", "Transfer-Encoding"})
"""What nearly all answers have, and is kept of none."""

_MAX_TEXT, _MAX_WORD = 4096, 256

_DEATH = re.compile(
    r"runner (?:process )?(?:has (?:terminated|unexpectedly stopped)|no longer running)"
    r"|unexpected EOF|: EOF\b|reading from server: EOF|connection reset by peer|forcibly closed by the remote host"
    r"|broken pipe|disconnect/reset before headers|Server disconnected without sending"
    r"|EngineDeadError|EngineCore encountered an issue|request broke off|broke off the connection"
)
"""What servers in front of a model, vLLM, Envoy, LiteLLM and another hub say of what broke off on them."""

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that the client may see; a value with control characters is dropped."""
    told = [item for item in headers.items() if item[0] not in _USUAL and item[0].lower() in KEPT_HEADERS]
    return {name: value for name, value in told if not _CONTROL.search(value)}


def make_status_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    callers_fault: Callable[[str], bool],
    *,
    is_verb: bool = False,
) -> UpstreamError:
    """Return the error that an answer from 300 on stands for; the text is cut at 4 KiB.

    To a management verb (``is_verb``) Ollama answers 500 for whatever fails, a model that the registry lacks as well:
    with words of its own that is no fault of the upstream's.

    Only 400 to 599 are the upstream's to say: what redirects, or is no status, is no API server.
    """
    if not 400 <= status <= 599:
        return UpstreamProtocol(f"the upstream answered with status {status}: is its URL right?")
    error = _parse(body)
    is_own = is_verb and status == 500 and bool(error.message) and body.lstrip().startswith(b"{")
    message = error.message[:_MAX_TEXT] or f"the upstream answered {status} {_phrase(status)}".rstrip()
    failure = UpstreamStatus(
        status,
        message,
        kind=error.kind,
        code=error.code,
        param=error.param,
        headers=kept_headers(headers),
        fields=error.fields,
        callers_fault=is_own or callers_fault(message),
    )
    failure.broke_off = tells_of_death(failure)
    return failure


def as_key_refused(error: UpstreamError, backend: str, *, has_key: bool) -> UpstreamError:
    """Return KeyRefused for a 401 or 403 that is about the hub's own key, else the error itself.

    Where an Ollama says where to sign in, that is for the client to read.
    """
    if not isinstance(error, UpstreamStatus) or error.status not in (401, 403) or error.fields:
        return error
    refusal = "refused the hub's API key" if has_key else "wants an API key of the hub, which has none"
    text = f"backend {backend} {refusal} ({error.status}): {error}; set backends.{backend}.api_key"
    return KeyRefused(text, error.status)


def tells_of_death(error: UpstreamError) -> bool:
    """Say whether an error tells that the process behind the server died of the request, or in its middle."""
    if isinstance(error, UpstreamProtocol) or error.status < 500 or not error.counted:
        return False
    return _DEATH.search(str(error)) is not None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


@attrs.frozen
class _Error:
    """What an error's body says, in whatever shape."""

    message: str
    kind: str = ""
    code: str | None = None
    param: str | None = None
    fields: Mapping[str, JSON] = attrs.field(factory=dict)


def _text_of(error: Mapping[str, JSON]) -> str:
    """Return what an error object says; one that has its text elsewhere, as Mistral's has in ``detail``, is shown."""
    if message := error.get("message"):
        return str(message)
    return jsontext.dumps(error).decode("utf-8", "replace") if error.get("detail") else ""


def _parse(body: bytes) -> _Error:
    try:
        value = answerjson.loads(body)
    except ValueError:
        return _Error(body[: 4 * _MAX_TEXT].decode("utf-8", "replace").strip())
    if not isinstance(value, dict):
        return _Error(jsontext.dumps(value).decode("utf-8", "replace"))
    error = next((value[name] for name in ("error", "message", "detail") if value.get(name) is not None), "")
    # Where to sign in is of use to the client (Ollama's cloud models).
    fields = {"signin_url": value["signin_url"]} if isinstance(value.get("signin_url"), str) else {}
    if not isinstance(error, dict):
        return _Error(
            error if isinstance(error, str) else jsontext.dumps(error).decode("utf-8", "replace"), fields=fields
        )
    kind, code, param = (error.get(name) for name in ("type", "code", "param"))
    if kind == "exceed_context_size_error":
        code = "context_length_exceeded"  # llama.cpp's words for what OpenAI's clients look for
    return _Error(
        _text_of(error),
        kind=kind[:_MAX_WORD] if isinstance(kind, str) else "",
        code=None if code is None else str(code)[:_MAX_WORD],
        param=param[:_MAX_WORD] if isinstance(param, str) else None,
        fields=fields,
    )
