"""Whether a prompt is longer than the context of its model, of which the upstream would cut or refuse it in silence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from agenthub.canonical import JSON, ChatRequest, GenerateRequest, Loss, TextRequest

BYTES_PER_TOKEN = 6
"""At least so many bytes, not counting white space, are taken for one token.

English text has some 3.6 of them a token and other languages and code have fewer: so this counts too few tokens, and
who is told that a prompt is too long can rely on it.
"""
SMALL_CONTEXT = 2048
_BLANKS = b" \t\r\n"


def is_long(request: TextRequest) -> bool:
    """Say whether the prompt may be longer than a small context, so that it is worth while to ask for the context."""
    return request.source is not None and len(request.source.body) > SMALL_CONTEXT * BYTES_PER_TOKEN


def note_length(request: TextRequest, loaded: int, losses: Sequence[Loss]) -> Loss | None:
    """Return the note that the prompt is longer than its context, None unless that is sure.

    The context, in tokens, is what the request or its alias asks for in ``num_ctx``, where that is carried, else that
    with which the model is ``loaded``, 0 where it is not known.
    """
    context = _asked(request.options, losses) or loaded
    if not context or (request.source is not None and len(request.source.body) <= context * BYTES_PER_TOKEN):
        return None
    least = _least_tokens(request)
    if least <= context:
        return None
    field = "messages" if isinstance(request, ChatRequest) else "prompt"
    reason = f"{field} of at least {least} tokens, by their length, for a context of {context}"
    return Loss(field, reason=reason, is_note=True)


def _asked(options: Mapping[str, JSON], losses: Sequence[Loss]) -> int:
    asked = options.get("num_ctx")
    if type(asked) is not int or asked <= 0 or any(loss.field == "options.num_ctx" for loss in losses):
        return 0
    return asked


def _least_tokens(request: TextRequest) -> int:
    return sum(map(_size_bytes, _texts(request))) // BYTES_PER_TOKEN


def _size_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass").translate(None, _BLANKS))


def _texts(request: TextRequest) -> Iterable[str]:
    match request:
        case ChatRequest():
            return [message.content for message in request.messages]
        case GenerateRequest():
            return [request.system or "", max((request.prompt, *request.more_prompts), key=len)]
        case _:
            return []
