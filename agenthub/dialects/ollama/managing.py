"""The verbs that change the models: POST /api/pull, /api/push, /api/create, /api/copy and DELETE /api/delete.

Source: Ollama docs/api.md "Pull a Model", "Push a Model", "Create a Model", "Copy a Model", "Delete a Model".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from agenthub.canonical import Answer, Finished, RelayRequest, Source
from agenthub.dialects import jsontext
from agenthub.dialects.body import Fields, parse_fields
from agenthub.dialects.codec import Codec
from agenthub.dialects.ollama import fields as common
from agenthub.dialects.ollama import progress
from agenthub.dialects.whole import NoFrames
from agenthub.errors import InvalidRequest

DIALECT = "ollama"
FILES = ("files", "adapters", "draft_files")
"""What a model may be created from that was uploaded as blobs: names of files, each with its digest."""


def parse_pull(body: bytes) -> RelayRequest:
    """Return the request of /api/pull; raises InvalidRequest in Ollama's words, as all of these."""
    return _parse_job("pull", body, "invalid model name")


def parse_push(body: bytes) -> RelayRequest:
    """Return the request of /api/push."""
    return _parse_job("push", body, "model is required")


def _parse_job(verb: str, body: bytes, nameless: str) -> RelayRequest:
    fields = parse_fields(body, f"{verb.capitalize()}Request")
    model, stream = _take_name(fields, nameless), fields.flag("stream", True)
    return RelayRequest(
        verb=verb, model=model, stream=stream, arguments=fields.rest(), source=Source(DIALECT, f"/api/{verb}", body)
    )


def _take_name(fields: Fields, nameless: str) -> str:
    # "name" is the old word for it.
    model, name = fields.text("model"), fields.text("name")
    if not (model or name):
        raise InvalidRequest(nameless, param="model")
    return model or name


def parse_create(body: bytes) -> RelayRequest:
    """Return the request of /api/create: its model is the one that the new model is made ``from``, if there is one."""
    fields = parse_fields(body, "CreateRequest")
    new, base, stream = _take_name(fields, "invalid model name"), fields.text("from"), fields.flag("stream", True)
    for name in FILES:
        if (files := fields.values.get(name)) is not None and not isinstance(files, dict):
            fields.refuse(name, files, "map[string]string")
    arguments = fields.rest() | {"model": new}
    source = Source(DIALECT, "/api/create", body)
    return RelayRequest(verb="create", model=base, stream=stream, arguments=arguments, source=source)


def parse_copy(body: bytes) -> RelayRequest:
    """Return the request of /api/copy: its model is the ``source``."""
    fields = parse_fields(body, "CopyRequest")
    names = {name: fields.text(name) for name in ("source", "destination")}
    for name, value in names.items():
        if not value:
            raise InvalidRequest(f'{name} "" is invalid', param=name)
    arguments = fields.rest() | {"destination": names["destination"]}
    return RelayRequest(
        verb="copy", model=names["source"], arguments=arguments, source=Source(DIALECT, "/api/copy", body)
    )


def parse_delete(body: bytes) -> RelayRequest:
    """Return the request of /api/delete."""
    fields = parse_fields(body, "DeleteRequest")
    model = _take_name(fields, "model is required")
    return RelayRequest(
        verb="delete", model=model, arguments=fields.rest(), source=Source(DIALECT, "/api/delete", body)
    )


def render_request(request: RelayRequest, model: str, member: str = "model") -> bytes:
    """Return the body for an Ollama upstream; ``member`` is the one that names the model."""
    named = {member: model} if model else {}
    return jsontext.dumps({**request.arguments, **named})


def _render_job(request: RelayRequest, model: str, member: str = "model") -> bytes:
    named = {member: model} if model else {}
    return jsontext.dumps({**request.arguments, **named, "stream": request.stream})


def render_nothing(request: RelayRequest, answer: Answer) -> bytes:
    """Return the empty body that is the answer of a verb with nothing to say."""
    return b""


make_verb = partial(common.make_codec, render_defaults=lambda request: {}, is_verb=True)
"""Makes the codec of a management verb."""
make_silent = partial(
    make_verb,
    parse_whole=lambda body: [Finished()],
    render_whole=render_nothing,
    make_parser=NoFrames,
    make_renderer=NoFrames,
)
"""Makes the codec of a verb whose answer is a status alone."""


def _make_job(path: str, parse_request: Callable[[bytes], RelayRequest], member: str = "model") -> Codec:
    return make_verb(
        path=path,
        parse_request=parse_request,
        render_request=partial(_render_job, member=member),
        parse_whole=progress.parse_whole,
        render_whole=progress.render_whole,
        make_parser=progress.ProgressParser,
        make_renderer=progress.ProgressRenderer,
        member=member,
        whole_type="application/json",
        is_patient=True,
    )


PULL_CODEC = _make_job("/api/pull", parse_pull)
PUSH_CODEC = _make_job("/api/push", parse_push)
CREATE_CODEC = _make_job("/api/create", parse_create, "from")
COPY_CODEC = make_silent(
    path="/api/copy", parse_request=parse_copy, render_request=partial(render_request, member="source"), member="source"
)
DELETE_CODEC = make_silent(
    path="/api/delete", parse_request=parse_delete, render_request=render_request, method="DELETE"
)
