"""Faults of the caller, by the words in which a server of this API reports them."""

from __future__ import annotations

_FAULTS = (
    "Only one completion choice",
    "image input is not supported",
    "audio input is not supported",
    "Failed to parse",
    "prompt must be",
    "[json.exception",
    "tools param requires",
    "Unsupported param",
    "invalid JSON schema",
    'option "',
)


def callers_fault(message: str) -> bool:
    """Say whether the server blames the request.

    llama.cpp of 2025 answers 500 to most mistakes of a client's, Ollama to an option of a wrong type.
    """
    return message.startswith(_FAULTS)
