"""The loss ledger: what a request would lose on its way to the other API, noted or rejected."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from agenthub.canonical import FLAVOURS, Loss, Request
from agenthub.dialects.ledger import BY_OLLAMA, TO_NATIVE, TO_OPENAI, Table
from agenthub.dialects.losses import is_representable, losses_to_native, losses_to_openai, passed_over_by_ollama
from agenthub.dialects.ollama import chat as ollama_chat
from agenthub.dialects.openai import chat
from tests.dialects.recorded import CODECS

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
TOOLS = [{"type": "function", "function": {"name": "f"}}]
STRICT = {"type": "function", "function": {"name": "f", "strict": True}}
HI = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "input": "hi"}


def ask(path: str, fields: dict[str, Any]) -> Request:
    wanted = {"/api/chat": "messages", "/api/generate": "prompt", "/api/embed": "input", "/api/embeddings": "prompt"}
    wanted |= {CHAT: "messages", COMPLETIONS: "prompt", EMBEDDINGS: "input"}
    body = {"model": "m", wanted[path]: HI[wanted[path]]} | fields
    return CODECS[path].parse_request(json.dumps(body).encode())


def shown(losses: Sequence[Loss]) -> list[str]:
    """Losses as text: a rejected one with an exclamation mark."""
    return [loss.field + "!" * loss.rejected for loss in losses]


@pytest.mark.parametrize(
    ("path", "fields", "losses"),
    [
        (CHAT, {}, []),
        (CHAT, {"temperature": 1, "stop": "x", "seed": 1, "max_completion_tokens": 5, "top_k": 3, "num_ctx": 9}, []),
        (CHAT, {"options": {"num_ctx": 1}, "keep_alive": 0, "think": True, "format": "json"}, []),
        (
            CHAT,
            {"logprobs": True, "top_logprobs": 2, "reasoning_effort": "low", "stream_options": {"x": 1}},
            ["stream_options.x"],
        ),
        (CHAT, {"n": 1}, []),
        (CHAT, {"n": 2}, []),
        (CHAT, {"top_k": 1, "num_gpu": 1, "repetition_penalty": 1.1, "truncate": False, "shift": False}, []),
        (CHAT, {"reasoning": {"effort": "low", "summary": "auto"}}, ["reasoning.summary"]),
        (CHAT, {"response_format": {"type": "grammar"}}, ["response_format.type!"]),
        (CHAT, {"tools": [STRICT]}, ["tools.function.strict"]),
        (CHAT, {"logit_bias": {}}, []),
        (CHAT, {"logit_bias": {"5": 1}}, ["logit_bias!"]),
        (CHAT, {"modalities": ["text"]}, []),
        (CHAT, {"modalities": ["text", "audio"], "audio": {"voice": "x"}}, ["modalities!", "audio!"]),
        (CHAT, {"web_search_options": {}}, ["web_search_options!"]),
        (CHAT, {"functions": [], "function_call": "auto"}, []),
        (CHAT, {"functions": [{"name": "f"}], "function_call": {"name": "f"}}, []),
        (CHAT, {"parallel_tool_calls": True}, []),
        (CHAT, {"parallel_tool_calls": False}, ["parallel_tool_calls"]),
        (CHAT, {"user": "u", "metadata": {}, "service_tier": "auto"}, ["user", "metadata"]),
        (CHAT, {"service_tier": "flex"}, ["service_tier"]),
        (CHAT, {"store": False, "prediction": None}, []),
        (CHAT, {"store": True, "verbosity": "low"}, ["store", "verbosity"]),
        (CHAT, {"whatever": 1}, ["whatever"]),
        (CHAT, {"tools": TOOLS}, []),
        (CHAT, {"tools": TOOLS, "tool_choice": "auto"}, []),
        (CHAT, {"tools": TOOLS, "tool_choice": "none"}, []),
        (CHAT, {"tools": TOOLS, "tool_choice": "required"}, []),
        (CHAT, {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "f"}}}, []),
        (CHAT, {"tools": TOOLS, "tool_choice": {"type": "custom", "custom": {"name": "f"}}}, ["tool_choice.custom!"]),
        (CHAT, {"tool_choice": "required"}, []),
        (CHAT, {"tools": [{"type": "custom", "custom": {"name": "f"}}]}, ["tools[0].function.name!", "tools.custom!"]),
        (COMPLETIONS, {}, []),
        (COMPLETIONS, {"prompt": ["one"], "suffix": "x", "logprobs": 2, "best_of": 1, "echo": False}, []),
        (COMPLETIONS, {"prompt": ["one", "two"], "n": 2}, []),
        (COMPLETIONS, {"prompt": [1, 2]}, ["prompt!"]),
        (COMPLETIONS, {"prompt": [[1], [2]]}, ["prompt!"]),
        (COMPLETIONS, {"echo": True, "best_of": 3}, ["echo!", "best_of!"]),
        (EMBEDDINGS, {"dimensions": 8, "encoding_format": "base64"}, []),
        (EMBEDDINGS, {"input": [1, 2]}, ["input!"]),
        (EMBEDDINGS, {"input": [[1], [2]]}, ["input!"]),
        (EMBEDDINGS, {"user": "u"}, ["user"]),
    ],
)
def test_from_openai_to_ollama(path: str, fields: dict[str, Any], losses: list[str]) -> None:
    """What would make the answer wrong is rejected, the rest is noted; to an API of its own kind nothing is lost."""
    request = ask(path, fields)
    assert shown(losses_to_native(request)) == losses
    assert losses_to_openai(request) == ()
    assert is_representable(request) == (not any(loss.endswith("!") for loss in losses))


@pytest.mark.parametrize(
    ("path", "fields", "losses"),
    [
        ("/api/chat", {}, []),
        ("/api/chat", {"options": {"temperature": 1, "top_p": 1, "seed": 1, "num_predict": 5, "stop": ["x"]}}, []),
        ("/api/chat", {"options": {"num_predict": -1, "presence_penalty": 1, "frequency_penalty": 1}}, []),
        ("/api/chat", {"options": {"num_predict": 0}}, ["options.num_predict"]),
        ("/api/chat", {"options": {"num_ctx": 9, "top_k": 1}}, ["options.num_ctx", "options.top_k"]),
        ("/api/chat", {"options": {"mirostat": 2, "repeat_penalty": None}}, ["options.mirostat"]),
        ("/api/chat", {"keep_alive": "5m"}, ["keep_alive"]),
        ("/api/chat", {"keep_alive": 0, "messages": []}, []),
        ("/api/chat", {"think": True}, ["think"]),
        ("/api/chat", {"think": False, "format": "json", "logprobs": True, "tools": TOOLS}, []),
        ("/api/chat", {"truncate": True, "shift": True, "_debug_render_only": False}, []),
        ("/api/chat", {"truncate": False, "shift": False}, ["truncate", "shift"]),
        ("/api/chat", {"_debug_render_only": True}, ["_debug_render_only!"]),
        ("/api/chat", {"logit_bias": {"5": 1}, "tool_choice": "auto", "parallel_tool_calls": False}, []),
        ("/api/chat", {"whatever": 1}, ["whatever"]),
        ("/api/generate", {"system": "s", "images": ["AAAA"], "format": "json", "think": "low"}, []),
        ("/api/generate", {"template": "t"}, ["template!"]),
        ("/api/generate", {"context": [1]}, ["context!"]),
        ("/api/generate", {"raw": True}, []),
        ("/api/generate", {"suffix": "x"}, []),
        ("/api/generate", {"raw": True, "images": ["AAAA"], "format": "json"}, ["images!", "format!"]),
        ("/api/generate", {"suffix": "x", "system": "s", "think": "low"}, ["system!", "think"]),
        ("/api/generate", {"suffix": "x", "think": True}, ["think"]),
        ("/api/embed", {"dimensions": 8, "truncate": True}, ["truncate"]),
        ("/api/embed", {"truncate": False, "options": {"num_ctx": 9}}, ["options.num_ctx", "truncate"]),
        ("/api/embeddings", {"keep_alive": 5}, ["keep_alive", "unnormalised"]),
    ],
)
def test_from_ollama_to_openai(path: str, fields: dict[str, Any], losses: list[str]) -> None:
    """The other way round: every option that has no name there is noted, what would make an answer wrong rejected."""
    request = ask(path, fields)
    assert shown(losses_to_openai(request)) == losses
    assert losses_to_native(request) == ()


def test_what_an_alias_adds_is_told() -> None:
    """Of a request of OpenAI's own only what an alias added can be lost at an OpenAI-compatible server."""
    request = attrs.evolve(ask(CHAT, {"n": 2}), defaults={"num_ctx": 9, "temperature": 1})
    assert shown(losses_to_openai(request)) == ["options.num_ctx"]


def test_a_request_without_a_source() -> None:
    """A request that was made inside the hub may lose things on either way."""
    request = attrs.evolve(ask("/api/chat", {"options": {"num_ctx": 9}, "x": 1}), source=None)
    assert (shown(losses_to_native(request)), shown(losses_to_openai(request))) == (["x"], ["x", "options.num_ctx"])


SAMPLES = {"stop": ["a"], "use_mmap": True}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_options_do_what_the_ledger_says(flavour: str) -> None:
    """Each option is at its home in the body for a server of each flavour, or it is a loss: one of the two."""
    options = {row.field.removeprefix("options.") for row in TO_OPENAI.rows if row.field.startswith("options.")}
    assert len(options) == 23
    for option in options:
        value = SAMPLES.get(option, 2)
        request = ask("/api/chat", {"options": {option: value}, "stream": False})
        home = TO_OPENAI.home("chat", f"options.{option}", value, flavour)
        body = json.loads(chat.render_request(request, "m", flavour))
        assert {name: body[name] for name in body.keys() - {"model", "messages", "stream"}} == (
            {home: value} if home else {}
        )
        assert shown(losses_to_openai(request, flavour)) == ([] if home else [f"options.{option}"])


def test_fields_at_the_top_do_what_the_ledger_says() -> None:
    """Each field that OpenAI's clients may set, and that is an option of Ollama's, gets there under its name."""
    rows = [row for row in TO_NATIVE.rows if row.home.startswith("options.") and "chat" in row.operations]
    assert len(rows) > 20
    for row in rows:
        value = SAMPLES.get(row.field, 2)
        body = json.loads(ollama_chat.render_request(ask(CHAT, {row.field: value}), "m"))
        assert body["options"] == {row.home.removeprefix("options.").partition(";")[0]: value}


@pytest.mark.parametrize(
    ("path", "fields", "losses"),
    [
        (CHAT, {}, []),
        (CHAT, {"temperature": 1, "max_tokens": 9, "tools": [STRICT], "reasoning_effort": "low"}, []),
        (CHAT, {"n": 1, "logit_bias": {}, "tool_choice": "auto", "parallel_tool_calls": True, "store": False}, []),
        (CHAT, {"modalities": ["text"], "service_tier": "auto", "user": None, "Max_Tokens": 9}, []),
        (CHAT, {"n": 2, "logit_bias": {"5": 1}, "tool_choice": "none"}, ["n", "logit_bias"]),
        (CHAT, {"tools": [STRICT], "tool_choice": "none"}, ["tool_choice"]),
        (CHAT, {"parallel_tool_calls": False, "store": True, "new": 0}, ["parallel_tool_calls", "store", "new"]),
        (
            CHAT,
            {"max_completion_tokens": 9, "num_ctx": 9, "options": {"top_k": 1}},
            ["num_ctx", "options"],
        ),
        (COMPLETIONS, {"suffix": "x", "echo": False, "best_of": 1}, []),
        (COMPLETIONS, {"prompt": ["a"], "logprobs": 1, "echo": True}, ["logprobs", "echo"]),
        (COMPLETIONS, {"prompt": [1, 2], "max_completion_tokens": 9}, ["prompt!"]),
        (EMBEDDINGS, {"dimensions": 2, "encoding_format": "float"}, []),
        (EMBEDDINGS, {"user": "u"}, ["user"]),
    ],
)
def test_what_an_ollama_passes_over(path: str, fields: dict[str, Any], losses: list[str]) -> None:
    """In its OpenAI-compatible API, of what is written for that; no other flavour is known to."""
    request = ask(path, fields)
    assert shown(losses_to_openai(request, "ollama")) == losses
    assert {flavour for flavour in FLAVOURS if losses_to_openai(request, flavour)} == ({"ollama"} if losses else set())
    assert passed_over_by_ollama(ask("/api/chat", {"logit_bias": {"5": 1}})) == ()


def test_what_stands_behind_a_body_is_not_read() -> None:
    """As Go leaves it alone."""
    request = CODECS[CHAT].parse_request(
        b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "user": "u"} x'
    )
    assert shown(passed_over_by_ollama(request)) == ["user"]


@pytest.mark.parametrize("table", [TO_NATIVE, TO_OPENAI, BY_OLLAMA])
def test_the_ledger_is_without_gaps(table: Table) -> None:
    """No row can never hold: of several rows for a field only the last may be without a condition."""
    for operation in ("chat", "generate", "embed"):
        rows = [row for row in table.rows if operation in row.operations]
        for field in {row.field for row in rows}:
            found = [row for row in rows if row.field == field]
            assert all(row.when is not None for row in found[:-1]), field
        assert table.loss(operation, "whatever", 1) == Loss("whatever")
