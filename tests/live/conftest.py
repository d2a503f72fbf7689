"""The live tests need a real Ollama, named by OLLAMA_HOST, that has the models of ``MODELS``."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from tests.forwarder import Forwarder
from tests.hubs import RunningHub, running_hub
from tests.real import real_ollama_url

MODELS = {"tiny:latest", "tiny-loop:latest", "tiny-embed:latest", "tiny-tools:latest", "tiny-think:latest"}


@pytest.fixture(scope="session")
def real_ollama() -> str:
    """Return the URL of the real Ollama, or skip."""
    try:
        return real_ollama_url(MODELS)
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def llama() -> str:
    """Return the URL of the server, or skip."""
    url = os.environ.get("LLAMA_URL", "")
    if not url:
        pytest.skip("LLAMA_URL is not set: no llama.cpp server to test against")
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=3):
            pass
    except OSError as error:
        pytest.skip(f"LLAMA_URL={url} answers nothing: {error}")
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
