"""Refusals: which member of a translated request an error is about, in the words of real servers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agenthub.dialects.openai.refusals import ANY_OBJECT, FIELDS, JSON_OBJECT, Refusal, find_refusals, respell
from agenthub.errors import UpstreamStatus
from agenthub.upstream.errors import make_status_error

SENT: dict[str, Any] = {
    "stream": True,
    "stream_options": {"include_usage": True},
    "reasoning_effort": "none",
    "max_tokens": 5,
    "temperature": 0.2,
    "top_p": 0.9,
    "seed": 1,
    "stop": ["x"],
    "response_format": JSON_OBJECT,
    "tools": [{}],
    "messages.reasoning": True,
}
USE_OTHER = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
DEFAULT = (
    "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is supported."
)
JSON_WORD = "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."


def extra(*path: Any, of: str = "extra_forbidden", **more: Any) -> dict[str, Any]:
    """Return one of pydantic's errors."""
    return {"type": of, "loc": ["body", *path], "msg": "Extra inputs are not permitted"} | more


def refused(body: Any, status: int = 400, members: dict[str, Any] | None = None) -> list[Refusal]:
    """Return what is found in the body of an error answer."""
    text = body if isinstance(body, str) else json.dumps(body)
    error = make_status_error(status, {}, text.encode(), lambda message: False)
    assert isinstance(error, UpstreamStatus)
    return find_refusals(error, SENT if members is None else members, ())


def of_openai(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (of_openai(USE_OTHER, "max_tokens", "unsupported_parameter"), ["max_tokens"]),
        (of_openai(DEFAULT, "temperature", "unsupported_value"), ["temperature"]),
        (of_openai("Unrecognized request argument supplied: reasoning_effort"), ["reasoning_effort"]),
        (of_openai("Unknown parameter: 'stream_options'.", "stream_options", "unknown_parameter"), ["stream_options"]),
        (of_openai(JSON_WORD, "messages"), ["response_format"]),
        # Groq
        (of_openai("property 'reasoning_effort' is unsupported, did you mean 'x'?"), ["reasoning_effort"]),
        (of_openai("`reasoning_effort` must be one of `low`, `medium` or `high`"), ["reasoning_effort"]),
        (of_openai("'reasoning_effort' : value is not one of the allowed values ['low']"), ["reasoning_effort"]),
        (of_openai("'messages.1' : for 'role:assistant' the following must be satisfied[('messages.1' : property "
                   "'reasoning' is unsupported)]"), ["messages.reasoning"]),
        # LM Studio, xAI, Moonshot, DeepSeek
        ({"error": "'response_format.type' must be 'json_schema' or 'text'"}, ["response_format"]),
        ({"code": "invalid-argument", "error": "Model m does not support parameter reasoningEffort."},
         ["reasoning_effort"]),
        (of_openai("invalid temperature: only 1 is allowed for this model"), ["temperature"]),
        (of_openai("This response_format type is unavailable now"), ["response_format"]),
        ({"detail": 'Invalid request: {"detail":{"error":{"message":"1 validation error: `reasoning_effort`: expected '
                    "one of 'low' | 'high', received 'none'\"}}}"}, ["reasoning_effort"]),
        # Mistral, in its three shapes; FastAPI; vLLM, which prints Python; Azure
        ({"detail": [extra("reasoning_effort"), extra("seed", input=1)]}, ["reasoning_effort", "seed"]),
        ({"object": "error", "message": {"detail": [extra("stream_options", "include_usage")]}, "type": "x",
          "param": None, "code": None}, ["stream_options"]),
        ({"detail": [extra("messages", 2, "assistant", "reasoning", input="hm")]}, ["messages.reasoning"]),
        ({"object": "error", "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options'), 'msg': 'Extra "
          "inputs are not permitted', 'input': {}}]", "type": "BadRequestError", "param": None, "code": 400},
         ["stream_options"]),
        ({"detail": "Validation error at #/stream_options: Extra inputs are not permitted"}, ["stream_options"]),
        ("temperature is not supported by this model", ["temperature"]),
    ],
)  # fmt: skip
def test_servers(body: Any, names: list[str]) -> None:
    """The member is found wherever a server names it, in param, in loc, or in its text."""
    for status in (400, 422):
        assert [one.member for one in refused(body, status)] == names


@pytest.mark.parametrize(
    "body",
    [
        of_openai("temperature must be between 0 and 2", "temperature", "invalid_value"),
        {"detail": [extra("temperature", of="less_than", msg="too hot", input={"stream_options": {}, "seed": 3})]},
        of_openai("the prompt is too long"),
        of_openai("Unsupported parameter: 'tools' is not supported with this model.", "tools", "unsupported_parameter"),
        of_openai("Unsupported parameter: 'stop' is not supported with this model.", "stop", "unsupported_parameter"),
        of_openai("max_tokens is too large: 100000. This model supports at most 4096 tokens", "max_tokens"),
        'cannot read {"model": "m", "stream_options": {"include_usage": true}, "temperature": 0.2, "seed": 1}',
        of_openai("this model does not support nonreasoning_effort_"),
        "reasoning models are not supported",
        {},
    ],
)
def test_what_is_wrong_otherwise(body: Any) -> None:
    """A value that its client must correct, what no answer can be without, and a request that is repeated are none."""
    assert refused(body) == []


CHOICE: dict[str, Any] = {"type": "function", "function": {"name": "unsupported"}}
ECHO = {"a": "Unsupported parameter: 'seed'", "type": "extra_forbidden", "loc": ["body", "seed"]}


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        ({"tool_choice": CHOICE}, of_openai("Tool choice 'unsupported' not found in 'tools' parameter.",
                                             "tool_choice")),
        ({"tool_choice": CHOICE}, of_openai("unknown tool 'unsupported' in tool_choice")),
        ({"tool_choice": CHOICE}, of_openai("tool_choice: unknown tool")),
        ({"tool_choice": CHOICE}, of_openai("Unsupported tool_choice", "tool_choice")),
        ({"tool_choice": CHOICE}, of_openai("A named tool is not supported with this model.", "tool_choice")),
        ({"tool_choice": CHOICE}, of_openai("This tool_choice type is not supported with this model", "tool_choice")),
        ({"tool_choice": "required"}, of_openai("tool_choice: only 'auto' is supported")),
        ({"logit_bias": {"unknown": 1}}, of_openai("Invalid key in 'logit_bias': unknown. Use ids.", "logit_bias")),
        ({"logit_bias": {"unknown": 1}}, of_openai("unknown logit_bias")),
        ({"logit_bias": {"not supported": 1}}, of_openai("logit_bias: not supported")),
        ({"logit_bias": {"5": 1}}, of_openai("logit_bias contains unrecognized token ids", "logit_bias")),
        ({"logit_bias": {"5": 1}}, of_openai("Unknown parameter", "logit_bias.5")),
        ({"logit_bias": {"5": 1}}, {"detail": [extra("logit_bias", "5")]}),
        ({"temperature": 9}, of_openai("temperature above 2 is not allowed", "temperature")),
        ({"temperature": 2.5}, of_openai("temperature 2.5 unsupported; range is 0..2", "temperature")),
        ({"temperature": 2.5}, of_openai("2.50 is not supported with this model", "temperature")),
        ({"temperature": 0.5}, of_openai("Prompt: tell me about temperature. Unknown model 'x'")),
        ({"temperature": 0.5}, of_openai("Prompt: 'the temperature is not supported'. Wrong.")),
        ({"temperature": 0.5}, of_openai("temperature is not supported", "tools[0].function.name")),
        ({"max_tokens": 500}, of_openai("max_tokens: more than 100 is not allowed", "max_tokens")),
        ({"max_tokens": 500}, of_openai("max_tokens 500 is not supported", "max_tokens")),
        ({"max_completion_tokens": 500}, of_openai("max_completion_tokens is not supported: limit 100")),
        ({"seed": 999}, of_openai("seed 999 is not supported", "seed")),
        ({"seed": 10**400}, of_openai("seed 3 is too large")),
        ({"seed": 3}, {"detail": [{"type": "string_type", "loc": ["body", "messages"], "msg": "no", "input": ECHO}]}),
        ({"logprobs": True, "top_logprobs": 25}, of_openai("Requested logprobs of 25 not supported: max allowed 20")),
        ({"top_logprobs": 9}, of_openai("top_logprobs: only 5 are allowed")),
        ({"logprobs": True, "top_logprobs": 9}, of_openai("logprobs 9 is not supported", "logprobs")),
    ],
)  # fmt: skip
def test_values_of_the_client(sent: dict[str, Any], body: Any) -> None:
    """An error about a value, or that repeats words of the client's, refuses no member."""
    assert refused(body, members=sent) == []


@pytest.mark.parametrize(
    ("sent", "body", "is_sure"),
    [
        ({"top_k": 5}, "create() got an unexpected keyword argument 'top_k'", False),
        ({"top_k": 5}, {"error": "Additional properties are not allowed ('top_k' was unexpected)"}, False),
        ({"top_k": 5}, {"error": "The following parameters are not supported: top_k"}, False),
        ({"min_p": 0.5}, {"error": "This server doesn't support min_p."}, False),
        ({"min_p": 0.5}, {"error": "`min_p` isn't supported with gpt-0.5"}, False),
        ({"seed": 5}, of_openai('Invalid JSON payload received. Unknown name "seed": Cannot find field.'), False),
        ({"seed": 5}, {"detail": "Validation error at #/seed: Extra inputs are not permitted"}, False),
        ({"frequency_penalty": 1}, {"error": "Model m does not support parameter frequencyPenalty."}, False),
        ({"presence_penalty": 1}, {"error": "Argument not supported on this model: presencePenalty"}, False),
        ({"temperature": 0.5}, of_openai("`temperature` is deprecated for this model."), False),
        ({"temperature": 0.5}, of_openai("invalid temperature: only 1 is allowed for this model"), False),
        ({"temperature": 0.2}, of_openai(DEFAULT, "temperature", "unsupported_value"), True),
        ({"tool_choice": CHOICE}, of_openai("This parameter is not supported with this model.", "tool_choice"), True),
        ({"logit_bias": {"5": 1}}, of_openai("Unsupported parameter: logit_bias", None, "unsupported_parameter"), True),
        ({"seed": 5}, {"detail": [extra("seed", input=5)]}, True),
        ({"seed": 5}, of_openai("1 error:\n {'type': 'extra_forbidden', 'loc': ('body', 'seed')}\n at x"), True),
    ],
)  # fmt: skip
def test_parameters_of_the_client(sent: dict[str, Any], body: Any, is_sure: bool) -> None:
    """A member is unsupported where the words are bound to its name; sure is what more than words tell."""
    (refusal,) = refused(body, members=sent)
    assert (refusal.member, refusal.is_any, refusal.is_sure) == (next(iter(sent)), True, is_sure)


def test_values_without_end() -> None:
    """A value of very many entries is not compared with the text: only a structure refuses its member."""
    sent = {"logit_bias": {str(number): 1 for number in range(1000)}}
    assert refused(of_openai("logit_bias is not supported"), members=sent) == []
    (refusal,) = refused(of_openai("no", "logit_bias", "unsupported_parameter"), members=sent)
    assert refusal.is_any


def test_efforts_of_the_client() -> None:
    """A level that the error repeats is refused by itself, and other levels are not."""
    for text in ("reasoning_effort 'huge' is not supported", "reasoning_effort huge is not supported by this model"):
        (refusal,) = refused(of_openai(text, "reasoning_effort"), members={"reasoning_effort": "huge"})
        assert (refusal.value, refusal.is_any) == ("huge", False)


@pytest.mark.parametrize(
    ("member", "text"),
    [
        ("temperature", "Unsupported parameter: 'temperature' is not supported when reasoning is on."),
        ("reasoning_effort", "Function tools with reasoning_effort are not supported for this model."),
    ],
)
def test_conditions(member: str, text: str) -> None:
    """What is refused beside something else only is left out of that request, and not of the next."""
    (refusal,) = refused(of_openai(text, member, "unsupported_parameter"), members={member: 0.2})
    assert not refusal.is_lasting


HOSTILE = ["[" * 4000, "{" * 4000, "'" * 4000, "'loc': (" + "(" * 4000, '{"a":' * 800, " " * 4000]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts(text: str) -> None:
    """Whatever a server sends is read."""
    assert refused(of_openai(f"unknown {text} x")) == []


def test_a_list_that_is_cut() -> None:
    """Errors before the cut count; what follows may be the client's own text."""
    told = json.dumps([extra("seed", input=1), extra("messages", 0, "x", input=ECHO | {"loc": ["body", "top_p"]})])
    found = find_refusals(UpstreamStatus(422, told[:-4]), SENT, ())
    assert [one.member for one in found] == ["seed"]


@pytest.mark.parametrize("status", [401, 404, 413, 429, 500, 503])
def test_statuses(status: int) -> None:
    """Only a status that blames the request counts."""
    assert refused(of_openai("Unknown parameter: 'stream_options'.", "stream_options"), status) == []


def test_a_schema_of_the_client() -> None:
    """Without its schema an answer would be another one, so the refusal is the client's to read."""
    body = of_openai("This response_format type is unavailable now")
    assert (
        refused(body, members={"response_format": {"type": "json_schema", "json_schema": {"schema": {"a": 1}}}}) == []
    )


def spelled(members: dict[str, Any], *bodies: Any) -> tuple[dict[str, Any], list[str]]:
    """Return what is sent, and lost, once these errors have come one after the other."""
    refusals: list[Refusal] = []
    for body in bodies:
        refusals += refused(body, members=respell(members, refusals)[0])
    sent, lost = respell(members, refusals)
    return sent, list(lost)


def test_other_spellings() -> None:
    """What can be said otherwise is said so, and nothing is lost."""
    assert spelled({"max_tokens": 5}, of_openai(USE_OTHER, "max_tokens")) == ({"max_completion_tokens": 5}, [])
    back = {"detail": [extra("max_completion_tokens")]}
    assert spelled({"max_completion_tokens": 5}, back) == ({"max_tokens": 5}, [])
    studio = {"error": "'response_format.type' must be 'json_schema' or 'text'"}
    assert spelled({"response_format": JSON_OBJECT}, studio) == ({"response_format": ANY_OBJECT}, [])
    efforts = of_openai("Unsupported value: 'reasoning_effort' does not support 'max'. Supported: 'high', 'xhigh'.")
    assert spelled({"reasoning_effort": "max"}, efforts) == ({"reasoning_effort": "xhigh"}, [])


def test_what_is_lost() -> None:
    """What no spelling saves is left out and named; a lesser effort is named too."""
    studio = {"error": "'response_format.type' must be 'text'"}
    assert spelled({"response_format": JSON_OBJECT}, studio, studio) == ({}, ["format"])
    efforts = of_openai("`reasoning_effort` must be one of `low`, `medium` or `high`")
    assert spelled({"reasoning_effort": "max"}, efforts) == ({"reasoning_effort": "high"}, ["think"])
    assert spelled({"reasoning_effort": "none"}, efforts) == ({}, ["think"])
    logprobs = of_openai("'logprobs' is not supported with this model", "logprobs")
    assert spelled({"logprobs": True, "top_logprobs": 2}, logprobs) == ({}, ["logprobs", "top_logprobs"])


def test_a_limit_is_never_left_out() -> None:
    """Of a server that takes neither spelling the client reads the refusal: else an answer might not end."""
    first = refused(of_openai(USE_OTHER, "max_tokens"), members={"max_tokens": 5})
    error = UpstreamStatus(400, "Unknown parameter: 'max_completion_tokens'", param="max_completion_tokens")
    assert find_refusals(error, {"max_completion_tokens": 5}, first) == []


def test_how_far_a_refusal_goes() -> None:
    """One of a parameter is about each value, one of a value about that, and only the default is left by another."""

    def covered(body: Any, member: str, *values: Any) -> list[bool]:
        (refusal,) = refused(body)
        return [refusal.covers({member: value}) for value in values]

    parameter = of_openai("Unsupported parameter: 'temperature' is not supported with this model.")
    assert covered(parameter, "temperature", 1, 0.7) == [True, True]
    value = of_openai("Unsupported value: 'reasoning_effort' does not support 'none' with this model.")
    assert covered(value, "reasoning_effort", "none", "low") == [True, False]
    assert covered(of_openai(DEFAULT, "temperature", "unsupported_value"), "temperature", 0.7, 1) == [True, False]
    (prompt,) = refused(of_openai(JSON_WORD, "messages"))
    assert not prompt.is_lasting


def test_fields() -> None:
    """What may be left out has a name of the client's, or asks for nothing that its answer shows."""
    assert {name for name, field in FIELDS.items() if not field} == {"stream_options", "encoding_format"}
    assert {"stop", "tools", "messages", "model", "n", "suffix", "dimensions"}.isdisjoint(FIELDS)
