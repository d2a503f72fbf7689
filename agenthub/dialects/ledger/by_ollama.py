"""What Ollama's own OpenAI-compatible API passes over in silence, of requests that are written in that dialect.

Nothing is translated there, so no other table says it. Source: Ollama openai/openai.go; its docs/openai.md.
"""

from __future__ import annotations

from agenthub.dialects.ledger.rows import (
    CARRIED,
    CHAT,
    DROPPED,
    EMBED,
    EMULATED,
    GENERATE,
    REJECTED,
    TEXT,
    Row,
    Table,
    When,
)

_TEXTS_ONLY = "this API takes a prompt as text, not as tokens"
_A_LIST = When("tokens", lambda value: isinstance(value, list))
_A_LIST_OF_TEXTS = When(
    "a list of texts", lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value)
)


def _read(names: str, operations: tuple[str, ...]) -> list[Row]:
    return [Row(name, CARRIED, name, operations) for name in names.split()]


_READ = (
    Row("model", CARRIED, "model"),
    *_read("stream stream_options max_tokens temperature top_p seed stop frequency_penalty presence_penalty", TEXT),
    *_read("messages tools response_format reasoning_effort reasoning logprobs top_logprobs", (CHAT,)),
    Row("prompt", EMULATED, "a call for each prompt; of a list of one, its text", (GENERATE,), _A_LIST_OF_TEXTS),
    Row("prompt", REJECTED, "", (GENERATE,), _A_LIST, reason=_TEXTS_ONLY),
    *_read("prompt suffix", (GENERATE,)),
    Row("max_completion_tokens", CARRIED, "max_tokens", TEXT),
    *_read("input dimensions encoding_format", (EMBED,)),
)

_NOT_EMPTY = When("not empty", bool)
_NOT_ONE = When("not 1", lambda value: value != 1)
_PASSED_OVER = (
    Row("n", DROPPED, "", TEXT, _NOT_ONE),
    Row("best_of", DROPPED, "", (GENERATE,), _NOT_ONE),
    Row("tool_choice", DROPPED, "", (CHAT,), When("not auto", lambda value: value != "auto")),
    Row("parallel_tool_calls", DROPPED, "", (CHAT,), When("false", lambda value: value is False)),
    Row("modalities", DROPPED, "", (CHAT,), When('not ["text"]', lambda value: value != ["text"])),
    Row(
        "service_tier",
        DROPPED,
        "",
        (CHAT,),
        When("not auto or default", lambda value: value not in ("auto", "default")),
    ),
    *(Row(field, DROPPED, "", TEXT, _NOT_EMPTY) for field in ("logit_bias", "store", "metadata")),
    Row("echo", DROPPED, "", (GENERATE,), _NOT_EMPTY),
    Row("options", DROPPED, "", when=_NOT_EMPTY),
    *(Row(field, DROPPED, "", TEXT) for field in ("num_ctx", "think", "format")),
    *(Row(field, DROPPED) for field in ("keep_alive", "user")),
)

BY_OLLAMA = Table((*_READ, *_PASSED_OVER))
"""The fields that it reads, and of the others those that are seen most, or whose value may ask for nothing."""
