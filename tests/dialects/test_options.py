"""Sampling options and the other fields of a request, from each dialect to the other."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from agenthub.canonical import BaseRequest, ChatRequest, TextRequest
from agenthub.dialects import ollama, openai
from agenthub.dialects.lane import make_lane
from agenthub.errors import InvalidRequest, RequestError, UnknownModel
from tests.dialects.recorded import CODECS

NATIVE, OPENAI = ollama.chat.CODEC, openai.chat.CODEC
CHAT = "/v1/chat/completions"
HI = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
SCHEMA = {"type": "object", "properties": {"a": {"$ref": "#/x", "const": 1}}, "additionalProperties": False}
SAMPLING = {"temperature": 0.5, "top_p": 0.9, "seed": 3, "presence_penalty": 1, "frequency_penalty": -1.5}


def to_native(**fields: Any) -> dict[str, Any]:
    """What Ollama is asked for a request to /v1, but for what every request has."""
    body = json.loads(NATIVE.render_request(OPENAI.parse_request(json.dumps(HI | fields).encode()), "m"))
    return {key: value for key, value in body.items() if key not in HI and (key, value) != ("stream", False)}


def to_openai(**fields: Any) -> dict[str, Any]:
    """What /v1 is asked for a request to Ollama, but for what every request has."""
    asked = json.dumps(HI | {"stream": False} | fields).encode()
    body = json.loads(OPENAI.render_request(NATIVE.parse_request(asked), "m"))
    return {key: value for key, value in body.items() if key not in HI and (key, value) != ("stream", False)}


@pytest.mark.parametrize(
    ("fields", "native"),
    [
        ({}, {}),
        (SAMPLING, {"options": SAMPLING}),
        ({"max_tokens": 9}, {"options": {"num_predict": 9}}),
        ({"max_completion_tokens": 5}, {"options": {"num_predict": 5}}),
        ({"max_completion_tokens": 5, "max_tokens": 9}, {"options": {"num_predict": 5}}),
        ({"max_tokens": 10.0}, {"options": {"num_predict": 10}}),
        ({"stop": "a"}, {"options": {"stop": ["a"]}}),
        ({"stop": ["a", "b"]}, {"options": {"stop": ["a", "b"]}}),
        ({"stop": None, "temperature": None, "max_tokens": None, "seed": None}, {}),
        ({"stop": []}, {}),
        ({"top_k": 5, "min_p": 0.1, "num_ctx": 8192}, {"options": {"top_k": 5, "min_p": 0.1, "num_ctx": 8192}}),
        ({"options": {"num_ctx": 1, "mirostat": 2, "x": None}}, {"options": {"num_ctx": 1, "mirostat": 2}}),
        ({"options": {"temperature": 1, "top_k": 1}, "temperature": 0}, {"options": {"temperature": 0, "top_k": 1}}),
        ({"keep_alive": "5m", "think": True, "format": "json"}, {"keep_alive": "5m", "think": True, "format": "json"}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"format": "json"}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
                }
            },
            {"format": SCHEMA},
        ),
        ({"reasoning_effort": "none"}, {"think": False}),
        ({"reasoning_effort": "minimal"}, {"think": "low"}),
        ({"reasoning_effort": "high"}, {"think": "high"}),
        ({"reasoning_effort": "xhigh"}, {"think": "max"}),
        ({"reasoning": {"effort": "low"}, "reasoning_effort": "high"}, {"think": "low"}),
        ({"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"stream": True}, {"stream": True}),
        ({"stream": None}, {}),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}]},
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]},
        ),
        ({"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"}, {}),
    ],
)
def test_from_openai_to_ollama(fields: dict[str, Any], native: dict[str, Any]) -> None:
    """Every field of OpenAI's that Ollama knows arrives under its name there; what is unset stays unset."""
    assert to_native(**fields) == native


@pytest.mark.parametrize(
    ("fields", "other"),
    [
        ({}, {}),
        ({"options": SAMPLING}, SAMPLING),
        ({"options": {"num_predict": 9}}, {"max_tokens": 9}),
        ({"options": {"num_predict": 9.7}}, {"max_tokens": 9}),
        ({"options": {"num_predict": -1}}, {}),
        ({"options": {"num_predict": -2}}, {}),
        ({"options": {"num_predict": 0}}, {}),
        ({"options": {"seed": -1}}, {}),
        ({"options": {"seed": 7.0}}, {"seed": 7}),
        ({"options": {"stop": ["a"]}}, {"stop": ["a"]}),
        ({"options": {"stop": []}}, {}),
        ({"options": {"repeat_penalty": 1.1, "num_ctx": 9, "top_k": 1}}, {}),
        ({"options": {"temperature": None}}, {}),
        ({"options": None}, {}),
        ({"format": "json"}, {"response_format": {"type": "json_object"}}),
        (
            {"format": SCHEMA},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "schema", "schema": SCHEMA}}},
        ),
        ({"format": ""}, {}),
        ({"format": None}, {}),
        ({"think": False}, {"reasoning_effort": "none"}),
        ({"think": "high"}, {"reasoning_effort": "high"}),
        ({"think": True}, {}),
        ({"think": ""}, {}),
        ({"logprobs": True}, {"logprobs": True}),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"top_logprobs": 3}, {}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"stream": None}, {"stream": True, "stream_options": {"include_usage": True}}),
        (
            {"tools": [{"function": {"parameters": SCHEMA}}]},
            {"tools": [{"type": "function", "function": {"parameters": SCHEMA}}]},
        ),
        ({"keep_alive": 0}, {}),
    ],
)
def test_from_ollama_to_openai(fields: dict[str, Any], other: dict[str, Any]) -> None:
    """Every field of Ollama's that OpenAI knows arrives under its name there; a stream always counts its tokens."""
    assert to_openai(**fields) == other


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"temperature": "hot"}, 'option "temperature" must be of type float32'),
        ({"temperature": True}, 'option "temperature" must be of type float32'),
        ({"num_predict": "five"}, 'option "num_predict" must be of type integer'),
        ({"seed": [1]}, 'option "seed" must be of type integer'),
        ({"stop": "x"}, 'option "stop" must be of type array'),
        ({"stop": [1]}, 'option "stop" must be of type array'),
    ],
)
def test_options_of_a_wrong_type(options: dict[str, Any], text: str) -> None:
    """Ollama judges its options itself; on the way to another API they are refused in its words, never dropped."""
    request = NATIVE.parse_request(json.dumps(HI | {"options": options}).encode())
    with pytest.raises(InvalidRequest) as caught:
        OPENAI.render_request(request, "m")
    assert (str(caught.value), caught.value.param) == (text, f"options.{next(iter(options))}")


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/embed", "/api/embeddings", CHAT])
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("-1", -1),
        ("300", 300),
        ("0", 0),
        ("1.5", 1.5),
        ("5m", "5m"),
        ("1h30m", "1h30m"),
        (1.5, 1.5),
        (-1, -1),
        (None, None),
    ],
)
def test_keep_alive(path: str, written: Any, meant: Any) -> None:
    """Seconds, a duration of Go's, or the bare number as text that clients send so often."""
    request = CODECS[path].parse_request(json.dumps(HI | {"keep_alive": written}).encode())
    assert isinstance(request, BaseRequest)
    assert (request.keep_alive, type(request.keep_alive)) == (meant, type(meant))


@pytest.mark.parametrize("path", ["/api/chat", "/api/embed", CHAT, "/v1/embeddings"])
@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("soon", 'time: invalid duration "soon"'),
        ("", 'time: invalid duration ""'),
        ("5 m", 'time: invalid duration "5 m"'),
        ("1" * 5000, "time: invalid duration"),
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
    ],
)
def test_keep_alive_of_no_duration(path: str, written: Any, text: str) -> None:
    """Anything else is refused in Go's words, in both dialects."""
    with pytest.raises(InvalidRequest) as caught:
        CODECS[path].parse_request(json.dumps(HI | {"input": "x", "keep_alive": written}).encode())
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("path", "fields", "text"),
    [
        (
            "/api/chat",
            {"think": "huge"},
            'invalid think value: "huge" (must be "high", "medium", "low", "max", true, or false)',
        ),
        (
            "/api/chat",
            {"think": 5},
            'invalid think value: "5" (must be "high", "medium", "low", "max", true, or false)',
        ),
        ("/api/chat", {"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ("/api/chat", {"top_logprobs": -1}, "top_logprobs must be between 0 and 20"),
        ("/api/chat", {"format": 5}, 'invalid format: "5"; expected "json" or a valid JSON Schema object'),
        (
            "/api/chat",
            {"options": []},
            "json: cannot unmarshal array into Go struct field ChatRequest.options of type map",
        ),
        (
            "/api/chat",
            {"stream": "yes"},
            "json: cannot unmarshal string into Go struct field ChatRequest.stream of type bool",
        ),
        (
            "/api/chat",
            {"tools": ["f"]},
            "json: cannot unmarshal string into Go struct field ChatRequest.tools of type api.Tool",
        ),
        ("/api/chat", {"model": ""}, "model is required"),
        (
            "/api/generate",
            {"images": [5]},
            "json: cannot unmarshal number into Go struct field GenerateRequest.images of type",
        ),
        ("/api/generate", {"model": None}, "model '' not found"),
        (
            "/api/embed",
            {"dimensions": 1.5},
            "json: cannot unmarshal number into Go struct field EmbedRequest.dimensions",
        ),
        (
            "/api/embed",
            {"truncate": "no"},
            "json: cannot unmarshal string into Go struct field EmbedRequest.truncate of type bool",
        ),
        ("/api/embed", {"model": ""}, "model '' not found"),
        ("/api/embeddings", {"model": ""}, "model is required"),
        (CHAT, {"max_tokens": "10"}, "json: cannot unmarshal string into Go struct field"),
        (CHAT, {"max_tokens": 2**63}, "json: cannot unmarshal number into Go struct field"),
        (
            CHAT,
            {"reasoning_effort": "extreme"},
            'invalid reasoning value: "extreme" (must be "none", ',
        ),
        (CHAT, {"stop": 5}, "invalid type for 'stop' field"),
        (
            CHAT,
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema.schema is req",
        ),
        (
            CHAT,
            {"tools": [5]},
            "json: cannot unmarshal number into Go struct field ChatCompletionRequest.tools",
        ),
        (
            "/v1/completions",
            {"prompt": 5},
            "json: cannot unmarshal number into Go struct field CompletionRequest.prompt",
        ),
        (
            "/v1/completions",
            {"logprobs": True},
            "json: cannot unmarshal bool into Go struct field CompletionRequest.logprobs",
        ),
        ("/v1/embeddings", {"input": None}, "invalid input"),
        ("/v1/embeddings", {"input": [{}]}, "invalid input type"),
        (
            "/v1/embeddings",
            {"encoding_format": "hex"},
            "Invalid value for 'encoding_format' = hex. Supported values: ['float'",
        ),
    ],
)
def test_fields_of_a_wrong_value(path: str, fields: dict[str, Any], text: str) -> None:
    """Fields are refused in the words that clients know from Ollama, with the field at fault for OpenAI's ``param``."""
    with pytest.raises(RequestError) as caught:
        CODECS[path].parse_request(json.dumps(HI | {"input": "x"} | fields).encode())
    assert str(caught.value).startswith(text)
    assert caught.value.param is not None
    assert caught.value.param.partition(".")[0] == next(iter(fields))
    assert isinstance(caught.value, UnknownModel) == (caught.value.status == 404)


def test_keys_of_any_case() -> None:
    """Ollama reads keys in any case, and so does the hub; the last of several wins."""
    body = b'{"MODEL":"a","Messages":[{"Role":"user","CONTENT":"hi"}],"Stream":false,"model":"b"}'
    request = NATIVE.parse_request(body)
    assert isinstance(request, ChatRequest)
    assert (request.model, request.stream, request.messages[0].content) == ("b", False, "hi")


@pytest.mark.parametrize(
    ("path", "body", "loads"),
    [
        ("/api/chat", {"model": "m"}, True),
        ("/api/chat", {"model": "m", "messages": [], "keep_alive": 0}, True),
        ("/api/chat", HI, False),
        ("/api/generate", {"model": "m"}, True),
        ("/api/generate", {"model": "m", "prompt": ""}, True),
        ("/api/generate", {"model": "m", "prompt": "x"}, False),
        ("/api/embed", {"model": "m", "input": []}, True),
        ("/api/embed", {"model": "m", "input": ""}, True),
        ("/api/embed", {"model": "m", "input": [""]}, False),
        ("/v1/embeddings", {"model": "m", "input": ""}, False),
    ],
)
def test_what_only_loads_a_model(path: str, body: dict[str, Any], loads: bool) -> None:
    """A request with nothing in it loads or unloads the model and is never streamed."""
    request = CODECS[path].parse_request(json.dumps(body).encode())
    assert request.loads_only == loads
    if isinstance(request, TextRequest):
        assert request.wants_stream == (request.stream and not loads)


@pytest.mark.parametrize("path", ["/api/chat", CHAT])
def test_what_an_alias_adds(path: str) -> None:
    """Options that an alias adds stand in the client's own body, beside what it wrote itself."""
    codec = CODECS[path]
    body = b'{ "model": "gpt",  "x": 1.0, "messages": [{"role":"user"}], "options": {"top_k": 2} }'
    asked = codec.parse_request(body)
    changes: dict[str, Any] = {
        "upstream_model": "up",
        "defaults": {"temperature": 0.5},
        "options": {"top_k": 2, "temperature": 0.5},
    }
    lane = make_lane(attrs.evolve(asked, **changes), {path: codec}, codec)
    added = {"/api/chat": b'{"top_k":2,"temperature":0.5} }', CHAT: b'{"top_k": 2},"temperature":0.5 }'}
    assert lane.body == b'{ "model": "up",  "x": 1.0, "messages": [{"role":"user"}], "options": ' + added[path]


def test_the_lane_to_another_dialect() -> None:
    """A request of another dialect, or of an endpoint that the upstream lacks, is rendered, and its answer as well."""
    request = NATIVE.parse_request(json.dumps(HI).encode())
    lane = make_lane(request, openai.CODECS, OPENAI)
    assert (lane.codec, lane.raw, lane.rename) == (OPENAI, False, None)
    assert lane.body == OPENAI.render_request(request, "m")
