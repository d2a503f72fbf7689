"""Fields that several of OpenAI's endpoints share. Sources: the OpenAI API reference, "Chat" and "Completions"."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from agenthub.canonical import FLAVOURS, JSON, BaseRequest, Finished, Loss, TextRequest, Usage
from agenthub.dialects import jsontext, typed
from agenthub.dialects.body import Fields
from agenthub.dialects.codec import Codec
from agenthub.dialects.framing import EventFramer
from agenthub.dialects.ledger import TO_NATIVE, TO_OPENAI
from agenthub.dialects.ollama.fields import parse_format, parse_keep_alive, parse_think
from agenthub.dialects.openai.errors import render_stream_error
from agenthub.errors import InvalidRequest

STREAM_TYPE = "text/event-stream"
WHOLE_TYPE = "application/json"
DONE = b"data: [DONE]\n\n"
FINGERPRINT = "fp_agenthub"

_OPTIONS = {
    row.field: row.home.partition(";")[0].removeprefix("options.")
    for row in TO_NATIVE.rows
    if row.home.startswith("options.")
}
"""The top-level fields that are options, and Ollama's names for them."""
_WHOLE = frozenset({"seed", "num_predict", "top_k", "repeat_last_n", "num_keep", "mirostat"})
_MOST_CHOICES = 128
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


USUAL = frozenset({"model", "messages", "prompt", "stream", "stream_options", *_OPTIONS})
"""What most requests consist of; they need not be searched for the rest."""


def parse_usual(fields: Fields) -> dict[str, Any]:
    """Take the few of the common fields that most requests have, and leave the others at their defaults."""
    model = fields.text("model")
    if not model:
        raise InvalidRequest("model is required", param="model")
    stream_options = fields.object("stream_options")
    return {
        "model": model,
        "stream": fields.flag("stream"),
        "include_usage": bool(stream_options.get("include_usage")),
        "options": parse_options(fields),
        "unmapped": _stream_losses(stream_options) if stream_options else (),
    }


def parse_common(fields: Fields) -> dict[str, Any]:
    """Take what chat and completions share, as arguments of a TextRequest; ``stream`` is false by default."""
    shared = parse_usual(fields)
    choices = fields.integer("n")
    if choices is not None and not 1 <= choices <= _MOST_CHOICES:
        raise InvalidRequest(f"n must be between 1 and {_MOST_CHOICES}", param="n")
    return shared | {
        "choices": choices or 1,
        "keep_alive": parse_keep_alive(fields.take("keep_alive")),
        "format": parse_format(fields.take("format")),
        "think": parse_think(fields.take("think")),
    }


def _stream_losses(stream_options: Mapping[str, JSON]) -> tuple[Loss, ...]:
    losses = (TO_NATIVE.loss("chat", f"stream_options.{name}", value) for name, value in stream_options.items())
    return tuple(loss for loss in losses if loss is not None)


def parse_options(fields: Fields) -> dict[str, JSON]:
    """Take sampling options under Ollama's names; what stands at the top level wins over ``options``."""
    options = {name: value for name, value in fields.object("options").items() if value is not None}
    # From the last to the first, so that max_completion_tokens wins over max_tokens.
    for name in sorted(fields.values.keys() & _OPTIONS.keys(), reverse=True):
        option = _OPTIONS[name]
        value: JSON
        match option:
            case "stop":
                value = parse_stop(fields.take(name))
            case "num_predict":
                value = fields.integer(name)
            case _:
                value = fields.number(name)
        if value is not None:
            options[option] = value
    return options


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


def render_options(request: BaseRequest, flavour: str = FLAVOURS[0]) -> dict[str, JSON]:
    """Return the sampling options that an upstream of that flavour takes, under its names.

    Raises InvalidRequest in Ollama's words for those of a wrong type.
    """
    return _render_options(request.options, request.operation, flavour)


def _render_options(options: Mapping[str, JSON], operation: str, flavour: str) -> dict[str, JSON]:
    body: dict[str, JSON] = {}
    for name, value in options.items():
        home = TO_OPENAI.home(operation, f"options.{name}", value, flavour)
        if not home or value is None:
            continue
        if name == "stop":
            value = _stop(value)
        elif type(value) is not float:
            value = _number(name, value)
        elif name in _WHOLE:
            value = int(value)
        if value != []:
            body[home] = value
    return body


def _stop(value: JSON) -> JSON:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidRequest('option "stop" must be of type array', param="options.stop")
    return value


def _number(name: str, value: JSON) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        wanted = "integer" if name in _WHOLE else "float32"
        raise InvalidRequest(f'option "{name}" must be of type {wanted}', param=f"options.{name}")
    return value


def render_defaults(request: BaseRequest, flavour: str = FLAVOURS[0]) -> dict[str, JSON]:
    """Return the members that carry the options an alias added."""
    return _render_options(request.defaults, request.operation, flavour)


def render_stream_options(request: TextRequest) -> dict[str, JSON]:
    """Return ``stream``, and ask for the counts of a stream whether the client wants to see them or not."""
    return {"stream": True, "stream_options": {"include_usage": True}} if request.stream else {"stream": False}


def parse_usage(value: JSON) -> Usage | None:
    """Return the counts of a ``usage`` object, None where it is none or empty."""
    if not value or type(value) is not dict:
        return None
    cached = typed.mapping(value.get("prompt_tokens_details")).get("cached_tokens")
    return Usage(
        prompt=_count(value.get("prompt_tokens")),
        completion=_count(value.get("completion_tokens")),
        cached=_count(cached),
    )


def _count(value: JSON) -> int | None:
    """Return a count, None for one that was not told."""
    return None if value is None else typed.count(value)


def render_usage(usage: Usage | None) -> dict[str, JSON]:
    """Return a ``usage`` object, in which clients need each count; what is unknown is 0."""
    usage = usage or Usage()
    prompt, completion = usage.prompt or 0, usage.completion or 0
    body: dict[str, JSON] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if usage.cached is not None:
        body["prompt_tokens_details"] = {"cached_tokens": usage.cached}
    return body


_ASIDE = ("id", "system_fingerprint", "service_tier")
_BESIDE: Mapping[str, type] = {"refusal": str, "annotations": list}
_NANO = 1_000_000_000


def parse_aside(answer: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return what an answer or a chunk says of itself that Ollama's dialect has no place for."""
    return {name: value for name in _ASIDE if (value := answer.get(name)) is not None}


def parse_beside(message: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return what a message says beside its text that Ollama's has no place for."""
    return {name: value for name, of in _BESIDE.items() if type(value := message.get(name)) is of and value}


def parse_details(usage: JSON) -> dict[str, JSON]:
    """Return the details of the counts, under their own names."""
    return {name: value for name, value in typed.mapping(usage).items() if value and name.endswith("_details")}


def render_sidecar(request: BaseRequest, finished: Finished) -> dict[str, JSON]:
    """Return ``x_ollama``, if it is wanted: what Ollama told, in its words; durations are nanoseconds."""
    if not request.sidecar:
        return {}
    told: dict[str, JSON] = {"done_reason": finished.reason}
    if (timings := finished.timings) is not None:
        spent = (timings.total_s, timings.load_s, timings.prompt_s, timings.completion_s)
        known = ((name, seconds) for name, seconds in zip(_DURATIONS, spent, strict=True) if seconds is not None)
        told |= {name: round(seconds * _NANO) for name, seconds in known}
    if finished.context:
        told["context"] = list(finished.context)
    return {"x_ollama": told | dict(finished.aside)}


_DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


def parse_reason(value: str) -> str:
    """Return the canonical reason; a call of tools is a stop."""
    return "stop" if value in ("tool_calls", "function_call") else value


def render_reason(reason: str, called: bool, functions: bool = False) -> str:
    """Return OpenAI's reason for a canonical one; words that are not in its list become ``stop``."""
    if reason in ("length", "content_filter"):
        return reason
    if not called:
        return "stop"
    return "function_call" if functions else "tool_calls"


make_codec = partial(
    Codec,
    dialect="openai",
    render_defaults=render_defaults,
    make_framer=EventFramer,
    render_stream_error=render_stream_error,
    stream_type=STREAM_TYPE,
    end_mark=DONE,
    whole_type=WHOLE_TYPE,
)
"""Makes the codec of one of this dialect's endpoints, of what is its own."""
