"""The key of a request in the cache.

It is made of the canonical request, so that one answer serves every dialect, every adapter, whole and streamed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import attrs

from agenthub.canonical import JSON, ChatRequest, EmbedRequest, GenerateRequest, Message, Request
from agenthub.dialects import jsontext
from agenthub.dialects.groups import MANY, grouped, groups
from agenthub.dialects.jsontext import Passage
from agenthub.dialects.names import has_twins
from agenthub.dialects.scan import HUGE_BYTES, LARGE_BYTES

_LONGEST_BYTES, _MOST = 8192, 256


def make_key(request: Request, upstream_model: str, scope: str = "") -> str:
    """Return the key: equal for requests that ask the same of the same model, within a ``scope``.

    What decides only how the answer is sent (stream, include_usage, keep_alive, encoding) is not part of it.
    """
    source = request.source
    if source is None or request.defaults or len(source.body) > _LONGEST_BYTES:
        return _make_key(request, upstream_model, scope)
    return _remembered(_Asked(source.path, source.body, upstream_model, scope, request.authorization, request))


@attrs.frozen
class _Asked:
    """A request by what it was parsed from, which is quicker to compare than all that it holds."""

    path: str
    body: bytes
    upstream_model: str
    scope: str
    authorization: str
    request: Request = attrs.field(eq=False)


@lru_cache(_MOST)
def _remembered(asked: _Asked) -> str:
    return _make_key(asked.request, asked.upstream_model, asked.scope)


def _make_key(request: Request, upstream_model: str, scope: str) -> str:
    options = {name: _plain(value) for name, value in request.options.items()}
    if options.get("seed") == -1:
        del options["seed"]
    # An answer for one key of an upstream's is not for another, nor one of pinned backends for any.
    parts: list[JSON] = [request.operation, model_key(upstream_model), scope, request.authorization]
    extras = {
        name: _digest([value.json]) if type(value) is Passage else value for name, value in request.extras.items()
    }
    parts += [options, extras, *_particulars(request)]
    if request.source is not None and (request.unmapped or has_twins(request.source.body)):
        # What the canonical request leaves out still counts for an upstream of the same dialect, and of two members of
        # one name that upstream may take the other: what it answers then is no answer for anybody else.
        body = request.source.body
        parts.append(_digest([body]) if len(body) > LARGE_BYTES else body.decode("utf-8", "surrogateescape"))
    if request.size_bytes > HUGE_BYTES:
        parts = grouped(parts)
    return hashlib.blake2b(jsontext.dumps(parts, sort_keys=True), digest_size=24).hexdigest()


def model_key(model: str) -> str:
    """Return the one spelling of a model's name: Ollama looks it up without case and with ``:latest`` by default."""
    return model.lower().removesuffix(":latest")


def _plain(value: JSON) -> JSON:
    # 0 and 0.0 are the same temperature.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _spelled(schema: JSON) -> str:
    # The order of a schema's properties decides the order of the answer's.
    return jsontext.dumps(schema).decode("utf-8", "surrogateescape")


def _digest(parts: Iterable[bytes]) -> str:
    """Return what stands for a large part, which would have to be copied several times."""
    digest = hashlib.blake2b(digest_size=24)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _listed(items: Iterable[JSON], count: int) -> JSON:
    """Return the list of the items, or what stands for a long one, of which no more than a group is held at a time."""
    return list(items) if count <= MANY else _digest(groups(items))


def _messages(messages: Sequence[Message]) -> Iterator[JSON]:
    # Ids of calls differ from dialect to dialect; what counts is which call a tool's message answers.
    calls = [call.id for message in messages for call in message.tool_calls]
    numbers = {call_id: number for number, call_id in enumerate(calls) if call_id}
    for message in messages:
        yield (
            message.role,
            message.content,
            message.images,
            message.images_first,
            message.reasoning,
            [(call.name, call.arguments) for call in message.tool_calls],
            message.tool_name,
            numbers.get(message.tool_call_id),
        )


def _particulars(request: Request) -> Sequence[JSON]:
    match request:
        case ChatRequest():
            asked = (_spelled(request.format), request.think, request.logprobs, request.top_logprobs)
            offered = request.tools
            spelled = _spelled(offered) if len(offered) <= MANY else _listed(offered, len(offered))
            tools = (spelled, request.tool_choice, request.one_call)
            return (_listed(_messages(request.messages), len(request.messages)), *tools, *asked, request.choices)
        case GenerateRequest():
            prompt = (
                request.prompt,
                request.more_prompts,
                request.system,
                request.suffix,
                request.template,
                request.context,
                request.raw,
            )
            asked = (_spelled(request.format), request.think, request.logprobs, request.top_logprobs)
            return (*prompt, request.images, *asked, request.choices)
        case EmbedRequest():
            return (request.inputs, request.dimensions, request.truncate, request.normalised)
        case _:
            return (request.arguments,)
