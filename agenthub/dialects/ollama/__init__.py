"""Ollama's own API: ``/api/*``, NDJSON."""

from agenthub.dialects.ollama import chat, embed, generate, listing

CODECS = {codec.path: codec for codec in (chat.CODEC, generate.CODEC, embed.CODEC, embed.LEGACY_CODEC)}
"""The endpoints that ask a model something."""

__all__ = ["CODECS", "chat", "embed", "generate", "listing"]
