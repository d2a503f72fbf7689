"""GET /v1/models and /v1/models/{id}. Source: API reference "List models"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import attrs

from agenthub.canonical import CAPABILITIES, JSON, ModelInfo
from agenthub.dialects import answerjson, jsontext, listed
from agenthub.dialects.capabilities import parse_capabilities

DIALECT = "openai"
MODELS_PATH = "/v1/models"
_MEMBERS, _NAMES = ("data", "models"), ("id", "name", "model")


def parse_models(body: bytes, odd: list[JSON] | None = None) -> list[ModelInfo]:
    """Return what /v1/models lists; Ollama's ``"data": null`` is an empty list. Unnamed entries go to ``odd``."""
    models = listed.parse_models(listed.parse_entries(body, MODELS_PATH, _MEMBERS), DIALECT, _NAMES, odd)
    return _joined(models, _beside(body)) if b'"models"' in body else models


def _beside(body: bytes) -> Mapping[str, Mapping[str, JSON]]:
    """Return by their names the entries of llama.cpp's second list, which alone says what its models can do."""
    value = answerjson.loads(body)
    others = value.get("models") if isinstance(value, dict) else None
    found = listed.parse_models(others, DIALECT, _NAMES) if isinstance(others, list) else []
    return {model.name: model.entry for model in found}


def _joined(models: Iterable[ModelInfo], beside: Mapping[str, Mapping[str, JSON]]) -> list[ModelInfo]:
    joined = []
    for model in models:
        told = {*parse_capabilities(model.entry), *parse_capabilities(beside.get(model.name, {}))}
        joined.append(attrs.evolve(model, capabilities=tuple([word for word in CAPABILITIES if word in told])))
    return joined


def is_of_ollama(model: ModelInfo) -> bool:
    """Say whether the list seems to be an Ollama's, which names the namespace of a model as its owner."""
    owner = str(model.entry.get("owned_by") or "")
    return owner == "library" or (bool(owner) and model.name.startswith(f"{owner}/"))


def render_models(models: Iterable[ModelInfo]) -> bytes:
    """Return the body of /v1/models."""
    return jsontext.dumps({"object": "list", "data": [render_entry(model) for model in models]})


def render_model(model: ModelInfo, name: str) -> bytes:
    """Return the body of /v1/models/{id}; ``name`` is the id as it was asked for."""
    return jsontext.dumps(render_entry(model) | {"id": name})


def render_entry(model: ModelInfo) -> dict[str, JSON]:
    """Return one model; of an Ollama model its time and its namespace are known."""
    if model.dialect == DIALECT:
        known = {"object": "model", "created": 0, "owned_by": "library"}
        entry = known | {name: value for name, value in model.entry.items() if value is not None}
        created = entry["created"]
        return entry | {"id": model.name, "created": int(created) if isinstance(created, int | float) else 0}
    namespace, slash, _ = model.name.rpartition("/")
    return {
        "id": model.name,
        "object": "model",
        "created": _seconds(model.entry.get("modified_at")),
        "owned_by": namespace if slash else "library",
    }


def _seconds(value: JSON) -> int:
    """Return the Unix time of an RFC 3339 text, 0 for none; Ollama writes nine digits, Python reads six."""
    if not isinstance(value, str):
        return 0
    head, dot, tail = value.partition(".")
    fraction = tail.lstrip("0123456789") if dot else ""
    try:
        return int(datetime.fromisoformat((head + fraction).replace("Z", "+00:00")).timestamp())
    except (ValueError, OverflowError):
        return 0
