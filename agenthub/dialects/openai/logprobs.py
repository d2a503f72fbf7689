"""Log-probabilities: as chat has them, and as the legacy completions have them.

Source: API reference "Create chat completion" and "Create completion", ``logprobs``.
"""

from __future__ import annotations

from collections.abc import Sequence

from agenthub.canonical import JSON, LogprobsDelta
from agenthub.dialects import typed


def parse_logprobs(value: JSON) -> list[LogprobsDelta]:
    """Return the log-probabilities of a choice, if there are any, in whichever shape: servers mix the two up."""
    if not value or type(value) is not dict:
        return []
    # Those of a refusal are those of the text that it is to other dialects.
    items = _parse_legacy(value) if value.get("tokens") else _parse_chat(value)
    return [LogprobsDelta(items)] if items else []


def _parse_chat(value: JSON) -> tuple[JSON, ...]:
    return (*typed.logprobs(value.get("content")), *typed.logprobs(value.get("refusal")))


def _parse_legacy(value: JSON) -> tuple[JSON, ...]:
    tokens, numbers, tops = value["tokens"], value.get("token_logprobs"), value.get("top_logprobs")
    if type(tokens) is not list or type(numbers) is not list or len(tokens) != len(numbers):
        return ()
    if type(tops) is not list or len(tops) != len(tokens):
        tops = [None] * len(tokens)
    return typed.logprobs(
        [
            {
                "token": token,
                "logprob": logprob,
                "top_logprobs": [{"token": t, "logprob": p} for t, p in typed.mapping(top).items()],
            }
            for token, logprob, top in zip(tokens, numbers, tops, strict=True)
        ]
    )


def render_logprobs(items: Sequence[JSON]) -> dict[str, JSON]:
    """Return the object of chat, in which each item has ``bytes`` and ``top_logprobs``."""
    return {"content": [_logprob(item) | {"top_logprobs": _tops(item)} for item in items], "refusal": None}


def _tops(item: JSON) -> list[JSON]:
    return [_logprob(top) for top in item.get("top_logprobs") or ()]


def _logprob(item: JSON) -> dict[str, JSON]:
    token, spelled = item["token"], item.get("bytes")
    if spelled is None:
        spelled = list(token.encode("utf-8", "replace"))
    return {"token": token, "logprob": item["logprob"], "bytes": spelled}


def render_legacy_logprobs(items: Sequence[JSON], start: int) -> dict[str, JSON]:
    """Return the object of completions, whose first token stands ``start`` characters after the text's beginning."""
    offsets = [start]
    for item in items:
        offsets.append(offsets[-1] + len(item["token"]))
    return {
        "tokens": [item["token"] for item in items],
        "token_logprobs": [item["logprob"] for item in items],
        "top_logprobs": [{top["token"]: top["logprob"] for top in item.get("top_logprobs") or ()} for item in items],
        "text_offset": offsets[:-1],
    }
