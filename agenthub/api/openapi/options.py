"""What the two dialects' requests to a model have in common: names, options, wishes."""

from __future__ import annotations

from collections.abc import Mapping

from agenthub.api.openapi.schema import Schema, anything, array, choice, either, flag, integer, number, ref, taken, text

MODEL = text("A model's name or an alias, as `/api/tags` and `/v1/models` list it.", minLength=1, examples=["llama3.2"])

# Clients may check by it: two ways to read a run of digits would take the square of its length.
_PIECE = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"

KEEP_ALIVE = either(
    number("Seconds; negative for ever, 0 unloads after this request."),
    text("A Go duration.", pattern=f"^[-+]?({_PIECE})+$", examples=["10m", "1h30m"]),
    about="How long the model stays in memory afterwards.",
)
FORMAT = either(
    choice("json", "", about="`json`: any JSON."),
    {"type": "object", "description": "A JSON schema that the answer follows."},
    about="What the answer must be.",
)
THINK = either(
    flag(),
    choice("", "low", "medium", "high", "max"),
    about="Whether, or how hard, the model thinks before it answers.",
)
STREAM_BY_DEFAULT = flag("Stream the answer as NDJSON: yes, unless this is false.", default=True)
STREAM_ON_WISH = flag("Stream the answer as server-sent events: no, unless this is true.", default=False)
TOOLS = array(ref("Tool"), "The functions that the model may call; a schema of parameters is passed on as it is.")

_PROPERTIES: Mapping[str, Schema] = {
    "num_ctx": integer("Size of the context in tokens."),
    "num_predict": integer("Most tokens to answer; negative for no limit."),
    "num_keep": integer("Tokens of the prompt to keep when the context is full."),
    "seed": integer("Makes answers repeat."),
    "stop": array(text(), "Texts at which the answer ends."),
    "temperature": number("Randomness."),
    "top_k": integer("Sample from the k likeliest tokens."),
    "top_p": number("Sample from the likeliest tokens of this total probability."),
    "min_p": number("Leave out tokens less likely than this part of the likeliest."),
    "typical_p": number("Locally typical sampling."),
    "repeat_last_n": integer("How far back repetition is looked for."),
    "repeat_penalty": number("Penalty on repetition."),
    "presence_penalty": number("Penalty on tokens that were there."),
    "frequency_penalty": number("Penalty by how often a token was there."),
}

SCHEMAS: Mapping[str, Schema] = {
    "Options": taken({}, _PROPERTIES, "Ollama's options; those without a name here go through to an Ollama as well."),
    "Tool": {
        "type": "object",
        "description": "A definition in OpenAI's shape, which Ollama shares.",
        "properties": {
            "type": anything("`function`."),
            "function": anything("An object of name, description and parameters (a JSON schema)."),
        },
        "examples": [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}],
    },
    "Usage": {
        "type": "object",
        "description": "Counts of tokens.",
        "required": ["prompt_tokens", "total_tokens"],
        "properties": {
            "prompt_tokens": integer(),
            "completion_tokens": integer(),
            "total_tokens": integer(),
            "prompt_tokens_details": {"type": ["object", "null"], "properties": {"cached_tokens": integer()}},
        },
    },
    "Logprob": {
        "type": "object",
        "required": ["token", "logprob"],
        "properties": {
            "token": text(),
            "logprob": {"type": ["number", "null"]},
            "bytes": {"type": ["array", "null"], "items": integer()},
            "top_logprobs": array(ref("Logprob")),
        },
    },
}
