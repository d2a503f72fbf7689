"""What Ollama's own OpenAI-compatible API passes over in silence, of requests that are written in that dialect.

Nothing is translated there, so no other table says it. Source: Ollama openai/openai.go; its docs/openai.md.
"""

from __future__ import annotations

from agenthub.dialects.ledger.rows import (
    CARRIED,
    CHAT,
    DROPPED,
    EMBED,
    EVERY,
    GENERATE,
    REJECTED,
    TEXT,
    Row,
    Table,
    When,
)

_READ = (
    *(Row(field, CARRIED, field) for field in ("model",)),
    *(
        Row(field, CARRIED, field, TEXT)
        for field in ("stream", "stream_options", "max_tokens", "temperature", "top_p", "seed", "stop")
    ),
    *(Row(field, CARRIED, field, TEXT) for field in ("frequency_penalty", "presence_penalty")),
    *(Row(field, CARRIED, field, (CHAT,)) for field in ("messages", "tools", "response_format")),
    *(Row(field, CARRIED, field, (CHAT,)) for field in ("reasoning_effort", "reasoning", "logprobs", "top_logprobs")),
    Row("prompt", REJECTED, "", (GENERATE,), When("a list", lambda value: isinstance(value, list))),
    *(Row(field, CARRIED, field, (GENERATE,)) for field in ("prompt", "suffix")),
    *(Row(field, CARRIED, field, (EMBED,)) for field in ("input", "dimensions", "encoding_format")),
)

_NOT_EMPTY = When("not empty", bool)
_NOT_ONE = When("not 1", lambda value: value != 1)
_PASSED_OVER = (
    Row("n", DROPPED, "", TEXT, _NOT_ONE),
    Row("best_of", DROPPED, "", (GENERATE,), _NOT_ONE),
    Row("tool_choice", DROPPED, "", (CHAT,), When("not auto", lambda value: value != "auto")),
    Row("parallel_tool_calls", DROPPED, "", (CHAT,), When("false", lambda value: value is False)),
    Row("modalities", DROPPED, "", (CHAT,), When('not ["text"]', lambda value: value != ["text"])),
    Row("service_tier", DROPPED, "", (CHAT,), When("asks", lambda value: value not in ("auto", "default"))),
    *(Row(field, DROPPED, "", EVERY, _NOT_EMPTY) for field in ("logit_bias", "store", "echo", "metadata", "options")),
)

BY_OLLAMA = Table((*_READ, *_PASSED_OVER))
"""The fields that it reads, and those whose value may ask for nothing; any other is passed over, max_completion_tokens
and num_ctx as well."""
