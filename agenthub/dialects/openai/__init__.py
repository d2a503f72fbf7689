"""The OpenAI-compatible API: ``/v1/*``, server-sent events."""

from agenthub.dialects.openai import chat, completions, embeddings, listing, refusals

CODECS = {codec.path: codec for codec in (chat.CODEC, completions.CODEC, embeddings.CODEC)}
"""The endpoints that ask a model something."""

__all__ = ["CODECS", "chat", "completions", "embeddings", "listing", "refusals"]
