"""From Ollama's dialect to an OpenAI-compatible upstream."""

from __future__ import annotations

from agenthub.canonical import JSON
from agenthub.dialects.ledger.rows import (
    CARRIED,
    CHAT,
    DROPPED,
    EMBED,
    EMULATED,
    EVERY,
    GENERATE,
    REJECTED,
    TEXT,
    Row,
    Table,
    When,
)


def _number(value: JSON) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TRUE = When("true", lambda value: value is True)
_FALSE = When("false", lambda value: value is False)
_NOT_EMPTY = When("not empty", bool)
_ZERO = When("0", lambda value: _number(value) and value == 0)
# What is no number is not sorted out here: the translation refuses it by name.
_LIMIT = When("above 0", lambda value: not _number(value) or value > 0)
_SEED = When("not -1", lambda value: value != -1)
_FIVE = When("more than 4", lambda value: isinstance(value, list) and len(value) > 4)
_ELSEWHERE = When("not in a tool message", lambda value: value is False)
_OF_NO_CALL = When("of no call that waits for a result", lambda value: value is None)
_IN_TOOL = When("in a tool message", lambda value: value is True)
_THINKING = "chat_template_kwargs.enable_thinking"
_TEMPLATE = {"vllm": (CARRIED, _THINKING), "llamacpp": (CARRIED, _THINKING)}
_FILL_IN = "this server has no completion with a suffix"

_ASKED = (
    Row("model", CARRIED, "model"),
    Row("stream", CARRIED, "stream, with stream_options.include_usage for the counts", TEXT),
    Row("stream", EMULATED, "an embedding is never streamed", (EMBED,)),
    Row("keep_alive", DROPPED),
    Row("logprobs", CARRIED, "logprobs", TEXT),
    Row("top_logprobs", CARRIED, "top_logprobs", (CHAT,)),
    Row("top_logprobs", CARRIED, "logprobs", (GENERATE,)),
    Row("truncate", DROPPED, "", TEXT, when=_FALSE),
    Row("truncate", DROPPED, "", (EMBED,)),
    Row("shift", DROPPED, "", TEXT, when=_FALSE),
    Row("_debug_render_only", REJECTED, "", TEXT, when=_TRUE),
    Row("format", CARRIED, "response_format", (CHAT,)),
    Row("format", CARRIED, "response_format (as a chat)", (GENERATE,)),
    Row("think", CARRIED, "reasoning_effort", TEXT, _FALSE, _TEMPLATE),
    Row("think", CARRIED, "reasoning_effort", TEXT, When("a level", lambda value: value is not True)),
    Row("think", DROPPED, "", TEXT, _TRUE, _TEMPLATE),
)

_CHAT = (
    Row("messages", CARRIED, "messages", (CHAT,)),
    Row("messages.content", CARRIED, "messages.content; null beside calls", (CHAT,)),
    Row("messages.images", DROPPED, "a user message that follows", (CHAT,), when=_IN_TOOL),
    Row("messages.images", CARRIED, "messages.content parts image_url, input_audio", (CHAT,)),
    Row(
        "messages.thinking",
        CARRIED,
        "messages.reasoning",
        (CHAT,),
        flavours={"llamacpp": (CARRIED, "messages.reasoning_content"), "openai": (DROPPED, "")},
    ),
    Row("messages.tool_calls", CARRIED, "messages.tool_calls; arguments as text, ids made where missing", (CHAT,)),
    Row("messages.tool_name", DROPPED, "", (CHAT,), _ELSEWHERE),
    Row("messages.tool_name", DROPPED, "the next call in order is taken", (CHAT,), _OF_NO_CALL),
    Row("messages.tool_name", EMULATED, "messages.tool_call_id of the call that it answers", (CHAT,)),
    Row("messages.name", EMULATED, "messages.tool_name, which it was before", (CHAT,), _IN_TOOL),
    Row("messages.name", DROPPED, "", (CHAT,)),
    Row("messages.tool_call_id", DROPPED, "", (CHAT,), _ELSEWHERE),
    Row("messages.tool_call_id", CARRIED, "messages.tool_call_id", (CHAT,)),
    Row("tools", CARRIED, "tools", (CHAT,)),
    Row("tool_choice", CARRIED, "tool_choice", (CHAT,)),
    Row("parallel_tool_calls", CARRIED, "parallel_tool_calls", (CHAT,)),
    Row("logit_bias", CARRIED, "logit_bias", TEXT),
)

_GENERATE = (
    Row("prompt", CARRIED, "messages; prompt of completions with raw or suffix", (GENERATE,)),
    Row("system", CARRIED, "messages", (GENERATE,)),
    Row("images", CARRIED, "messages", (GENERATE,)),
    Row("raw", EMULATED, "completions", (GENERATE,)),
    Row(
        "suffix", CARRIED, "suffix of completions", (GENERATE,), flavours={"llamacpp": (REJECTED, "")}, reason=_FILL_IN
    ),
    Row("template", REJECTED, "", (GENERATE,)),
    Row("context", REJECTED, "", (GENERATE,), when=_NOT_EMPTY),
)

RAW = Table(
    (
        *(Row(field, REJECTED, "", (GENERATE,), when=_NOT_EMPTY) for field in ("system", "images", "format")),
        Row("think", DROPPED, "", (GENERATE,), when=When("not false", bool)),
    )
)
"""What a prompt that is raw or has a suffix loses besides, since it goes to completions, which take text alone."""

_EMBED = (
    Row("input", CARRIED, "input", (EMBED,)),
    Row("dimensions", CARRIED, "dimensions", (EMBED,)),
    Row("prompt", CARRIED, "input", (EMBED,)),
    Row("unnormalised", DROPPED, "no field: a vector of /api/embeddings comes normalised", (EMBED,)),
)


def _option(name: str, *rows: Row) -> tuple[Row, ...]:
    """Return the rows of an option that text has, and that embeddings have not."""
    return (*rows, Row(f"options.{name}", DROPPED, "", (EMBED,)))


def _same(name: str, when: When | None = None) -> tuple[Row, ...]:
    return _option(name, Row(f"options.{name}", CARRIED, name, TEXT, when))


def _only(name: str, **homes: str) -> tuple[Row, ...]:
    """Return the row of an option that only some upstreams know."""
    carried = {flavour: (CARRIED, home) for flavour, home in homes.items()}
    return _option(name, Row(f"options.{name}", DROPPED, "", TEXT, flavours=carried))


_OPTIONS = (
    *_option(
        "num_predict",
        Row("options.num_predict", DROPPED, "", TEXT, _ZERO),
        Row(
            "options.num_predict",
            CARRIED,
            "max_tokens",
            TEXT,
            _LIMIT,
            {"openai": (CARRIED, "max_completion_tokens")},
        ),
    ),
    *_same("temperature"),
    *_same("top_p"),
    *_same("seed", _SEED),
    *_same("presence_penalty"),
    *_same("frequency_penalty"),
    *_option(
        "stop",
        Row(
            "options.stop",
            CARRIED,
            "stop",
            TEXT,
            _FIVE,
            {"openai": (REJECTED, "")},
            "this API takes at most 4 stop sequences",
        ),
        Row("options.stop", CARRIED, "stop", TEXT),
    ),
    *_only("top_k", vllm="top_k", llamacpp="top_k"),
    *_only("min_p", vllm="min_p", llamacpp="min_p"),
    *_only("repeat_penalty", vllm="repetition_penalty", llamacpp="repeat_penalty"),
    *_only("repeat_last_n", llamacpp="repeat_last_n"),
    *_only("typical_p", llamacpp="typical_p"),
    *_only("num_keep", llamacpp="n_keep"),
    *_only("mirostat", llamacpp="mirostat"),
    *_only("mirostat_tau", llamacpp="mirostat_tau"),
    *_only("mirostat_eta", llamacpp="mirostat_eta"),
    *(
        Row(f"options.{name}", DROPPED, "", EVERY)
        for name in ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict")
    ),
)

TO_OPENAI = Table((*_ASKED, *_CHAT, *_GENERATE, *_EMBED, *_OPTIONS))
