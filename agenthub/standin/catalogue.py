"""The models there are: finding one, what it refuses, and the lists of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from .answers import JSON, Refusal, Whole, dumps
from .body import STRING, parse
from .state import CONTEXT_LENGTH, Model, Standin

KEEP_ALIVE_NS = 300 * 1_000_000_000
MODIFIED_S = 1_767_225_600
SIZE_BYTES = 3_236_964
EMBEDDING_LENGTH = 8


def require(standin: Standin, name: str, *, pulling: bool) -> Model:
    """Return the model, or raise Ollama's 404; ``pulling`` picks the words of the two that it has."""
    model = standin.find(name) if name else None
    if model is None:
        words = f'model "{name}" not found, try pulling it first' if pulling and name else f"model '{name}' not found"
        raise Refusal(404, words)
    return model


def require_able(standin: Standin, model: Model, name: str, verb: str, needs: Iterable[str]) -> None:
    """Raise Ollama's 400 where the model cannot ``verb`` (chat, generate) or lacks one of ``needs``."""
    if "completion" not in model.capabilities:
        raise Refusal(400, f'"{name}" does not support {verb}')
    for need in needs:
        if need not in model.capabilities:
            plain = need == "thinking" and not standin.old
            full = f'"{name}"' if plain else f"registry.ollama.ai/library/{model.tag}"
            raise Refusal(400, f"{full} does not support {need}")


def load(standin: Standin, model: Model, *, unload: bool) -> None:
    """Note for ``ps`` that the model is in memory, or no longer."""
    standin.loaded.pop(model.tag, None)
    if not unload:
        standin.loaded[model.tag] = standin.clock()


def tags(standin: Standin, _data: bytes, _streamed: bool | None) -> Whole:
    """GET /api/tags."""
    return Whole(dumps({"models": [_listed(model) for model in standin.models]}))


def ps(standin: Standin, _data: bytes, _streamed: bool | None) -> Whole:
    """GET /api/ps: the models that were used and not unloaded, latest expiry first."""
    now = standin.clock()
    live = {model.tag: model for model in standin.models}
    rows = [
        _running(standin, live[tag], since)
        for tag, since in reversed(standin.loaded.items())
        if tag in live and since + KEEP_ALIVE_NS > now
    ]
    return Whole(dumps({"models": rows}))


def show(standin: Standin, data: bytes, _streamed: bool | None) -> Whole:
    """POST /api/show."""
    body = parse(data, "api.ShowRequest", {"model": STRING, "name": STRING})
    name = body.get("model") or body.get("name")
    if not name:
        raise Refusal(400, "model is required")
    model = require(standin, name, pulling=False)
    template = "{{ .Prompt }}"
    system = f"SYSTEM {model.system}\n" if model.system else ""
    return Whole(
        dumps(
            {
                "modelfile": f"# Modelfile of the stand-in\nFROM {model.tag}\nTEMPLATE {template}\n{system}",
                "parameters": 'stop                           "<|im_end|>"',
                "template": template,
                **({"system": model.system} if model.system else {}),
                "details": _details(model),
                "model_info": _model_info(model),
                "tensors": [{"name": "token_embd.weight", "type": "F16", "shape": [EMBEDDING_LENGTH, 32]}],
                "capabilities": model.capabilities,
                "modified_at": _time(MODIFIED_S),
            }
        )
    )


def v1_models(standin: Standin, _data: bytes, _streamed: bool | None) -> Whole:
    """GET /v1/models; without a model ``data`` is null, as in Ollama."""
    rows = [_v1_row(model.tag) for model in standin.models]
    return Whole(dumps({"object": "list", "data": rows or None}) + b"\n", content_type=JSON)


def v1_model(standin: Standin, name: str) -> Whole:
    """GET /v1/models/{name}; the answer repeats the name as it was asked for."""
    require(standin, name, pulling=False)
    return Whole(dumps(_v1_row(name)) + b"\n", content_type=JSON)


def _v1_row(name: str) -> Mapping[str, Any]:
    return {"id": name, "object": "model", "created": MODIFIED_S, "owned_by": "library"}


def _listed(model: Model) -> Mapping[str, Any]:
    return {
        "name": model.tag,
        "model": model.tag,
        "modified_at": _time(MODIFIED_S),
        "size": SIZE_BYTES,
        "digest": model.digest,
        "details": _details(model),
    }


def _running(standin: Standin, model: Model, since: int) -> Mapping[str, Any]:
    row = {
        "name": model.tag,
        "model": model.tag,
        "size": SIZE_BYTES,
        "digest": model.digest,
        "details": _details(model),
        "expires_at": _time((since + KEEP_ALIVE_NS) // 1_000_000_000),
        "size_vram": 0,
    }
    return row if standin.old else {**row, "context_length": CONTEXT_LENGTH}


def _details(model: Model) -> Mapping[str, Any]:
    family = "bert" if "embedding" in model.capabilities else "llama"
    return {
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family],
        "parameter_size": "1.61M",
        "quantization_level": "F16",
    }


def _model_info(model: Model) -> Mapping[str, Any]:
    family = _details(model)["family"]
    return {
        "general.architecture": family,
        "general.file_type": 1,
        "general.parameter_count": 1_609_472,
        f"{family}.context_length": CONTEXT_LENGTH,
        f"{family}.embedding_length": EMBEDDING_LENGTH,
        "tokenizer.ggml.tokens": None,
    }


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
