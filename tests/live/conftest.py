"""The live tests need a real Ollama, named by OLLAMA_HOST, that has the models of ``MODELS``."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from agenthub.settings.sources import parse_ollama_host
from tests.forwarder import Forwarder
from tests.hubs import RunningHub, running_hub

MODELS = {"tiny:latest", "tiny-loop:latest", "tiny-embed:latest"}


@pytest.fixture(scope="session")
def real_ollama() -> str:
    """Return the URL of the real Ollama, or skip."""
    host = os.environ.get("OLLAMA_HOST", "")
    if not host:
        pytest.skip("OLLAMA_HOST is not set: no real Ollama to test against")
    url = parse_ollama_host(host)
    try:
        with urllib.request.urlopen(f"{url}/api/tags", timeout=3) as response:
            names = {model["name"] for model in json.load(response)["models"]}
    except OSError as error:
        pytest.skip(f"OLLAMA_HOST={host} answers nothing: {error}")
    if not names >= MODELS:
        pytest.skip(f"the Ollama at {url} lacks {', '.join(sorted(MODELS - names))}")
    return url


@pytest.fixture
async def hub(real_ollama: str, lane: tuple[str, str]) -> AsyncIterator[RunningHub]:
    async with running_hub(real_ollama, api_mode=lane[1]) as running:
        yield running
        # Shown by pytest where the test failed: a real server fails in ways that no assertion tells.
        print(*running.lines, sep="\n")


@pytest.fixture
async def forwarder(real_ollama: str) -> AsyncIterator[Forwarder]:
    """The real Ollama behind a port that can be closed."""
    parts = urlsplit(real_ollama)
    forwarder = Forwarder(parts.hostname or "", parts.port or 80)
    await forwarder.start()
    yield forwarder
    await forwarder.stop()
