"""LangChain's standard suites, with its chat models and embeddings for Ollama and for OpenAI, in four lanes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from langchain_ollama import ChatOllama, OllamaEmbeddings
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests
from langchain_tests.integration_tests import chat_models as standard

from tests.clients.serving import AGENT, PNG, Upstream, serving


@pytest.fixture(autouse=True)
def _pictures_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the suites a picture of our own where they would fetch one from the web."""
    answer = SimpleNamespace(content=PNG)
    monkeypatch.setattr(standard, "httpx", SimpleNamespace(get=lambda *_args, **_kwargs: answer))


class Lane:
    """Which adapter the hub asks, and which upstream; a missing one skips the class."""

    adapter: str
    upstream: Upstream = "standin"
    name = AGENT

    @pytest.fixture(autouse=True)
    def _upstream_is_there(self) -> None:
        _ = self.url

    @property
    def url(self) -> str:
        return serving().url(self.upstream, self.adapter)


class Chat(Lane, ChatModelIntegrationTests):
    """What the hub and the stand-in can do."""

    supports_json_mode = True
    supports_image_inputs = True
    supports_image_tool_message = True
    model_override_value = "standin"


class WithChatOllama(Chat):
    has_tool_choice = False  # Ollama's API has none, and ChatOllama leaves it out

    @property
    def chat_model_class(self) -> type[ChatOllama]:
        return ChatOllama

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": self.name, "base_url": self.url}


class WithChatOpenAI(Chat):
    supports_anthropic_inputs = True

    @property
    def chat_model_class(self) -> type[ChatOpenAI]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": self.name, "base_url": f"{self.url}/v1", "api_key": "none", "stream_usage": True}


class TestChatOllamaNative(WithChatOllama):
    adapter = "native"


class TestChatOllamaOpenAI(WithChatOllama):
    adapter = "openai"


class TestChatOpenAINative(WithChatOpenAI):
    adapter = "native"


class TestChatOpenAIOpenAI(WithChatOpenAI):
    adapter = "openai"


class Tiny(Lane):
    """The real Ollama with a model that says one sentence: no tools, no pictures."""

    upstream: Upstream = "real"
    name = "tiny"
    has_tool_calling = False
    supports_json_mode = False
    supports_image_inputs = False
    supports_image_tool_message = False
    supports_anthropic_inputs = False
    model_override_value = "tiny:latest"


class TestRealChatOllamaNative(Tiny, WithChatOllama):
    adapter = "native"


class TestRealChatOllamaOpenAI(Tiny, WithChatOllama):
    adapter = "openai"


class TestRealChatOpenAINative(Tiny, WithChatOpenAI):
    adapter = "native"


class TestRealChatOpenAIOpenAI(Tiny, WithChatOpenAI):
    adapter = "openai"


class WithOllamaEmbeddings(Lane, EmbeddingsIntegrationTests):
    name = "standin-embed"

    @property
    def embeddings_class(self) -> type[OllamaEmbeddings]:
        return OllamaEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": self.name, "base_url": self.url}


class WithOpenAIEmbeddings(Lane, EmbeddingsIntegrationTests):
    name = "standin-embed"

    @property
    def embeddings_class(self) -> type[OpenAIEmbeddings]:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        # With the check it would send token ids of a tokenizer of OpenAI's, which no model behind Ollama understands.
        unchecked = {"check_embedding_ctx_length": False}
        return {"model": self.name, "base_url": f"{self.url}/v1", "api_key": "none", **unchecked}


class TestOllamaEmbeddingsNative(WithOllamaEmbeddings):
    adapter = "native"


class TestOllamaEmbeddingsOpenAI(WithOllamaEmbeddings):
    adapter = "openai"


class TestOpenAIEmbeddingsNative(WithOpenAIEmbeddings):
    adapter = "native"


class TestOpenAIEmbeddingsOpenAI(WithOpenAIEmbeddings):
    adapter = "openai"


class TinyEmbed(Lane):
    upstream: Upstream = "real"
    name = "tiny-embed"


class TestRealOllamaEmbeddingsNative(TinyEmbed, WithOllamaEmbeddings):
    adapter = "native"


class TestRealOllamaEmbeddingsOpenAI(TinyEmbed, WithOllamaEmbeddings):
    adapter = "openai"


class TestRealOpenAIEmbeddingsNative(TinyEmbed, WithOpenAIEmbeddings):
    adapter = "native"


class TestRealOpenAIEmbeddingsOpenAI(TinyEmbed, WithOpenAIEmbeddings):
    adapter = "openai"
