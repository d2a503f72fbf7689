"""The prompt in a request's bytes: which it is, and that nothing else changes when it is replaced."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.canonical import ChatRequest, GenerateRequest
from agenthub.dialects.ollama import CODECS as OLLAMA
from agenthub.dialects.openai import CODECS as OPENAI
from agenthub.dialects.prompts import CHAT, GENERATE, NoPrompt, find_prompt

CODECS = OLLAMA | OPENAI
NEW = 'new "text" ☕\n'

FOUND: list[tuple[str, str, str]] = [
    ("/api/chat", '{"model":"m","messages":[{"role":"user","content":@}]}', "hi"),
    ("/api/chat", '{ "messages" : [ {"role":"user","content":"one"} , {"content": @ ,"role":"User"} ] }', "two"),
    (
        "/api/chat",
        '{"model":"m","messages":[{"role":"user","content":"a"},{"role":"user","content":@,"images":["aGk="]},'
        '{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"n":1.50}}}]},'
        '{"role":"tool","content":"b"}],"tools":[{"type":"function"}],"x":1e2,"options":{"seed":7}}',
        "c",
    ),
    ("/api/chat", '{"Messages":[],"model":"m","MESSAGES":[{"Role":"user","Content":@}]} trailing', "d"),
    ("/v1/chat/completions", '{"messages":[{"role":"user","content":@}],"model":"m"}', "naïve \u2615"),
    (
        "/v1/chat/completions",
        '{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"first"},{"type":"text","text":@},'
        '{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk="}}]},{"role":"assistant","content":"x"}]}',
        "last part",
    ),
    ("/api/generate", '{"model":"m","prompt":@,"raw":false,"suffix":""}', "hi"),
    ("/api/generate", '{"prompt":"old","model":"m","Prompt":@}', "the last of two"),
    ("/v1/completions", '{"model":"m","prompt":@,"suffix":null}', "hi"),
    ("/v1/completions", '{"model":"m","prompt":[ @ ]}', "alone in a list"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "template", "text"), FOUND)
def test_the_prompt_is_found_and_nothing_else_is_touched(path: str, template: str, text: str) -> None:
    """The last text of the last user message, the last part of several; the rest stays byte for byte."""
    body = template.replace("@", json.dumps(text)).encode()
    prompt = find_prompt(path, body)
    assert prompt.text == text
    replaced = prompt.replaced(body, NEW)
    assert replaced == template.replace("@", json.dumps(NEW, ensure_ascii=False)).encode()
    assert find_prompt(path, replaced).text == NEW


NONE: list[tuple[str, Any, str]] = [
    ("/api/chat", {"model": "m"}, "there is no user message"),
    ("/api/chat", {"model": "m", "messages": None}, "there is no user message"),
    ("/api/chat", {"model": "m", "messages": []}, "there is no user message"),
    ("/api/chat", {"messages": [{"role": "system", "content": "x"}]}, "there is no user message"),
    (
        "/api/chat",
        {"messages": [{"role": "user", "content": "a"}, {"role": "user"}]},
        "the last user message has no text",
    ),
    ("/api/chat", {"messages": [{"role": "user", "content": None}]}, "the last user message has no text"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": []}]}, "the last user message has no text"),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
        "the last user message has no text",
    ),
    ("/api/chat", {"messages": [{"role": "huge", "content": "a"}]}, "the body is too strange"),
    ("/api/generate", {"model": "m"}, "there is no text"),
    ("/api/generate", {"model": "m", "prompt": "<s>hi", "raw": True}, "the prompt is raw"),
    ("/api/generate", {"model": "m", "prompt": "def f", "suffix": "return"}, "the prompt has a suffix"),
    ("/v1/completions", {"model": "m", "prompt": "def f", "suffix": "return"}, "the prompt has a suffix"),
    ("/v1/completions", {"model": "m", "prompt": ["a", "b"]}, "there are several prompts"),
    ("/v1/completions", {"model": "m", "prompt": [1, 2]}, "there are several prompts"),
    ("/v1/completions", {"model": "m", "prompt": [[1]]}, "there is no text"),
    ("/v1/completions", {"model": "m", "prompt": []}, "there is no text"),
]


@pytest.mark.parametrize(("path", "body", "reason"), NONE)
def test_why_there_is_no_prompt(path: str, body: Any, reason: str) -> None:
    """What is no text of the user's, or would be wrong in other words."""
    with pytest.raises(NoPrompt) as caught:
        find_prompt(path, json.dumps(body).replace('"huge"', "9" * 5000).encode())
    assert str(caught.value) == reason


def test_lone_surrogates_are_replaced() -> None:
    """As Go reads them; what follows can encode the text."""
    assert find_prompt("/api/generate", b'{"prompt":"a\\ud800b"}').text == "a�b"


ROLES = st.sampled_from(["user", "assistant", "system", "USER"])
CONTENTS = st.text(max_size=8)
PARTS = st.lists(st.builds(lambda text: {"type": "text", "text": text}, CONTENTS), min_size=1, max_size=3)


@given(
    messages=st.lists(st.fixed_dictionaries({"role": ROLES, "content": CONTENTS | PARTS}), min_size=1, max_size=4),
    new=st.text(min_size=1, max_size=8),
    is_ascii=st.booleans(),
    indent=st.sampled_from([None, 1]),
)
def test_only_the_last_users_words_change(messages: list[Any], new: str, is_ascii: bool, indent: int | None) -> None:
    """Of what the hub understands of a chat, whatever it is made of and however it is written."""
    body = json.dumps({"model": "m", "messages": messages}, ensure_ascii=is_ascii, indent=indent).encode()
    places = [number for number, message in enumerate(messages) if message["role"].lower() == "user"]
    if not places:
        with pytest.raises(NoPrompt):
            find_prompt("/v1/chat/completions", body)
        return
    replaced = find_prompt("/v1/chat/completions", body).replaced(body, new)
    last = messages[places[-1]]
    if isinstance(last["content"], str):
        last["content"] = new
    else:
        last["content"][-1]["text"] = new
    assert json.loads(replaced) == {"model": "m", "messages": messages}


def test_the_endpoints_with_prompts_are_those_that_answer_in_words() -> None:
    """What is found fits what the endpoint's parser makes of it."""
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "input": "hi"}
    kinds = {path: type(codec.parse_request(json.dumps(asked).encode())) for path, codec in CODECS.items()}
    assert {path for path, kind in kinds.items() if kind is ChatRequest} == CHAT
    assert {path for path, kind in kinds.items() if kind is GenerateRequest} == GENERATE
