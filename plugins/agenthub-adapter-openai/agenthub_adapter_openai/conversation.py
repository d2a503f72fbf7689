"""Conversation: a prompt as the chat that it is, for servers whose completions know no system text and no images."""

from __future__ import annotations

from agenthub import ChatRequest, GenerateRequest, Message
from agenthub.dialects.ledger import TO_OPENAI


def as_chat(request: GenerateRequest) -> ChatRequest:
    """Return the conversation that a prompt with its system text and its images is."""
    system = (Message("system", request.system),) if request.system else ()
    shared = ("model", "upstream_model", "stream", "options", "keep_alive", "format", "think", "authorization")
    return ChatRequest(
        **{name: getattr(request, name) for name in shared},
        messages=(*system, Message("user", request.prompt, images=request.images)),
        extras={name: value for name, value in request.extras.items() if TO_OPENAI.home("generate", name, value)},
        logprobs=request.logprobs,
        top_logprobs=request.top_logprobs,
    )
