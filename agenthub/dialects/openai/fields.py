"""Fields that several of OpenAI's endpoints share. Sources: the OpenAI API reference, "Chat" and "Completions"."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from agenthub.canonical import JSON, BaseRequest, TextRequest, Usage
from agenthub.dialects import jsontext, typed
from agenthub.dialects.body import Fields
from agenthub.dialects.codec import Codec
from agenthub.dialects.framing import EventFramer
from agenthub.dialects.ollama.fields import parse_format, parse_keep_alive, parse_think
from agenthub.errors import AgentHubError, InvalidRequest, RequestError, UnknownModel, UpstreamError, UpstreamStatus

STREAM_TYPE = "text/event-stream"
WHOLE_TYPE = "application/json"
DONE = b"data: [DONE]\n\n"
FINGERPRINT = "fp_agenthub"

SAMPLING = ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty")
"""Options of the same name and scale on both sides."""
EXTENSIONS = ("top_k", "min_p", "repeat_penalty", "num_ctx")
"""Ollama's options that are taken at the top level too, for the SDKs' ``extra_body``."""
_EFFORTS: Mapping[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
    "xhigh": "max",
    "ultra": "max",
}


def parse_common(fields: Fields) -> dict[str, Any]:
    """Take what chat and completions share, as arguments of a TextRequest; ``stream`` is false by default."""
    model = fields.text("model")
    if not model:
        raise InvalidRequest("model is required", param="model")
    options = parse_options(fields)
    stream_options = fields.object("stream_options")
    return {
        "model": model,
        "stream": fields.flag("stream"),
        "include_usage": bool(stream_options.get("include_usage")),
        "options": options,
        "keep_alive": parse_keep_alive(fields.take("keep_alive")),
        "format": parse_format(fields.take("format")),
        "think": parse_think(fields.take("think")),
    }


def parse_options(fields: Fields) -> dict[str, JSON]:
    """Take sampling options under Ollama's names; what stands at the top level wins over ``options``."""
    options = {name: value for name, value in fields.object("options").items() if value is not None}
    limits = (fields.integer("max_completion_tokens"), fields.integer("max_tokens"))
    named: dict[str, JSON] = {name: fields.number(name) for name in SAMPLING + EXTENSIONS}
    named["num_predict"] = next((limit for limit in limits if limit is not None), None)
    named["stop"] = parse_stop(fields.take("stop"))
    return options | {name: value for name, value in named.items() if value is not None}


def parse_stop(value: JSON) -> list[str] | None:
    """Return the stop sequences; a string is a list of one."""
    if value is None or isinstance(value, str):
        return [value] if value else None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidRequest("invalid type for 'stop' field: a string or an array of strings is expected", param="stop")
    return value or None


def parse_effort(value: JSON) -> bool | str | None:
    """Return the canonical ``think`` for ``reasoning_effort`` or ``reasoning.effort``."""
    if value is None:
        return None
    if isinstance(value, str) and value in _EFFORTS:
        return _EFFORTS[value]
    allowed = ", ".join(f'"{effort}"' for effort in _EFFORTS)
    raise InvalidRequest(
        f"invalid reasoning value: {jsontext.dumps(value).decode()} (must be {allowed})", param="reasoning_effort"
    )


def render_options(request: BaseRequest) -> dict[str, JSON]:
    """Return the sampling options that an OpenAI-compatible upstream takes, under its names.

    Raises InvalidRequest in Ollama's words for those of a wrong type.
    """
    return _render_options(request.options)


def _render_options(options: Mapping[str, JSON]) -> dict[str, JSON]:
    body: dict[str, JSON] = {name: _number(options, name) for name in SAMPLING if options.get(name) is not None}
    if body.get("seed") == -1:
        del body["seed"]
    if options.get("num_predict") is not None and (limit := int(_number(options, "num_predict"))) > 0:
        body["max_tokens"] = limit
    stop = options.get("stop") or []
    if not isinstance(stop, list) or not all(isinstance(item, str) for item in stop):
        raise InvalidRequest('option "stop" must be of type array', param="options.stop")
    return body | ({"stop": stop} if stop else {})


def _number(options: Mapping[str, JSON], name: str) -> int | float:
    value: JSON = options[name]
    whole = name in ("seed", "num_predict")
    if isinstance(value, bool) or not isinstance(value, int | float):
        wanted = "integer" if whole else "float32"
        raise InvalidRequest(f'option "{name}" must be of type {wanted}', param=f"options.{name}")
    return int(value) if whole else value


def render_defaults(request: BaseRequest) -> dict[str, JSON]:
    """Return the members that carry the options an alias added."""
    return _render_options(request.defaults)


def render_stream_options(request: TextRequest) -> dict[str, JSON]:
    """Return ``stream``, and ask for the counts of a stream whether the client wants to see them or not."""
    return {"stream": True, "stream_options": {"include_usage": True}} if request.stream else {"stream": False}


def parse_usage(value: JSON) -> Usage | None:
    """Return the counts of a ``usage`` object."""
    if not value:
        return None
    cached = (value.get("prompt_tokens_details") or {}).get("cached_tokens")
    return Usage(
        prompt=typed.count(value.get("prompt_tokens")),
        completion=typed.count(value.get("completion_tokens")),
        cached=None if cached is None else typed.count(cached),
    )


def render_usage(usage: Usage | None) -> dict[str, JSON]:
    """Return a ``usage`` object; an upstream that did not count gives zeros."""
    usage = usage or Usage()
    body: dict[str, JSON] = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
    }
    if usage.cached is not None:
        body["prompt_tokens_details"] = {"cached_tokens": usage.cached}
    return body


def parse_reason(value: str) -> str:
    """Return the canonical reason; a call of tools is a stop."""
    return "stop" if value in ("tool_calls", "function_call") else value


def render_reason(reason: str, called: bool) -> str:
    """Return OpenAI's reason for a canonical one; words that are not in its list become ``stop``."""
    if reason in ("length", "content_filter"):
        return reason
    return "tool_calls" if called else "stop"


def raise_error(frame: Mapping[str, JSON]) -> None:
    """Raise the error that a frame reports in place of a chunk."""
    if not (error := frame.get("error")):
        return
    message = error.get("message") if isinstance(error, dict) else error
    raise UpstreamError(message if isinstance(message, str) else jsontext.dumps(error).decode())


_KINDS: Mapping[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", None),
    404: ("invalid_request_error", "model_not_found"),
    408: ("server_error", "timeout"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    501: ("invalid_request_error", "not_supported"),
    502: ("server_error", "upstream_error"),
    503: ("server_error", "overloaded"),
    504: ("server_error", "timeout"),
}


def render_stream_error(error: AgentHubError) -> bytes:
    """Return the last frame of a stream that broke; no ``[DONE]`` follows it."""
    return b"data: " + render_error(error) + b"\n\n"


def render_error(error: AgentHubError) -> bytes:
    """Return the error object, all four keys always there. Source: API reference "Error codes"."""
    kind, code = _KINDS.get(
        error.status, ("invalid_request_error", None) if error.status < 500 else ("server_error", None)
    )
    if error.status == 404 and not isinstance(error, UnknownModel | UpstreamStatus):
        code = None
    if isinstance(error, UpstreamStatus) and error.status == 404 and "model" not in str(error):
        code = None  # the path is missing, not the model
    if isinstance(error, UpstreamStatus):
        code = error.code or (None if error.status < 500 and error.status not in (401, 404, 429) else code)
    param = error.param if isinstance(error, RequestError) else None
    return jsontext.dumps({"error": {"message": str(error), "type": kind, "param": param, "code": code}})


make_codec = partial(
    Codec,
    dialect="openai",
    render_defaults=render_defaults,
    make_framer=EventFramer,
    render_stream_error=render_stream_error,
    stream_type=STREAM_TYPE,
    whole_type=WHOLE_TYPE,
)
"""Makes the codec of one of this dialect's endpoints, of what is its own."""
