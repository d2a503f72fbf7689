"""/v1/completions, and what it has in common with chat."""

from __future__ import annotations

from collections.abc import Mapping

from agenthub.api.openapi.headers import ENHANCED, ENHANCES
from agenthub.api.openapi.operation import Answer, Operation
from agenthub.api.openapi.options import FORMAT, KEEP_ALIVE, MODEL, STREAM_ON_WISH, THINK
from agenthub.api.openapi.schema import (
    Schema,
    anything,
    array,
    choice,
    either,
    given,
    integer,
    number,
    or_null,
    ref,
    taken,
    text,
)

_EXTRA = "Ollama's, for the SDKs' `extra_body`."
SHARED: Mapping[str, Schema] = {
    "stream": STREAM_ON_WISH,
    "stream_options": {
        "type": "object",
        "properties": {"include_usage": anything("true: count tokens in a last chunk.")},
    },
    "max_completion_tokens": integer("Most tokens to answer."),
    "max_tokens": integer("The older name of max_completion_tokens."),
    "temperature": number("Randomness, from 0 to 2."),
    "top_p": number("Sample from the likeliest tokens of this total probability."),
    "seed": number("An integer that makes answers repeat."),
    "frequency_penalty": number("Penalty by how often a token was there, from -2 to 2."),
    "presence_penalty": number("Penalty on tokens that were there, from -2 to 2."),
    "stop": either(text(), array(text()), about="Texts at which the answer ends."),
    "n": integer("How many answers to give.", minimum=1, maximum=128),
    "logit_bias": anything("Biases by token."),
    "user": anything("Who is behind the request."),
    "options": ref("Options"),
    "top_k": number(_EXTRA),
    "min_p": number(_EXTRA),
    "repeat_penalty": number(_EXTRA),
    "num_ctx": number(_EXTRA),
    "keep_alive": KEEP_ALIVE,
    "format": FORMAT,
    "think": THINK,
}
REASON = choice("stop", "length", "tool_calls", "content_filter", "function_call", "load")


def head(kind: str) -> dict[str, Schema]:
    return {
        "id": text(),
        "object": {"const": kind},
        "created": integer("Unix time."),
        "model": text("As it was asked for."),
    }


TAIL: Mapping[str, Schema] = {"usage": or_null(ref("Usage")), "system_fingerprint": or_null(text())}

SCHEMAS: Mapping[str, Schema] = {
    "CompletionRequest": taken(
        {"model": MODEL},
        {
            **SHARED,
            "prompt": either(
                text(),
                array(text()),
                array(integer()),
                array(array(integer())),
                about="One, several, or as tokens; whether the latter can be sent on depends on the backend.",
            ),
            "suffix": text("What follows the answer, for models that fill in."),
            "logprobs": integer("How many likely tokens to tell at each place."),
        },
    ),
    "Completion": given(
        {
            **head("text_completion"),
            "choices": array(
                given(
                    {"index": integer(), "text": text(), "finish_reason": or_null(REASON)},
                    {"logprobs": {"type": ["object", "null"]}},
                )
            ),
        },
        TAIL,
        "A whole answer, or one chunk of a stream with a piece of it.",
    ),
}


def answers(whole: str, chunk: str) -> dict[int, Answer]:
    content = {"application/json": ref(whole), "text/event-stream": either(ref(chunk), ref("OpenAIError"))}
    about = (
        "Whole as JSON, or streamed: the data of each event is a chunk, and that of the last one is `[DONE]`. "
        "A stream that breaks ends with an error instead."
    )
    return {200: Answer(about, content)}


OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/v1/completions"): Operation(
        id="createCompletion",
        summary="Answer a prompt",
        tag="OpenAI",
        takes=ref("CompletionRequest"),
        example={"model": "llama3.2", "prompt": "Hello"},
        answers=answers("Completion", "Completion"),
        asks=True,
        hears=ENHANCES,
        tells=ENHANCED,
    ),
}
