"""The ``native`` adapter: Ollama's own API, nothing lost on the way to an Ollama."""

from __future__ import annotations

from collections.abc import Iterable

from agenthub import AdapterType, hookimpl
from agenthub_adapter_native.adapter import make_adapter


@hookimpl
def agenthub_register_adapters() -> Iterable[AdapterType]:
    return [AdapterType(kind="native", title="native Ollama API", make=make_adapter)]
