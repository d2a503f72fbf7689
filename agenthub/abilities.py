"""What a model cannot do, where its upstream says so: a request that needs it is refused before anything is sent.

Who says nothing is asked: old Ollamas list no capabilities, and other servers fill the list in by habit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from agenthub.canonical import JSON, ChatRequest, GenerateRequest, Loss, ModelInfo, TextRequest
from agenthub.dialects import answerjson
from agenthub.dialects.openai.listing import is_of_ollama
from agenthub.errors import Unsupported
from agenthub.middleware.cache_key import model_key
from agenthub.settings import ModelSettings

_WORDS = frozenset({"completion", "tools", "insert", "vision", "embedding", "thinking", "image", "audio"})
_NEEDED = frozenset({"completion", "tools", "insert", "vision"})
_THINKING = frozenset({"thinking", "effort"})
"""To think when Ollama's own API is asked for it, and when its OpenAI-compatible one is, by ``reasoning_effort``."""
_NO_SETTINGS = ("", ModelSettings())
_MAIN = frozenset({"completion", "embedding"})
_DIGEST = re.compile(r"(sha256:)?[0-9a-f]{64}")
_MISTRAL = {"function_calling": "tools", "vision": "vision"}
_KNOWN_SINCE = {"thinking": (0, 9), "effort": (0, 12)}
"""The versions of Ollama from which on a wish to think is refused where it cannot be had; those before ignored it."""


def lacks_by_list(model: ModelInfo) -> frozenset[str] | None:
    """Return what a model lacks by its entry in a list, in Ollama's words; None where that does not say."""
    told = model.entry.get("capabilities")
    if model.dialect != "ollama" and isinstance(told, dict):
        return frozenset(word for name, word in _MISTRAL.items() if told.get(name) is False)
    if model.dialect == "ollama":
        # llama.cpp lists "completion" for every model, whatever it can do; only an Ollama has digests.
        is_credible = _DIGEST.fullmatch(str(model.entry.get("digest") or "")) is not None
    else:
        is_credible = model.entry.get("owned_by") != "llamacpp"
    return _lacks(told) if is_credible else None


def kept_lacks(
    lacks: Mapping[str, frozenset[str]], before: Mapping[str, ModelInfo], now: Mapping[str, ModelInfo]
) -> dict[str, frozenset[str]]:
    """Return what is still known of models by their keys once they are listed anew, and what the list itself says."""
    told = {key: found for key, model in now.items() if (found := lacks_by_list(model)) is not None}
    kept = {key: found for key, found in lacks.items() if key in now and _mark(before.get(key)) == _mark(now[key])}
    return kept | told


def _mark(model: ModelInfo | None) -> Sequence[JSON]:
    """Return what is another for another model under the same name."""
    return () if model is None else tuple(model.entry.get(name) for name in ("digest", "modified_at", "created"))


def can_show(model: ModelInfo) -> bool:
    """Say whether it is worth while to ask the upstream's ``show`` for a model: whether it seems to be an Ollama's."""
    if model.dialect == "ollama":
        return _DIGEST.fullmatch(str(model.entry.get("digest") or "")) is not None
    return is_of_ollama(model)


def lacks_by_show(body: bytes, version: str) -> frozenset[str]:
    """Return what a model lacks by an answer of /api/show of an Ollama of that version: nothing where that is unknown.

    Only an Ollama writes a Modelfile; what others send under ``capabilities`` is not to be relied on.
    """
    try:
        shown = answerjson.loads(body)
    except ValueError:
        return frozenset()
    lacks = _lacks(shown.get("capabilities")) if isinstance(shown, dict) and shown.get("modelfile") else None
    numbers = tuple(int(part) for part in re.findall(r"\d{1,9}", version)[:3])
    # A build from source calls itself 0.0.0, and is likely to be new.
    unknown = {word for word, since in _KNOWN_SINCE.items() if numbers < since and numbers != (0, 0, 0)}
    return (lacks or frozenset()) - unknown


def _lacks(told: JSON) -> frozenset[str] | None:
    words = frozenset(told) if isinstance(told, list) and all(isinstance(word, str) for word in told) else frozenset()
    if words.isdisjoint(_MAIN) or not words <= _WORDS:
        return None
    # Ollama takes sound in the field for images.
    seen = {"vision"} if words & {"image", "audio"} else set()
    return _NEEDED - words - seen | (frozenset() if "thinking" in words else _THINKING)


def set_capabilities(settings: Mapping[str, tuple[str, ModelSettings]], model: str) -> tuple[str, ...]:
    """Return what a setting says that a model can do, by its own name or that of the model it stands for.

    ``settings`` are the models' names and settings by their keys.
    """
    _, own = settings.get(model_key(model), _NO_SETTINGS)
    _, meant = settings.get(model_key(own.target), _NO_SETTINGS)
    return own.capabilities or meant.capabilities


@lru_cache
def lacks_by_setting(capabilities: tuple[str, ...]) -> frozenset[str]:
    """Return what a model lacks by the setting ``capabilities``, which need not say that it completes text."""
    words = list(capabilities) if _MAIN.intersection(capabilities) else [*capabilities, "completion"]
    return _lacks(words) or frozenset()


def refuse_lacking(request: TextRequest, api_mode: str, lacks: frozenset[str], losses: Sequence[Loss]) -> None:
    """Raise Unsupported, in Ollama's words, where the request needs what the model lacks; what it loses it cannot need.

    To load a model needs nothing.
    """
    if request.loads_only:
        return
    for need, word, field in _needs(request, api_mode):
        if need in lacks and not any(loss.field == field for loss in losses):
            raise Unsupported(f'"{request.model}" does not support {word}', param=field)


def _is_passed_over(request: TextRequest) -> bool:
    """Say whether the wish to think is Ollama's ``think`` in a body of OpenAI's dialect, where nobody reads it."""
    source = request.source
    return source is not None and source.dialect == "openai" and b'"reasoning' not in source.body


def _needs(request: TextRequest, api_mode: str) -> Iterable[tuple[str, str, str]]:
    """Yield each ability that a request needs, how a refusal names it, and the field that asks for it."""
    yield "completion", request.operation, "model"
    if request.think not in (None, False, "", "none"):
        if api_mode != "openai":
            yield "thinking", "thinking", "think"
        elif not _is_passed_over(request):
            yield "effort", "thinking", "think"
    match request:
        case ChatRequest():
            if request.tools and request.tool_choice != "none":
                yield "tools", "tools", "tools"
            if any(message.images for message in request.messages):
                yield "vision", "vision", "messages.images"
        case GenerateRequest():
            if request.suffix:
                yield "insert", "insert", "suffix"
            if request.images:
                yield "vision", "vision", "images"
