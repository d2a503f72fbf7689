"""From OpenAI's dialect to Ollama's own API."""

from __future__ import annotations

from agenthub.canonical import JSON
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


def _unless(*neutral: JSON) -> When:
    """Return the condition that a value is none of those that ask for nothing."""
    shown = " or ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in neutral)
    return When(
        f"not {shown}", lambda value: not any(value == one and (value is True) == (one is True) for one in neutral)
    )


def _is_forced(value: JSON) -> bool:
    return value not in ("auto", "none")


_NOT_EMPTY = When("not empty", bool)
_EMPTY = When("empty or missing", lambda value: not value)
_FALSE = When("false", lambda value: value is False)
_TRUE = When("true", lambda value: value is True)
_REMOTE_IMAGE = "image URLs are not currently supported, please use base64 encoded data instead"
_IS_REMOTE = When("http(s)", lambda url: str(url)[:8].lower().startswith(("http://", "https://")))
_FORCED = (
    "only the tools in question are sent; where the model calls none or another one, it is asked again with their"
    " parameters as format; where that fails too, its first answer is passed on and tool_choice dropped; strict: 502"
)
_IS_TOKENS = When("token arrays", lambda value: isinstance(value, list) and not isinstance(value[0], str))

_ASKED = (
    Row("model", CARRIED, "model"),
    Row("user", DROPPED),
    Row("stream", CARRIED, "stream", TEXT),
    Row("stream_options.include_usage", EMULATED, "the hub sends the chunk itself", TEXT),
    Row("stream_options.include_obfuscation", DROPPED, "", TEXT, when=_TRUE),
    Row("n", EMULATED, "one call for each choice, with seed, seed+1, ...", TEXT),
    Row("logit_bias", REJECTED, "", TEXT, when=_NOT_EMPTY),
    Row("max_tokens", CARRIED, "options.num_predict", TEXT),
    Row("stop", CARRIED, "options.stop", TEXT),
    *(
        Row(name, CARRIED, f"options.{name}", TEXT)
        for name in ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty")
    ),
)

_CHAT = (
    Row("max_completion_tokens", CARRIED, "options.num_predict; wins over max_tokens", (CHAT,)),
    Row("messages", CARRIED, "messages", (CHAT,)),
    Row("messages.role", CARRIED, "messages.role; developer as system, function as tool", (CHAT,)),
    Row("messages.content", CARRIED, 'messages.content; text parts joined by line breaks, null as ""', (CHAT,)),
    Row("messages.name", DROPPED, "", (CHAT,)),
    Row("messages.refusal", CARRIED, "messages.content", (CHAT,)),
    Row("messages.reasoning", CARRIED, "messages.thinking; also reasoning_content, reasoning_details", (CHAT,)),
    Row("messages.tool_calls", CARRIED, "messages.tool_calls; arguments as object", (CHAT,)),
    Row("messages.function_call", CARRIED, "messages.tool_calls", (CHAT,)),
    Row("messages.tool_call_id", CARRIED, "messages.tool_call_id, and tool_name of its call", (CHAT,)),
    Row("messages.content.image_url", REJECTED, "", (CHAT,), _IS_REMOTE, reason=_REMOTE_IMAGE),
    Row("messages.content.image_url", CARRIED, "messages.images", (CHAT,)),
    Row("messages.content.image_url.detail", DROPPED, "", (CHAT,), when=_unless("auto")),
    Row("messages.content.input_audio", CARRIED, "messages.images", (CHAT,)),
    Row("messages.content.order", DROPPED, "texts first, then images; if these take turns", (CHAT,)),
    Row("messages.content.file", REJECTED, "any part of another type likewise", (CHAT,)),
    Row("logprobs", CARRIED, "logprobs", (CHAT,)),
    Row("top_logprobs", CARRIED, "top_logprobs", (CHAT,)),
    Row("response_format", CARRIED, "format", (CHAT,)),
    Row("response_format.json_schema.strict", DROPPED, "", (CHAT,), when=_TRUE),
    Row("response_format.json_schema.description", DROPPED, "any member of another name likewise", (CHAT,)),
    Row("response_format.type", REJECTED, "", (CHAT,), When("none of OpenAI's", bool)),
    Row("reasoning_effort", CARRIED, "think; also reasoning.effort", (CHAT,)),
    Row("modalities", REJECTED, "", (CHAT,), when=When('not ["text"]', lambda value: value != ["text"])),
    Row("audio", REJECTED, "", (CHAT,)),
    Row("web_search_options", REJECTED, "", (CHAT,)),
    Row("store", DROPPED, "", (CHAT,), when=_unless(False)),
    Row("service_tier", DROPPED, "", (CHAT,), when=_unless("auto", "default")),
    *(
        Row(name, DROPPED, "", (CHAT,))
        for name in (
            "metadata",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "safety_identifier",
            "verbosity",
            "prediction",
            "moderation",
        )
    ),
)

_TOOLS = (
    Row("tools", CARRIED, "tools", (CHAT,)),
    Row(
        "tools.function.name", REJECTED, "an Ollama dies of it; any tool that is no function likewise", (CHAT,), _EMPTY
    ),
    Row("tools.custom", REJECTED, "", (CHAT,)),
    Row("tools.function.strict", DROPPED, "", (CHAT,), when=_TRUE),
    Row("tool_choice", EMULATED, "none: no tools are sent", (CHAT,), When("auto or none", lambda v: not _is_forced(v))),
    Row("tool_choice", EMULATED, _FORCED, (CHAT,)),
    Row("tool_choice.custom", REJECTED, "", (CHAT,)),
    Row("parallel_tool_calls", DROPPED, "only the first call is passed on", (CHAT,), _FALSE),
    Row("functions", DROPPED, "", (CHAT,), When("beside tools", lambda value: value is True)),
    Row("function_call", DROPPED, "", (CHAT,), When("beside tools, or without functions", lambda v: v is True)),
    Row("functions", EMULATED, "tools; calls come back as function_call", (CHAT,)),
    Row("function_call", EMULATED, "tool_choice", (CHAT,)),
)

_COMPLETIONS = (
    Row("prompt", REJECTED, "", (GENERATE,), _IS_TOKENS, reason="token arrays are not supported"),
    Row("prompt", CARRIED, "prompt; of several, one call for each", (GENERATE,)),
    Row("suffix", CARRIED, "suffix", (GENERATE,)),
    Row("logprobs", CARRIED, "logprobs, top_logprobs", (GENERATE,)),
    Row("best_of", REJECTED, "", (GENERATE,), when=_unless(1)),
    Row("echo", REJECTED, "", (GENERATE,), when=_unless(False)),
)

_EMBED = (
    Row("input", REJECTED, "", (EMBED,), _IS_TOKENS, reason="invalid input type: token arrays are not supported"),
    Row("input", CARRIED, "input", (EMBED,)),
    Row("dimensions", CARRIED, "dimensions", (EMBED,)),
    Row("encoding_format", EMULATED, "base64 is made by the hub", (EMBED,)),
)

TYPED_EXTENSIONS = (
    *("top_k", "min_p", "typical_p", "repeat_penalty", "repeat_last_n"),
    *("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "num_predict"),
)
"""Ollama's options that are numbers and are taken at the top level too, for the SDKs' ``extra_body``."""

_EXTENSIONS = (
    Row("options", CARRIED, "options"),
    Row("keep_alive", CARRIED, "keep_alive"),
    Row("think", CARRIED, "think", TEXT),
    Row("format", CARRIED, "format", TEXT),
    Row("truncate", CARRIED, "truncate"),
    Row("shift", CARRIED, "shift", TEXT),
    *(Row(name, CARRIED, f"options.{name}", TEXT) for name in TYPED_EXTENSIONS),
    Row("repetition_penalty", CARRIED, "options.repeat_penalty", TEXT),
)

TO_NATIVE = Table((*_ASKED, *_CHAT, *_TOOLS, *_COMPLETIONS, *_EMBED, *_EXTENSIONS))
