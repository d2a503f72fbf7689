"""The verbs that manage models: pull, push, create, copy, delete, blobs. They really change which models there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import attrs

from .answers import JSON, NDJSON, Refusal, Stream, Whole, dumps
from .body import BOOL, STRING, parse
from .catalogue import SIZE_BYTES
from .state import Model, Standin

MISSING = "pull model manifest: file does not exist"
_NAME = re.compile(r"([\w.-]+(:\d+)?/)?([\w.-]+/)?[\w.-]+(:[\w.-]+)?")
_DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")
_FILES = ((dict,), "map[string]string")
_JOB = {"model": STRING, "name": STRING, "stream": BOOL, "insecure": BOOL}
_CREATE = {**_JOB, "from": STRING, "system": STRING, "template": STRING, "files": _FILES, "adapters": _FILES}
_LAYERS = 3
_STEPS = 4

Line = Mapping[str, Any]


def pull(standin: Standin, data: bytes, streamed: bool | None) -> Whole | Stream:
    """POST /api/pull: everything can be pulled but what is called ``nope…``."""
    body = parse(data, "api.PullRequest", _JOB)
    name = _named(body, "invalid model name")
    _check_name(name)
    if not standin.can_pull(name):
        return _job(body, streamed, [{"status": "pulling manifest"}], _failing(MISSING))

    def end() -> Iterable[Line]:
        standin.put(standin.find(name) or Model(name))
        return [{"status": "success"}]

    return _job(body, streamed, _pulling(name), end)


def push(standin: Standin, data: bytes, streamed: bool | None) -> Whole | Stream:
    """POST /api/push."""
    body = parse(data, "api.PushRequest", _JOB)
    name = _named(body, "model is required")
    lines: list[Line] = [{"status": "retrieving manifest"}]
    if not _NAME.fullmatch(name):
        return _job(body, streamed, lines, _failing("file does not exist"))
    model = standin.find(name)
    if model is None:
        path = f"models/manifests/registry.ollama.ai/library/{name}/latest"
        lines.append({"status": "couldn't retrieve manifest"})
        return _job(body, streamed, lines, _failing(f"open {path}: no such file or directory"))
    lines += _layers("pushing", model.name)
    return _job(body, streamed, [*lines, {"status": "pushing manifest"}], lambda: [{"status": "success"}])


def create(standin: Standin, data: bytes, streamed: bool | None) -> Whole | Stream:
    """POST /api/create: from a model, which is pulled if it is not there, or from files that were uploaded."""
    body = parse(data, "api.CreateRequest", _CREATE)
    name = _named(body, "invalid model name")
    _check_name(name)
    base, files = body.get("from", ""), {**body.get("files", {}), **body.get("adapters", {})}
    if base and not _NAME.fullmatch(base):
        return _refused_job(body, streamed, 400, "invalid model name")
    if not base and not files:
        return _refused_job(body, streamed, 400, "neither 'from' or 'files' was specified")
    source = standin.find(base) if base else None
    lines: list[Line] = []
    if base and source is None:
        if not standin.can_pull(base):
            return _job(body, streamed, [{"status": "pulling manifest"}], _failing(MISSING))
        lines += _pulling(base)
    if files:
        lines.append({"status": "parsing GGUF"})
    for digest in files.values():
        if not _DIGEST.fullmatch(str(digest)):
            return _job(body, streamed, lines, _failing("invalid digest format"))
        if not has_blob(standin, str(digest)):
            path = f"models/blobs/{str(digest).replace(':', '-')}"
            return _job(body, streamed, lines, _failing(f"open {path}: no such file or directory"))
        lines.append({"status": f"using existing layer {digest}"})
    made = f"{base} {sorted(files.values())} {body.get('system', '')}"
    lines += [{"status": f"creating new layer sha256:{_hex(made)}"}, {"status": "writing manifest"}]

    def end() -> Iterable[Line]:
        new = attrs.evolve(source, name=name) if source else Model(name)
        standin.put(attrs.evolve(new, origin=made, system=body.get("system", new.system)))
        return [{"status": "success"}]

    return _job(body, streamed, lines, end)


def copy(standin: Standin, data: bytes, _streamed: bool | None) -> Whole:
    """POST /api/copy."""
    body = parse(data, "api.CopyRequest", {"source": STRING, "destination": STRING})
    source, destination = body.get("source", ""), body.get("destination", "")
    for field, name in (("source", source), ("destination", destination)):
        if not _NAME.fullmatch(name):
            raise Refusal(400, f'{field} "{name}" is invalid')
    model = standin.find(source)
    if model is None:
        raise Refusal(404, f'model "{source}" not found')
    standin.put(attrs.evolve(model, name=destination, origin=model.origin or model.name))
    return Whole(b"", content_type="")


def delete(standin: Standin, data: bytes, _streamed: bool | None) -> Whole:
    """DELETE /api/delete."""
    body = parse(data, "api.DeleteRequest", {"model": STRING, "name": STRING})
    name = body.get("model") or body.get("name") or ""
    if not name and not standin.old:
        raise Refusal(400, "model is required")
    if not _NAME.fullmatch(name):
        raise Refusal(400, f'name "{name}" is invalid')
    model = standin.find(name)
    if model is None:
        raise Refusal(404, f"model '{name}' not found")
    standin.remove(model)
    return Whole(b"", content_type="")


def ask_blob(standin: Standin, digest: str) -> Whole:
    """HEAD /api/blobs/:digest."""
    _check_digest(digest)
    if not has_blob(standin, digest):
        raise Refusal(404, f"stat models/blobs/{_blob(digest)}: no such file or directory")
    return Whole(b"", content_type="")


def upload_blob(standin: Standin, digest: str, size_bytes: int, found: str) -> Whole:
    """POST /api/blobs/:digest; ``found`` is the digest of the content, 64 hex digits, and ``size_bytes`` its size."""
    _check_digest(digest)
    if has_blob(standin, digest):
        return Whole(b"", content_type="")
    if digest[7:] != found:
        raise Refusal(400, f'digest mismatch, expected "{digest}", got "sha256:{found}"')
    standin.blobs[_blob(digest)] = size_bytes
    return Whole(b"", 201, content_type="")


def _named(body: Mapping[str, Any], nameless: str) -> str:
    name: str = body.get("model") or body.get("name") or ""
    if not name:
        raise Refusal(400, nameless)
    return name


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Refusal(400, "invalid model name")


def _check_digest(digest: str) -> None:
    if not _DIGEST.fullmatch(digest):
        raise Refusal(400, "invalid digest format")


def _blob(digest: str) -> str:
    return digest.replace(":", "-")


def has_blob(standin: Standin, digest: str) -> bool:
    """Say whether the blob is there: then its upload is answered without being read."""
    return _blob(digest) in standin.blobs


def _hex(text: str) -> str:
    return sha256(text.encode(errors="replace")).hexdigest()


def _pulling(name: str) -> list[Line]:
    after = ("verifying sha256 digest", "writing manifest")
    return [{"status": "pulling manifest"}, *_layers("pulling", name), *({"status": status} for status in after)]


def _layers(verb: str, name: str) -> list[Line]:
    """Return the progress of each layer: ``completed`` is missing while it is 0."""
    lines: list[Line] = []
    for layer in range(_LAYERS):
        digest, total = _hex(f"{name} {layer}"), SIZE_BYTES // (layer + 1)
        head = {"status": f"{verb} {digest[:12]}", "digest": f"sha256:{digest}", "total": total}
        lines += [head, *({**head, "completed": total * step // _STEPS} for step in range(1, _STEPS + 1))]
    return lines


def _failing(message: str) -> Callable[[], Iterable[Line]]:
    return lambda: [{"error": message}]


def _job(
    body: Mapping[str, Any], streamed: bool | None, lines: Sequence[Line], end: Callable[[], Iterable[Line]]
) -> Whole | Stream:
    """Return the lines as a stream, or only the last of them; ``end`` does what is to be done, and returns the last."""

    def frame(line: Line) -> bytes:
        return dumps(line) + b"\n"

    if body.get("stream", True) if streamed is None else streamed:
        return Stream(
            NDJSON, map(frame, lines), lambda: [*map(frame, end())], lambda message: frame({"error": message})
        )
    *_, last = end()
    return Whole(dumps(last), 500 if "error" in last else 200, content_type=JSON, tokens=len(lines))


def _refused_job(body: Mapping[str, Any], streamed: bool | None, status: int, message: str) -> Whole | Stream:
    if body.get("stream", True) if streamed is None else streamed:
        return _job(body, True, [], lambda: [{"error": message, "status": status}])
    return Whole(dumps({"error": message}), status, content_type=JSON)
