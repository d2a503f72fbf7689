"""/v1/chat/completions."""

from __future__ import annotations

from collections.abc import Mapping

from agenthub.api.openapi.headers import ENHANCED, ENHANCES
from agenthub.api.openapi.openai_text import REASON, SHARED, TAIL, answers, head
from agenthub.api.openapi.operation import Operation
from agenthub.api.openapi.options import MODEL, TOOLS
from agenthub.api.openapi.schema import (
    Schema,
    anything,
    array,
    choice,
    either,
    flag,
    given,
    integer,
    or_null,
    ref,
    taken,
    text,
)

_EFFORT = choice(
    "none", "minimal", "low", "medium", "high", "max", "xhigh", "ultra", about="How hard the model thinks first."
)
_CALL = {
    "type": "object",
    "required": ["function"],
    "properties": {
        "id": anything("What the answer to the call names it by."),
        "type": anything("`function`."),
        "function": {
            "type": "object",
            "properties": {
                "name": anything("The function's name."),
                "arguments": either(
                    text("A JSON object as text.", contentMediaType="application/json"),
                    {"type": "object", "description": "The same as it is."},
                    {"type": "null"},
                ),
            },
        },
    },
}
_PART = either(
    {
        "type": "object",
        "required": ["type", "text"],
        "properties": {"type": {"const": "text"}, "text": text()},
    },
    {
        "type": "object",
        "required": ["type", "image_url"],
        "properties": {
            "type": {"const": "image_url"},
            "image_url": either(
                text(),
                {"type": "object", "required": ["url"], "properties": {"url": text("`data:image/png;base64,...`")}},
            ),
        },
    },
    {
        "type": "object",
        "required": ["type", "input_audio"],
        "properties": {"type": {"const": "input_audio"}, "input_audio": {"type": "object"}},
    },
    {
        "type": "object",
        "description": "Any other part; whether it can be sent on depends on the backend.",
        "required": ["type"],
        "properties": {"type": text()},
    },
)
_CALLED = given(
    {"id": text(), "type": text(), "function": given({"name": text(), "arguments": text("JSON text.")}, {})},
    {"index": integer()},
)
_FRAGMENT = given(
    {"index": integer()},
    {"id": text(), "type": text(), "function": given({}, {"name": text(), "arguments": text()})},
    "A piece of a call: id and name come first, the arguments in pieces.",
)
_REASONING: Mapping[str, Schema] = {
    "reasoning": or_null(text("What the model thought aloud.")),
    "reasoning_content": or_null(text("The same under its other name.")),
    "tool_calls": or_null(array(_CALLED)),
    "refusal": or_null(text()),
}
_LOGPROBS = or_null({"type": "object", "properties": {"content": or_null(array(ref("Logprob")))}})


SCHEMAS: Mapping[str, Schema] = {
    "OpenAIMessage": taken(
        {},
        {
            "role": text("system, developer, user, assistant or tool.", examples=["user"]),
            "content": either(text(), array(_PART)),
            "name": text(),
            "refusal": text(),
            "reasoning": anything("What the model thought aloud in that turn."),
            "tool_calls": array(_CALL),
            "tool_call_id": text("Of a tool's answer: the call that it answers."),
        },
    ),
    "ChatCompletionRequest": taken(
        {"model": MODEL, "messages": array(ref("OpenAIMessage"), "The conversation.", minItems=1)},
        {
            **SHARED,
            "tools": TOOLS,
            "tool_choice": anything("none, auto, required, or a function by its name."),
            "parallel_tool_calls": flag("false: one call at most."),
            "response_format": either(
                {
                    "type": "object",
                    "required": ["type", "json_schema"],
                    "properties": {
                        "type": {"const": "json_schema"},
                        "json_schema": given({"schema": {"type": "object"}}, {}),
                    },
                },
                {
                    "type": "object",
                    "properties": {"type": {"not": {"const": "json_schema"}}},
                },
                about="What the answer must be: text, json_object, or json_schema with a schema.",
            ),
            "reasoning_effort": _EFFORT,
            "reasoning": {"type": "object", "properties": {"effort": or_null(_EFFORT)}},
            "logprobs": flag("Tell the log-probabilities of the tokens."),
            "top_logprobs": integer("How many likely tokens to tell at each place."),
        },
    ),
    "ChatCompletion": given(
        {
            **head("chat.completion"),
            "choices": array(
                given(
                    {
                        "index": integer(),
                        "message": given({"role": text(), "content": or_null(text())}, _REASONING),
                        "finish_reason": or_null(REASON),
                    },
                    {"logprobs": _LOGPROBS},
                ),
                minItems=1,
            ),
        },
        TAIL,
    ),
    "ChatCompletionChunk": given(
        {
            **head("chat.completion.chunk"),
            "choices": array(
                given(
                    {
                        "index": integer(),
                        "delta": given(
                            {},
                            {
                                **_REASONING,
                                "role": text("On the first chunk only."),
                                "content": or_null(text()),
                                "tool_calls": or_null(array(_FRAGMENT)),
                            },
                        ),
                        "finish_reason": or_null(REASON),
                    },
                    {"logprobs": _LOGPROBS},
                ),
                "Empty on the chunk with the counts.",
            ),
        },
        TAIL,
    ),
}


OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/v1/chat/completions"): Operation(
        id="createChatCompletion",
        summary="Continue a conversation",
        tag="OpenAI",
        takes=ref("ChatCompletionRequest"),
        example={"model": "llama3.2", "messages": [{"role": "user", "content": "Hello"}]},
        answers=answers("ChatCompletion", "ChatCompletionChunk"),
        asks=True,
        hears=ENHANCES,
        tells=ENHANCED,
    ),
}
