"""Fields that several of Ollama's endpoints share: what a request asks of the model, what the last object reports."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any

from agenthub.canonical import JSON, BaseRequest, Finished, TextRequest, Timings, Usage
from agenthub.dialects import jsontext, typed
from agenthub.dialects.body import Fields
from agenthub.dialects.codec import Codec
from agenthub.dialects.framing import LineFramer
from agenthub.dialects.ledger import TO_NATIVE
from agenthub.errors import AgentHubError, InvalidRequest, UpstreamError, UpstreamStatus, shortened

STREAM_TYPE = "application/x-ndjson"
WHOLE_TYPE = "application/json; charset=utf-8"
_NANO = 1_000_000_000
_REMOTE = ("remote_model", "remote_host")
_LEVELS = ("high", "medium", "low", "max")
_BARE_NUMBER = re.compile(r"[-+]?[0-9]{1,15}(\.[0-9]{1,15})?")
# Each text can be read in one way only: two ways for a run of digits would take the square of its length to refuse.
_DURATION = re.compile(r"[-+]?(?:(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:ns|us|µs|μs|ms|s|m|h))++")
_GO_TYPES: Mapping[type, str] = {bool: "bool", dict: "map[string]interface {}", list: "[]interface {}"}


def parse_usual(fields: Fields) -> dict[str, Any]:
    """Take the few of the common fields that most requests have, and leave the others at their defaults."""
    return {
        "model": fields.text("model"),
        "stream": fields.flag("stream", True),
        "options": parse_options(fields),
    }


def parse_common(fields: Fields) -> dict[str, Any]:
    """Take what chat and generate share, as arguments of a TextRequest; ``stream`` is true by default."""
    top = fields.integer("top_logprobs") or 0
    if not 0 <= top <= 20:
        raise InvalidRequest("top_logprobs must be between 0 and 20", param="top_logprobs")
    return parse_usual(fields) | {
        "keep_alive": parse_keep_alive(fields.take("keep_alive")),
        "format": parse_format(fields.take("format")),
        "think": parse_think(fields.take("think")),
        "logprobs": fields.flag("logprobs"),
        "top_logprobs": top,
    }


def parse_options(fields: Fields) -> dict[str, JSON]:
    """Take the options without nulls; a null option is an absent one."""
    return {name: value for name, value in fields.object("options").items() if value is not None}


def parse_keep_alive(value: JSON) -> JSON:
    """Return seconds or a Go duration; raises InvalidRequest for anything else.

    Text of a bare number is a number: clients send "-1" often, and Ollama refuses it for want of a unit.
    """
    if type(value) in _GO_TYPES:
        raise InvalidRequest(f"Unsupported type: '{_GO_TYPES[type(value)]}'", param="keep_alive")
    if not isinstance(value, str) or _DURATION.fullmatch(value):
        return value
    if _BARE_NUMBER.fullmatch(value):
        return float(value) if "." in value else int(value)
    raise InvalidRequest(f"time: invalid duration {jsontext.dumps(shortened(value)).decode()}", param="keep_alive")


def is_zero(keep_alive: JSON) -> bool:
    """Say whether a parsed keep_alive means to unload: the number 0, or a duration of nothing ("0s", "0h0m")."""
    if isinstance(keep_alive, str):
        return not any(digit in keep_alive for digit in "123456789")
    return keep_alive is not None and bool(keep_alive == 0)


def parse_format(value: JSON) -> JSON:
    """Return None, ``"json"`` or a JSON schema."""
    if value is None or value == "":
        return None
    if value == "json" or isinstance(value, dict):
        return value
    quoted = jsontext.dumps(shortened(jsontext.dumps(value).decode())).decode()
    raise InvalidRequest(f'invalid format: {quoted}; expected "json" or a valid JSON Schema object', param="format")


def parse_think(value: JSON) -> bool | str | None:
    """Return None, a bool or a level."""
    if value is None or isinstance(value, bool):
        return value
    if value == "" or value in _LEVELS:
        return value or None
    shown = value if isinstance(value, str) else jsontext.dumps(value).decode()
    allowed = '"high", "medium", "low", "max", true, or false'
    raise InvalidRequest(f'invalid think value: "{shown}" (must be {allowed})', param="think")


def render_common(request: TextRequest, model: str) -> dict[str, JSON]:
    """Return what chat and generate share of a request body."""
    body: dict[str, JSON] = {"model": model, "stream": request.stream}
    if request.extras:
        body |= TO_NATIVE.extras(request)
    if request.options:
        body["options"] = dict(request.options)
    if request.keep_alive is not None:
        body["keep_alive"] = request.keep_alive
    if request.format is not None:
        body["format"] = request.format
    if request.think is not None:
        body["think"] = request.think
    if request.logprobs:
        body["logprobs"] = True
    if request.top_logprobs:
        body["top_logprobs"] = request.top_logprobs
    return body


def render_defaults(request: BaseRequest) -> dict[str, JSON]:
    """Return the member that carries the options an alias added: all options, the client's own among them."""
    return {"options": dict(request.options)}


def parse_finished(line: Mapping[str, JSON]) -> Finished:
    """Return what the object with ``done: true`` reports; durations are nanoseconds there."""
    get, count = line.get, typed.count
    usage, timings = None, None
    if "eval_count" in line or "prompt_eval_count" in line:
        cached = get("prompt_eval_cached_count")
        usage = Usage(
            count(get("prompt_eval_count")), count(get("eval_count")), None if cached is None else count(cached)
        )
    if "total_duration" in line:
        timings = Timings(
            _seconds(get("total_duration")),
            _seconds(get("load_duration")),
            _seconds(get("prompt_eval_duration")),
            _seconds(get("eval_duration")),
        )
    context = typed.numbers(get("context"))
    aside = {name: line[name] for name in _REMOTE if name in line}
    return Finished(typed.words(get("done_reason")) or "stop", usage, timings, context, aside=aside)


def _seconds(nanoseconds: JSON) -> float | None:
    found = typed.amount(nanoseconds)
    return None if found is None else found / _NANO


def render_finished(finished: Finished) -> dict[str, JSON]:
    """Return the members that only the last object has; durations are never 0, since clients divide by them."""
    members: dict[str, JSON] = {"done": True, "done_reason": finished.reason}
    if finished.context:
        members["context"] = list(finished.context)
    timings, usage = finished.timings or _UNTIMED, finished.usage or _UNCOUNTED
    told = {
        "total_duration": _nanoseconds(timings.total_s),
        "load_duration": _nanoseconds(timings.load_s),
        "prompt_eval_count": usage.prompt,
        "prompt_eval_cached_count": usage.cached,
        "prompt_eval_duration": _nanoseconds(timings.prompt_s),
        "eval_count": usage.completion,
        "eval_duration": _nanoseconds(timings.completion_s),
    }
    return members | {name: value for name, value in told.items() if value is not None}


def dump_finished(finished: Finished, request: BaseRequest) -> bytes:
    """Return the same members as the end of a JSON object, with ``x_openai`` if it is wanted."""
    if request.sidecar and finished.aside:
        return jsontext.dumps(render_finished(finished) | {"x_openai": dict(finished.aside)})[1:]
    return _dump_finished(finished)


@lru_cache(64)
def _dump_finished(finished: Finished) -> bytes:
    # Those of a cached answer are asked for again and again.
    return jsontext.dumps(render_finished(finished))[1:]


_UNTIMED, _UNCOUNTED = Timings(None, None, None, None), Usage(None, None)


def _nanoseconds(seconds: float | None) -> int | None:
    return None if seconds is None else max(1, round(seconds * _NANO))


@lru_cache(1)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def timestamp() -> str:
    """Return now as Ollama writes it: RFC 3339, UTC, ``Z``."""
    seconds, nanoseconds = divmod(time.time_ns(), _NANO)
    return f"{_second(seconds)}.{nanoseconds:09d}Z"


def raise_error(line: Mapping[str, JSON]) -> None:
    """Raise the error that a line reports in place of an event; one that says nothing is no error."""
    message = line.get("error")
    if typed.is_nothing(message):
        return
    if isinstance(message, dict) and isinstance(message.get("message"), str):
        message = message["message"] or message  # as servers say it that have both APIs
    raise UpstreamError(message if isinstance(message, str) else jsontext.dumps(message).decode())


def render_stream_error(error: AgentHubError) -> bytes:
    """Return the last line of a stream that broke."""
    return render_error(error) + b"\n"


def render_error(error: AgentHubError) -> bytes:
    """Return ``{"error": "text"}``."""
    fields = error.fields if isinstance(error, UpstreamStatus) else {}
    return jsontext.dumps({"error": str(error), **fields})


make_codec = partial(
    Codec,
    dialect="ollama",
    render_defaults=render_defaults,
    make_framer=LineFramer,
    render_stream_error=render_stream_error,
    stream_type=STREAM_TYPE,
    whole_type=WHOLE_TYPE,
)
"""Makes the codec of one of this dialect's endpoints, of what is its own."""
