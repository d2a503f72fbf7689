"""What the cache holds: the key of a request and the events of its answer, as bytes.

The key is made of the canonical request, so that one answer serves every dialect, every adapter, whole and streamed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from agenthub.canonical import (
    JSON,
    Batch,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Event,
    Finished,
    GenerateRequest,
    LogprobsDelta,
    RawFrames,
    ReasoningDelta,
    Request,
    Started,
    TextDelta,
    Timings,
    ToolCallDelta,
    Usage,
)
from agenthub.dialects import jsontext

_VERSION = 1


def make_key(request: Request, upstream_model: str) -> str:
    """Return the key: equal for requests that ask the same of the same model.

    What decides only how the answer is sent (stream, include_usage, keep_alive, encoding) is not part of it.
    """
    options = {name: _plain(value) for name, value in request.options.items()}
    if options.get("seed") == -1:
        del options["seed"]
    parts = [_VERSION, request.operation, model_key(upstream_model), options, request.extras, *_particulars(request)]
    return hashlib.blake2b(jsontext.dumps(parts, sort_keys=True), digest_size=24).hexdigest()


def model_key(model: str) -> str:
    """Return the one spelling of a model's name: Ollama looks it up without case and with ``:latest`` by default."""
    return model.lower().removesuffix(":latest")


def _plain(value: JSON) -> JSON:
    # 0 and 0.0 are the same temperature.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _particulars(request: Request) -> Sequence[JSON]:
    match request:
        case ChatRequest():
            messages = [
                (m.role, m.content, m.images, m.reasoning, [(c.name, c.arguments) for c in m.tool_calls], m.tool_name)
                for m in request.messages
            ]
            asked = (request.format, request.think, request.logprobs, request.top_logprobs)
            return (messages, request.tools, request.tool_choice, *asked)
        case GenerateRequest():
            prompt = (request.prompt, request.system, request.suffix, request.template, request.context, request.raw)
            asked = (request.format, request.think, request.logprobs, request.top_logprobs)
            return (*prompt, request.images, *asked)
        case EmbedRequest():
            return (request.inputs, request.dimensions, request.truncate, request.normalised)
        case _:
            return (request.arguments,)


def dump_events(events: Iterable[Event]) -> bytes:
    """Return the events of a finished answer as bytes, without what belongs to one connection."""
    return jsontext.dumps([row for row in map(_row, events) if row])


def _row(event: Event) -> Sequence[JSON]:
    match event:
        case TextDelta():
            return ("t", event.text)
        case ReasoningDelta():
            return ("r", event.text)
        case ToolCallDelta():
            return ("c", event.index, event.id, event.name, event.arguments)
        case LogprobsDelta():
            return ("l", event.items)
        case Embeddings():
            return ("e", event.vectors)
        case Finished():
            usage, timings = event.usage, event.timings
            return (
                "f",
                event.reason,
                usage and (usage.prompt, usage.completion, usage.cached),
                timings and (timings.total_s, timings.load_s, timings.prompt_s, timings.completion_s),
                event.context,
            )
        case Started() | RawFrames():
            return ()


def load_events(data: bytes) -> Batch:
    """Return the batch that ``dump_events`` wrote, behind a Started; raise ValueError for anything else."""
    try:
        return (Started(), *map(_event, jsontext.loads(data)))
    except (TypeError, KeyError, IndexError) as error:
        raise ValueError("not a cache entry") from error


def _event(row: Sequence[JSON]) -> Event:
    match row[0]:
        case "t":
            return TextDelta(row[1])
        case "r":
            return ReasoningDelta(row[1])
        case "c":
            return ToolCallDelta(*row[1:])
        case "l":
            return LogprobsDelta(tuple(row[1]))
        case "e":
            return Embeddings(tuple(row[1]))
        case "f":
            usage, timings = row[2] and Usage(*row[2]), row[3] and Timings(*row[3])
            return Finished(row[1], usage, timings, tuple(row[4]))
    raise ValueError("not a cache entry")
