"""Requests of another dialect, in the form in which an OpenAI-compatible API is asked them."""

from __future__ import annotations

from agenthub import ChatRequest, EmbedRequest, GenerateRequest, Message, RelayRequest, Request
from agenthub.dialects import openai
from agenthub.dialects.ledger import TO_OPENAI


def is_translated(request: Request) -> bool:
    """Say whether a request is one for a model, and in words that are not the client's own."""
    is_own = request.source is not None and request.source.dialect == openai.chat.DIALECT
    return not (is_own or request.loads_only or isinstance(request, RelayRequest))


def translated(request: Request) -> tuple[Request, str]:
    """Return a request of another dialect as it is asked here, and the path of the endpoint."""
    match request:
        case EmbedRequest():
            return request, openai.embeddings.PATH
        case GenerateRequest() if request.raw or request.suffix or request.loads_only:
            return request, openai.completions.PATH
        case GenerateRequest():
            return as_chat(request), openai.chat.PATH
        case _:
            return request, openai.chat.PATH


def as_chat(request: GenerateRequest) -> ChatRequest:
    """Return the conversation that a prompt with its system text and its images is."""
    system = (Message("system", request.system),) if request.system else ()
    shared = (
        "model",
        "upstream_model",
        "stream",
        "options",
        "keep_alive",
        "format",
        "think",
        "strict",
        "authorization",
    )
    return ChatRequest(
        **{name: getattr(request, name) for name in shared},
        messages=(*system, Message("user", request.prompt, images=request.images)),
        extras={name: value for name, value in request.extras.items() if TO_OPENAI.home("generate", name, value)},
        logprobs=request.logprobs,
        top_logprobs=request.top_logprobs,
    )
