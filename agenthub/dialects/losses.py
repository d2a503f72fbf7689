"""The loss ledger: what a request would lose on its way to an API of another dialect.

A field is *rejected* where the answer would be wrong without it, else *dropped* and noted. Fields that are not named
here have no known meaning on the other side: they are dropped and noted as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from agenthub.canonical import JSON, ChatRequest, EmbedRequest, GenerateRequest, Loss, Request, TextRequest
from agenthub.dialects.openai.fields import SAMPLING

_NEUTRAL: Mapping[str, Callable[[JSON], bool]] = {
    "n": lambda value: value == 1,
    "best_of": lambda value: value == 1,
    "echo": lambda value: value is False,
    "logit_bias": lambda value: not value,
    "parallel_tool_calls": lambda value: value is True,
    "store": lambda value: value is False,
    "modalities": lambda value: value == ["text"],
    "truncate": lambda value: value is True,
    "shift": lambda value: value is True,
    "_debug_render_only": lambda value: value is False,
}
"""Values that ask for nothing that the other side would not do anyway."""

_REJECTED = frozenset(
    {
        "n",
        "best_of",
        "echo",
        "logit_bias",
        "modalities",
        "audio",
        "web_search_options",
        "functions",
        "function_call",
        "_debug_render_only",
    }
)

_CARRIED_OPTIONS = frozenset({*SAMPLING, "num_predict", "stop"})


def losses_to_native(request: Request) -> tuple[Loss, ...]:
    """Return what a request loses at Ollama's own API: nothing if it was written for it."""
    if request.source is not None and request.source.dialect == "ollama":
        return ()
    losses = [*request.unmapped, *_extras(request)]
    if isinstance(request, ChatRequest):
        losses += _tool_choice(request)
    return tuple(losses)


def losses_to_openai(request: Request) -> tuple[Loss, ...]:
    """Return what a request loses at an OpenAI-compatible API; of one written for it, only options of an alias."""
    if request.source is not None and request.source.dialect == "openai":
        return tuple(_options(request.defaults))
    losses = [*request.unmapped, *_extras(request), *_options(request.options)]
    if request.keep_alive is not None and not request.loads_only:
        losses.append(Loss("keep_alive"))
    match request:
        case GenerateRequest():
            losses += _generate(request)
        case EmbedRequest():
            losses += [Loss("truncate")] if request.truncate is False else []
    if isinstance(request, TextRequest) and request.think is True:
        losses.append(Loss("think"))
    return tuple(losses)


def is_representable(request: Request) -> bool:
    """Say whether the canonical request and events hold all of it: not so for several choices, or remote images."""
    return not any(loss.rejected for loss in (*request.unmapped, *_extras(request)))


def _extras(request: Request) -> Iterator[Loss]:
    for name, value in request.extras.items():
        neutral = _NEUTRAL.get(name)
        if neutral is None or not neutral(value):
            yield Loss(name, rejected=name in _REJECTED)


def _tool_choice(request: ChatRequest) -> Sequence[Loss]:
    # "none" is emulated by leaving the tools out; a forced call cannot be promised.
    free = request.tool_choice in (None, "auto", "none")
    return [] if free or not request.tools else [Loss("tool_choice", rejected=True)]


def _options(options: Mapping[str, JSON]) -> Iterator[Loss]:
    for name in options:
        if name not in _CARRIED_OPTIONS or (name == "num_predict" and options[name] == 0):
            yield Loss(f"options.{name}")


def _generate(request: GenerateRequest) -> Iterator[Loss]:
    if request.template:
        yield Loss("template", rejected=True)
    if request.context:
        yield Loss("context", rejected=True)
    if request.raw or request.suffix:
        # These go to /v1/completions, which takes text alone.
        asked = {"system": request.system, "images": request.images, "format": request.format}
        yield from (Loss(name, rejected=True) for name, value in asked.items() if value)
        if isinstance(request.think, str):
            yield Loss("think")
