"""Capabilities: what a model can do and how much it reads, in Ollama's words, as servers list it in theirs.

Sources: vLLM /v1/models (max_model_len); llama.cpp (meta, architecture, capabilities); LM Studio /api/v0/models (type,
capabilities, max_context_length); OpenRouter "List models" (supported_parameters, architecture, context_length);
Mistral "List models" (capabilities, an object); Groq (context_window).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agenthub.canonical import CAPABILITIES, JSON, ModelInfo

_SAME: Mapping[str, str] = {
    **{word: word for word in CAPABILITIES},
    **dict.fromkeys(
        ("chat", "chat_completion", "completion_chat", "completions", "text-generation", "llm"), "completion"
    ),
    **dict.fromkeys(("tool_use", "tool-use", "tool_calls", "tool_calling", "function_calling"), "tools"),
    **dict.fromkeys(("multimodal", "image_input", "vlm"), "vision"),
    **dict.fromkeys(("reasoning", "include_reasoning", "reasoning_effort"), "thinking"),
    **dict.fromkeys(("completion_fim", "fill_in_middle", "fim"), "insert"),
    **dict.fromkeys(("embeddings", "feature-extraction"), "embedding"),
}
_INPUTS = {"image": "vision", "audio": "audio"}
_OUTPUTS = {"text": "completion", "embeddings": "embedding", "embedding": "embedding", "image": "image"}
_PARAMETERS = frozenset({"tools", "reasoning", "include_reasoning", "reasoning_effort"})
_LENGTHS = ("max_model_len", "context_length", "context_window", "max_context_length", "max_input_tokens")
_LENGTHS_OF_META = ("n_ctx", "n_ctx_train")


def capabilities_of(model: ModelInfo) -> list[str]:
    """Return what a model can do, as a setting or its server says it; empty where neither does."""
    return list(model.capabilities) or parse_capabilities(model.entry)


def parse_capabilities(entry: Mapping[str, JSON]) -> list[str]:
    """Return what a model in a list can do; empty where the list does not say it."""
    found = set(_told(entry))
    if found and not found & {"completion", "embedding", "image"}:
        found.add("completion")  # which most servers take for granted
    return [word for word in CAPABILITIES if word in found]


def _told(entry: Mapping[str, JSON]) -> Iterator[str]:
    told = entry.get("capabilities")
    names = [name for name, value in told.items() if value is True] if isinstance(told, dict) else _texts(told)
    kind = entry.get("type")
    for name in (*names, *_texts([kind])):
        if (word := _SAME.get(name.lower())) is not None:
            yield word
    yield from (_SAME[name] for name in _texts(entry.get("supported_parameters")) if name in _PARAMETERS)
    architecture = entry.get("architecture")
    if isinstance(architecture, dict):
        yield from (_INPUTS[name] for name in _texts(architecture.get("input_modalities")) if name in _INPUTS)
        yield from (_OUTPUTS[name] for name in _texts(architecture.get("output_modalities")) if name in _OUTPUTS)


def _texts(value: JSON) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def parse_context_length(entry: Mapping[str, JSON]) -> int | None:
    """Return how many tokens a model in a list can take, None where the list does not say it."""
    meta = entry.get("meta")
    of_meta = [meta.get(name) for name in _LENGTHS_OF_META] if isinstance(meta, Mapping) else []
    lengths = (*(entry.get(name) for name in _LENGTHS), *of_meta)
    return next((length for length in lengths if type(length) is int and length > 0), None)
