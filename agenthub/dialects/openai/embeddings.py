"""POST /v1/embeddings. Source: API reference "Create embeddings"."""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Mapping, Sequence

import attrs

from agenthub.canonical import JSON, Answer, EmbedRequest, Event, Finished, Loss, Source, Usage
from agenthub.dialects import answerjson, typed
from agenthub.dialects.base64_text import plain_base64
from agenthub.dialects.body import Fields, parse_fields
from agenthub.dialects.codec import PartlyUnreadable
from agenthub.dialects.groups import dump_answer, dump_body
from agenthub.dialects.ledger import FIELDS, TO_NATIVE
from agenthub.dialects.ollama.embed import checked_vectors, embedded
from agenthub.dialects.ollama.fields import parse_keep_alive
from agenthub.dialects.openai import fields as common
from agenthub.dialects.openai.errors import raise_error
from agenthub.dialects.whole import NoFrames
from agenthub.errors import InvalidRequest

DIALECT = "openai"
PATH = "/v1/embeddings"


def parse_request(body: bytes) -> EmbedRequest:
    """Return the canonical request; raises InvalidRequest."""
    fields = parse_fields(body, "EmbedRequest", package="openai", empty="EOF", known=FIELDS)
    model = fields.text("model")
    if not model:
        raise InvalidRequest("model is required", param="model")
    encoding = fields.text("encoding_format", "float").lower()
    if encoding not in ("float", "base64"):
        message = f"Invalid value for 'encoding_format' = {encoding}. Supported values: ['float', 'base64']."
        raise InvalidRequest(message, param="encoding_format")
    inputs, losses = _parse_inputs(fields)
    return EmbedRequest(
        model=model,
        inputs=inputs,
        dimensions=fields.integer("dimensions"),
        encoding=encoding,
        truncate=fields.choice("truncate"),
        options=fields.object("options"),
        keep_alive=parse_keep_alive(fields.take("keep_alive")),
        extras=fields.rest(),
        unmapped=losses,
        source=Source(DIALECT, PATH, body),
    )


def _parse_inputs(fields: Fields) -> tuple[tuple[str, ...], tuple[Loss, ...]]:
    value = fields.take("input")
    inputs = [value] if isinstance(value, str) else value
    if not isinstance(inputs, list) or not inputs:
        raise InvalidRequest("invalid input", param="input")
    if all(isinstance(item, str) for item in inputs):
        return tuple(inputs), ()
    if all(isinstance(item, int | list) and not isinstance(item, bool) for item in inputs):
        loss = TO_NATIVE.loss("embed", "input", inputs)
        return ("tokens",), (loss,) if loss is not None else ()
    raise InvalidRequest("invalid input type", param="input")


def render_request(
    request: EmbedRequest, model: str, flavour: str = "generic", members: Mapping[str, JSON] | None = None
) -> bytes:
    """Return the body for an OpenAI-compatible upstream.

    ``members`` stand for what ``render_members`` gives, for a server that refuses some of these.
    """
    body: dict[str, JSON] = {"model": model, "input": list(request.inputs)}
    body |= render_members(request, flavour) if members is None else members
    return dump_body(body, request.size_bytes)


def render_members(request: EmbedRequest, flavour: str = "generic") -> dict[str, JSON]:
    """Return all of the body but the model and the input; floats, since not every upstream knows base64."""
    dimensions = {} if request.dimensions is None else {"dimensions": request.dimensions}
    return {"encoding_format": "float"} | dimensions


def parse_whole(body: bytes) -> list[Event]:
    """Return the vectors in the order of the inputs, and the counts."""
    answer = answerjson.loads(body)
    raise_error(answer)
    usage = common.parse_usage(answer.get("usage")) or Usage()
    finished = Finished("stop", attrs.evolve(usage, completion=0))
    data = typed.present(answer["data"])
    if len(data) > 1:
        data = _in_order(data, finished)
    return embedded([_parse_vector(item["embedding"]) for item in data], finished)


def _in_order(data: list[JSON], finished: Finished) -> list[JSON]:
    """Return the entries in the order of their indices; the only entry needs none."""
    indices = [typed.count(item.get("index")) for item in data]
    if None in indices:
        raise PartlyUnreadable("the upstream sent several vectors, one with an index that is not a number", [finished])
    places = sorted(range(len(data)), key=lambda place: indices[place] or 0)
    return [data[place] for place in places]


def _parse_vector(value: JSON) -> JSON:
    if not isinstance(value, str):
        return value
    try:
        return _little_endian(array("f", base64.b64decode(plain_base64(value), validate=True))).tolist()
    except ValueError:
        return None


def render_whole(request: EmbedRequest, answer: Answer) -> bytes:
    """Return the list of vectors, as floats or as base64 of little-endian float32."""
    usage = answer.finished.usage if answer.finished and answer.finished.usage else Usage()
    data = [
        {"object": "embedding", "index": index, "embedding": _render_vector(vector, request.encoding)}
        for index, vector in enumerate(checked_vectors(request, answer))
    ]
    counts = {"prompt_tokens": usage.prompt or 0, "total_tokens": usage.prompt or 0}
    return dump_answer({"object": "list", "data": data, "model": request.model, "usage": counts}, "data")


def _render_vector(vector: Sequence[float], encoding: str) -> JSON:
    if encoding == "float":
        return vector
    return base64.b64encode(_little_endian(array("f", vector)).tobytes()).decode("ascii")


def _little_endian(values: array[float]) -> array[float]:
    if sys.byteorder == "big":
        values.byteswap()
    return values


CODEC = common.make_codec(
    path=PATH,
    parse_request=parse_request,
    render_request=render_request,
    parse_whole=parse_whole,
    render_whole=render_whole,
    make_parser=NoFrames,
    make_renderer=NoFrames,
)
