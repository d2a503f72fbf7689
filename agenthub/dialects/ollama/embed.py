"""POST /api/embed and its predecessor /api/embeddings. Source: Ollama docs/api.md "Generate Embeddings"."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from agenthub.canonical import JSON, Answer, Embeddings, EmbedRequest, Event, Finished, Source, Usage
from agenthub.dialects import answerjson, jsontext, typed
from agenthub.dialects.body import parse_fields
from agenthub.dialects.codec import PartlyUnreadable
from agenthub.dialects.groups import dump_answer, dump_body
from agenthub.dialects.ledger import FIELDS
from agenthub.dialects.ollama import fields as common
from agenthub.dialects.whole import NoFrames
from agenthub.errors import InvalidRequest, UnknownModel, UnreadableAnswer

DIALECT = "ollama"
PATH = "/api/embed"
LEGACY_PATH = "/api/embeddings"


def parse_request(body: bytes) -> EmbedRequest:
    """Return the canonical request; raises InvalidRequest or UnknownModel in Ollama's words."""
    fields = parse_fields(body, "EmbedRequest", known=FIELDS)
    model = fields.text("model")
    if not model:
        raise UnknownModel("")
    return EmbedRequest(
        model=model,
        inputs=parse_inputs(fields.take("input")),
        dimensions=fields.integer("dimensions") or None,
        truncate=fields.choice("truncate"),
        options=common.parse_options(fields),
        keep_alive=common.parse_keep_alive(fields.take("keep_alive")),
        extras=fields.rest(),
        source=Source(DIALECT, PATH, body),
    )


def parse_inputs(value: JSON) -> tuple[str, ...]:
    """Return the texts; missing, null and "" all mean none (the model is only loaded)."""
    if value is None or value == "":
        return ()
    inputs = [value] if isinstance(value, str) else value
    if not isinstance(inputs, list) or not all(isinstance(item, str) for item in inputs):
        raise InvalidRequest("invalid input type", param="input")
    return tuple(inputs)


def parse_legacy_request(body: bytes) -> EmbedRequest:
    """Return the canonical request of /api/embeddings, which embeds one ``prompt`` and does not normalise."""
    fields = parse_fields(body, "EmbeddingRequest", known=FIELDS)
    model = fields.text("model")
    if not model:
        raise InvalidRequest("model is required", param="model")
    prompt = fields.text("prompt")
    return EmbedRequest(
        model=model,
        inputs=(prompt,) if prompt else (),
        normalised=False,
        options=common.parse_options(fields),
        keep_alive=common.parse_keep_alive(fields.take("keep_alive")),
        extras=fields.rest(),
        source=Source(DIALECT, LEGACY_PATH, body),
    )


def render_request(request: EmbedRequest, model: str) -> bytes:
    """Return the body of /api/embed."""
    optional: dict[str, JSON] = {
        "dimensions": request.dimensions,
        "truncate": request.truncate,
        "options": dict(request.options) or None,
        "keep_alive": request.keep_alive,
    }
    body: dict[str, JSON] = {"model": model, "input": list(request.inputs)}
    body |= {name: value for name, value in optional.items() if value is not None}
    return dump_body(body, request.size_bytes)


def render_legacy_request(request: EmbedRequest, model: str) -> bytes:
    """Return the body of /api/embeddings, for one text at most."""
    body: dict[str, JSON] = {"model": model, "prompt": "".join(request.inputs[:1])}
    if request.options:
        body["options"] = dict(request.options)
    if request.keep_alive is not None:
        body["keep_alive"] = request.keep_alive
    return dump_body(body, request.size_bytes)


def parse_whole(body: bytes) -> list[Event]:
    """Return the vectors and the counts of /api/embed."""
    answer = answerjson.loads(body)
    common.raise_error(answer)
    finished = common.parse_finished(answer)
    if finished.usage is None:
        finished = attrs.evolve(finished, usage=Usage())
    return embedded(_parse_vectors(answer), finished)


def _parse_vectors(answer: JSON) -> list[JSON]:
    """Return the vectors, which the older endpoint's only one may stand for, or a vector itself."""
    vectors = typed.present(answer["embeddings"] if "embeddings" in answer else answer["embedding"])
    return [vectors] if vectors and type(vectors[0]) in (int, float) else vectors


def parse_legacy_whole(body: bytes) -> list[Event]:
    """Return the vector of /api/embeddings, which reports no counts."""
    answer = answerjson.loads(body)
    common.raise_error(answer)
    if "embedding" not in answer:
        return embedded(_parse_vectors(answer)[:1], Finished())
    vector = answer["embedding"]
    return embedded([vector] if vector else [], Finished())


def embedded(vectors: Sequence[JSON], finished: Finished) -> list[Event]:
    """Return the events of vectors; raises PartlyUnreadable where one is no list of numbers."""
    try:
        return [Embeddings(typed.vectors(vectors)), finished]
    except (TypeError, ArithmeticError) as error:
        raise PartlyUnreadable("the upstream sent a vector that is not a list of numbers", [finished]) from error


def checked_vectors(request: EmbedRequest, answer: Answer) -> Sequence[Sequence[float]]:
    """Return the vectors; raise UnreadableAnswer unless there is one for each input."""
    if request.inputs and len(answer.vectors) != len(request.inputs):
        raise UnreadableAnswer(f"the upstream sent {len(answer.vectors)} vectors for {len(request.inputs)} inputs")
    return answer.vectors


def render_whole(request: EmbedRequest, answer: Answer) -> bytes:
    """Return the answer of /api/embed."""
    body: dict[str, JSON] = {"model": request.model, "embeddings": list(checked_vectors(request, answer))}
    members = common.render_finished(answer.finished or Finished())
    kept = ("total_duration", "load_duration", "prompt_eval_count")
    return dump_answer(body | {name: members[name] for name in kept if name in members}, "embeddings")


def render_legacy_whole(request: EmbedRequest, answer: Answer) -> bytes:
    """Return the answer of /api/embeddings."""
    vectors = checked_vectors(request, answer)
    return jsontext.dumps({"embedding": vectors[0] if vectors else []})


CODEC = common.make_codec(
    path=PATH,
    parse_request=parse_request,
    render_request=render_request,
    parse_whole=parse_whole,
    render_whole=render_whole,
    make_parser=NoFrames,
    make_renderer=NoFrames,
)
LEGACY_CODEC = attrs.evolve(
    CODEC,
    path=LEGACY_PATH,
    parse_request=parse_legacy_request,
    render_request=render_legacy_request,
    parse_whole=parse_legacy_whole,
    render_whole=render_legacy_whole,
)
