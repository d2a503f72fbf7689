"""The ``openai`` adapter: any server that speaks the OpenAI-compatible API."""

from __future__ import annotations

from collections.abc import Iterable

from agenthub import AdapterType, hookimpl
from agenthub_adapter_openai.adapter import make_adapter


@hookimpl
def agenthub_register_adapters() -> Iterable[AdapterType]:
    return [AdapterType(kind="openai", title="OpenAI-compatible Ollama API", make=make_adapter)]
