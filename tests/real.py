"""Finds the real Ollama that OLLAMA_HOST names; what its model says."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Set

from agenthub.settings.sources import parse_ollama_host

SENTENCE = (
    " Hello there this is a tiny model that was made on one small machine to test gateways."
    " It speaks naïve café ☕ text and stops here!"
)
"""What the model ``tiny`` says to everything, in 32 tokens."""


def real_ollama_url(models: Set[str]) -> str:
    """Return its URL; LookupError says why there is none, or which of ``models`` it lacks."""
    host = os.environ.get("OLLAMA_HOST", "")
    if not host:
        raise LookupError("OLLAMA_HOST is not set: no real Ollama to test against")
    url = parse_ollama_host(host)
    try:
        with urllib.request.urlopen(f"{url}/api/tags", timeout=3) as response:
            names = {model["name"] for model in json.load(response)["models"]}
    except OSError as error:
        raise LookupError(f"OLLAMA_HOST={host} answers nothing: {error}") from error
    if missing := models - names:
        raise LookupError(f"the Ollama at {url} lacks {', '.join(sorted(missing))}")
    return url
