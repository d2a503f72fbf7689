"""GET /api/tags, /api/ps, /api/version and POST /api/show.

Source: Ollama docs/api.md "List Local Models", "List Running Models", "Show Model Information".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import attrs

from agenthub.canonical import JSON, Answer, Finished, ModelInfo, RelayRequest, Source
from agenthub.dialects import answerjson, jsontext, listed, typed
from agenthub.dialects.body import parse_fields
from agenthub.dialects.capabilities import capabilities_of, parse_context_length
from agenthub.dialects.codec import BROKEN
from agenthub.dialects.ollama import fields as common
from agenthub.dialects.ollama import show
from agenthub.dialects.whole import NoFrames
from agenthub.errors import InvalidRequest, UpstreamProtocol

DIALECT = "ollama"
TAGS_PATH = "/api/tags"
PS_PATH = "/api/ps"
SHOW_PATH = "/api/show"
VERSION_PATH = "/api/version"
_MEMBERS, _NAMES = ("models", "data"), ("name", "model")
_LEAST_DIGEST = 12


def parse_tags(body: bytes, odd: list[JSON] | None = None) -> list[ModelInfo]:
    """Return what /api/tags lists; raises UpstreamProtocol if it is no list. Entries without a name go to ``odd``."""
    return listed.parse_models(listed.parse_entries(body, TAGS_PATH, _MEMBERS), DIALECT, _NAMES, odd)


def render_tags(models: Iterable[ModelInfo]) -> bytes:
    """Return the body of /api/tags."""
    return jsontext.dumps({"models": [render_entry(model) for model in models]})


def render_entry(model: ModelInfo) -> dict[str, JSON]:
    """Return one model as /api/tags shows it; one of another dialect gets what can be known of it."""
    if model.dialect != DIALECT:
        return _made_up(model) | _told(model)
    sound = {name: value for name, value in model.entry.items() if _is_sound(name, value)}
    by_setting = {"capabilities": list(model.capabilities)} if model.capabilities else {}
    return _made_up(model) | sound | _named(model) | by_setting


def _named(model: ModelInfo) -> dict[str, JSON]:
    return {"name": model.name, "model": model.name}


def _made_up(model: ModelInfo) -> dict[str, JSON]:
    meta = model.entry.get("meta")
    size = meta.get("size") if isinstance(meta, Mapping) else 0
    return _named(model) | {
        "modified_at": _timestamp(model.entry.get("created")),
        "size": size if isinstance(size, int) else 0,
        "digest": hashlib.sha256(model.name.encode("utf-8", "replace")).hexdigest(),
        "details": render_details(model),
    }


def _told(model: ModelInfo) -> dict[str, JSON]:
    """Return what a server that is no Ollama tells besides, and what a setting says."""
    told: dict[str, JSON] = {"capabilities": found} if (found := capabilities_of(model)) else {}
    length = parse_context_length(model.entry)
    return told if length is None else told | {"context_length": length}


def _is_sound(name: str, value: JSON) -> bool:
    """Say whether Ollama's own clients can read a member: others break down, such as the empty texts of llama.cpp."""
    match name:
        case "size":
            return type(value) is int
        case "digest":
            return isinstance(value, str) and len(value) >= _LEAST_DIGEST
        case "modified_at":
            return isinstance(value, str) and bool(value)
        case "details":
            return isinstance(value, Mapping)
    return True


def render_details(model: ModelInfo) -> dict[str, JSON]:
    """Return the ``details`` object of a model that no Ollama described."""
    family = str(model.entry.get("owned_by") or "")
    return {
        "parent_model": "",
        "format": "",
        "family": family,
        "families": None,
        "parameter_size": "",
        "quantization_level": "",
    }


def _timestamp(seconds: JSON) -> str:
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, ArithmeticError, OSError):  # none, or none that a calendar knows
        moment = datetime.fromtimestamp(0, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def render_show(model: ModelInfo) -> bytes:
    """Return a body of /api/show made of what an OpenAI-compatible server lists; ollama-python needs ``model_info``."""
    entry = model.entry
    details = render_details(model)
    family = details["family"] or "unknown"
    info: dict[str, JSON] = {"general.architecture": family}
    if (context := parse_context_length(entry)) is not None:
        info[f"{family}.context_length"] = context
    capabilities = capabilities_of(model) or ["embedding" if "embed" in model.name.lower() else "completion"]
    body = {"modelfile": "", "license": "", "template": "", "details": details, "model_info": info}
    return jsontext.dumps(body | {"capabilities": capabilities, "modified_at": _timestamp(entry.get("created"))})


def parse_show_request(body: bytes) -> RelayRequest:
    """Return the request of /api/show; ``name`` is the old word for ``model``."""
    fields = parse_fields(body, "ShowRequest")
    model, old_name = fields.text("model"), fields.text("name")
    model = model or old_name
    if not model:
        raise InvalidRequest("model is required", param="model")
    return RelayRequest(verb="show", model=model, arguments=fields.rest(), source=Source(DIALECT, SHOW_PATH, body))


def _render_relayed(request: RelayRequest, answer: Answer) -> bytes:
    raise UpstreamProtocol(f"the adapter gave no answer to {request.verb}")


def _render_request(request: RelayRequest, model: str) -> bytes:
    return jsontext.dumps({**request.arguments, "model": model})


SHOW_CODEC = common.make_codec(
    path=SHOW_PATH,
    parse_request=parse_show_request,
    render_request=_render_request,
    render_defaults=lambda request: {},
    parse_whole=lambda body: [Finished()],
    render_whole=_render_relayed,
    make_parser=NoFrames,
    make_renderer=NoFrames,
    complete=show.complete,
    is_verb=True,
)
COPILOT_SHOW_CODEC = attrs.evolve(SHOW_CODEC, complete=show.complete_for_copilot)


def parse_running(body: bytes) -> list[Mapping[str, JSON]]:
    """Return the entries of /api/ps that name a model."""
    entries = listed.parse_entries(body, PS_PATH, _MEMBERS)
    return [{**model.entry, **_named(model)} for model in listed.parse_models(entries, DIALECT, _NAMES)]


def render_running(entries: Iterable[Mapping[str, JSON]]) -> bytes:
    """Return the body of /api/ps: latest expiry first, whichever upstream the entries are from."""
    return jsontext.dumps({"models": sorted(entries, key=_expiry, reverse=True)})


def _expiry(entry: Mapping[str, JSON]) -> float:
    try:
        moment = datetime.fromisoformat(entry.get("expires_at") or "")
    except (TypeError, ValueError):
        return 0.0
    # To move one near the ends of the calendar to another zone is an OverflowError; Ollama's "never" is the year 2318.
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() if 1 < moment.year < 9999 else 0.0


def parse_version(body: bytes) -> str:
    """Return the version of /api/version."""
    try:
        return typed.label(answerjson.loads(body)["version"]) or typed.required(None)
    except BROKEN as error:
        raise UpstreamProtocol("the upstream's /api/version holds no version") from error


def render_version(version: str) -> bytes:
    """Return the body of /api/version; VS Code wants numbers with dots."""
    return jsontext.dumps({"version": version})
