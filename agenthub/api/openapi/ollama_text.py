"""/api/chat and /api/generate."""

from __future__ import annotations

from collections.abc import Mapping

from agenthub.api.openapi.headers import ENHANCED, ENHANCES
from agenthub.api.openapi.operation import Answer, Operation
from agenthub.api.openapi.options import FORMAT, KEEP_ALIVE, MODEL, STREAM_BY_DEFAULT, THINK, TOOLS
from agenthub.api.openapi.schema import Schema, anything, array, either, flag, given, integer, ref, taken, text

_SHARED: Mapping[str, Schema] = {
    "stream": STREAM_BY_DEFAULT,
    "format": FORMAT,
    "options": ref("Options"),
    "keep_alive": KEEP_ALIVE,
    "think": THINK,
    "logprobs": flag("Tell the log-probabilities of the tokens."),
    "top_logprobs": integer("How many likely tokens to tell at each place.", minimum=0, maximum=20),
    "truncate": anything("false: fail rather than drop old context."),
    "shift": anything("false: stop rather than shift a full context."),
}
_IMAGES = array(text(contentEncoding="base64"), "Images in base64, without `data:`.")

_CALL = {
    "type": "object",
    "required": ["function"],
    "properties": {
        "id": anything("What the answer to the call names it by."),
        "function": {
            "type": "object",
            "properties": {
                "name": anything("The function's name."),
                "arguments": either(
                    {"type": "object"},
                    text("The same as JSON text.", contentMediaType="application/json"),
                    {"type": "null"},
                ),
            },
        },
    },
}

_CALLED = given(
    {"function": given({"name": text(), "arguments": {"type": "object"}}, {"index": integer()})}, {"id": text()}
)

_END: Mapping[str, Schema] = {
    "thinking": text("What the model thought aloud."),
    "logprobs": array(ref("Logprob")),
    "done_reason": text("At the end: stop, length, load, unload."),
    "total_duration": integer("At the end, in nanoseconds, as all durations."),
    "load_duration": integer(),
    "prompt_eval_count": integer("Tokens of the prompt."),
    "prompt_eval_duration": integer(),
    "eval_count": integer("Tokens of the answer."),
    "eval_duration": integer(),
}
_HEAD: Mapping[str, Schema] = {
    "model": text("As it was asked for."),
    "created_at": text(format="date-time"),
    "done": flag("True of a whole answer and of the last line of a stream."),
}

SCHEMAS: Mapping[str, Schema] = {
    "OllamaMessage": taken(
        {},
        {
            "role": text("system, user, assistant or tool.", examples=["user"]),
            "content": text(),
            "images": _IMAGES,
            "thinking": text("What the model thought aloud in that turn."),
            "tool_calls": array(_CALL),
            "tool_call_id": text("Of a tool's answer: the call that it answers."),
            "tool_name": text("Of a tool's answer: the function that was called."),
        },
    ),
    "OllamaChatRequest": taken(
        {"model": MODEL},
        {
            "messages": array(ref("OllamaMessage"), "The conversation; without any, the model is only loaded."),
            "tools": TOOLS,
            "tool_choice": anything("As in OpenAI's API, where the backend has it."),
            **_SHARED,
        },
    ),
    "OllamaChat": given(
        {
            **_HEAD,
            "message": given(
                {"role": text(), "content": text()},
                {"thinking": text(), "images": array(text()), "tool_calls": array(_CALLED)},
            ),
        },
        _END,
        "A whole answer, or one line of a stream with a piece of it.",
    ),
    "OllamaGenerateRequest": taken(
        {"model": MODEL},
        {
            "prompt": text("Without one, the model is only loaded."),
            "suffix": text("What follows the answer, for models that fill in."),
            "system": text("In the place of the model's own system text."),
            "template": text("In the place of the model's own template."),
            "context": array(anything("A token."), "From an earlier answer."),
            "raw": flag("Apply no template; excludes system, template and context."),
            "images": _IMAGES,
            **_SHARED,
        },
    ),
    "OllamaGenerate": given(
        {**_HEAD, "response": text()},
        {**_END, "context": array(integer(), "At the end: what continues this conversation.")},
        "A whole answer, or one line of a stream with a piece of it.",
    ),
}


def _answers(name: str) -> dict[int, Answer]:
    content = {"application/json": ref(name), "application/x-ndjson": either(ref(name), ref("OllamaError"))}
    about = (
        "Whole as JSON, or streamed: one object a line, until `done` is true. A stream that breaks ends with an error."
    )
    return {200: Answer(about, content)}


OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/api/chat"): Operation(
        id="chat",
        summary="Continue a conversation",
        tag="Ollama",
        takes=ref("OllamaChatRequest"),
        example={"model": "llama3.2", "messages": [{"role": "user", "content": "Hello"}], "stream": False},
        answers=_answers("OllamaChat"),
        asks=True,
        hears=ENHANCES,
        tells=ENHANCED,
    ),
    ("POST", "/api/generate"): Operation(
        id="generate",
        summary="Answer a prompt",
        tag="Ollama",
        takes=ref("OllamaGenerateRequest"),
        example={"model": "llama3.2", "prompt": "Hello", "stream": False},
        answers=_answers("OllamaGenerate"),
        asks=True,
        hears=ENHANCES,
        tells=ENHANCED,
    ),
}
