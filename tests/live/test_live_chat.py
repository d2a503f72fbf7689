"""What else a chat carries, with a real Ollama in all four lanes: tools, thinking, schemas, and a model that dies."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.hubs import RunningHub
from tests.real import SENTENCE

pytestmark = pytest.mark.live

ASKED: list[Any] = [{"role": "user", "content": "What time is it in Oslo?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "get_time", "description": "t", "parameters": CITY}}]
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_tools(hub: RunningHub, lane: tuple[str, str], streamed: bool) -> None:
    """The model calls the tool with its argument; the call goes back in the history with its result."""
    if lane[0] == "ollama":
        calls = await called_by_ollama(hub, streamed)
        assert [(call.function.name, call.function.arguments) for call in calls] == [("get_time", {"city": "Oslo"})]
        history = [*ASKED, {"role": "assistant", "tool_calls": calls}]
        history += [{"role": "tool", "tool_name": "get_time", "content": "noon"}]
        assert (await hub.ollama.chat("tiny-tools", history, tools=TOOLS)).done
        return
    create = hub.openai.chat.completions.create
    if streamed:
        async with hub.openai.chat.completions.stream(model="tiny-tools", messages=ASKED, tools=TOOLS) as stream:
            choice: Any = (await stream.get_final_completion()).choices[0]
    else:
        choice = (await create(model="tiny-tools", messages=ASKED, tools=TOOLS)).choices[0]
    (call,) = choice.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_time", {"city": "Oslo"})
    assert (choice.finish_reason, bool(call.id)) == ("tool_calls", True)
    kept = {"id": call.id, "type": "function", "function": {"name": "get_time", "arguments": call.function.arguments}}
    answered: list[Any] = [*ASKED, {"role": "assistant", "content": None, "tool_calls": [kept]}]
    answered += [{"role": "tool", "tool_call_id": call.id, "content": "noon"}]
    assert (await create(model="tiny-tools", messages=answered, tools=TOOLS)).choices


async def called_by_ollama(hub: RunningHub, streamed: bool) -> Sequence[Any]:
    if not streamed:
        return (await hub.ollama.chat("tiny-tools", ASKED, tools=TOOLS)).message.tool_calls or []
    parts = [part async for part in await hub.ollama.chat("tiny-tools", ASKED, tools=TOOLS, stream=True)]
    return [call for part in parts for call in part.message.tool_calls or []]


async def test_a_named_tool(hub: RunningHub, lane: tuple[str, str]) -> None:
    """OpenAI's client may name the tool, and the model calls it."""
    if lane[0] == "ollama":
        pytest.skip("Ollama's API has no tool_choice")
    body = {"messages": ASKED, "tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "get_time"}}}
    good = await hub.post("/v1/chat/completions", body | {"model": "tiny-tools"})
    assert good.json()["choices"][0]["finish_reason"] == "tool_calls"
    if lane[1] == "native":
        none = await hub.post(
            "/v1/chat/completions", body | {"model": "tiny-tools", "tools": [], "tool_choice": "none"}
        )
        assert none.json()["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "magic"}}], ids=str)
async def test_a_tool_that_the_model_would_not_call(
    hub: RunningHub, lane: tuple[str, str], choice: Any, streamed: bool
) -> None:
    """A model that answers with text is made to call what it must, with arguments of the tool's own form.

    As LangChain's test_structured_few_shot_examples asks it; Ollama's /v1 takes no notice of the choice.
    """
    if lane != ("openai", "native"):
        pytest.skip("only the native adapter forces a call")
    number = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    other = {"type": "object", "properties": {"kind": {"$ref": "#/$defs/Kind"}}, "required": ["kind"]}
    other["$defs"] = {"Kind": {"type": "string", "enum": ["a", "b"]}}
    tools: Any = [
        {"type": "function", "function": {"name": "magic", "description": "Applies it.", "parameters": number}},
        {"type": "function", "function": {"name": "other", "parameters": other}},
    ]
    asked: Any = {"model": "tiny-tools", "messages": [{"role": "user", "content": "What is 2 + 9?"}], "tools": tools}
    asked |= {"tool_choice": choice, "temperature": 0}
    if streamed:
        async with hub.openai.chat.completions.stream(**asked) as stream:
            found: Any = (await stream.get_final_completion()).choices[0]
    else:
        found = (await hub.openai.chat.completions.create(**asked)).choices[0]
    (call,) = found.message.tool_calls
    arguments = json.loads(call.function.arguments)
    if call.function.name == "magic":
        assert (list(arguments), type(arguments["n"])) == (["n"], int)
    else:
        assert (choice, call.function.name, arguments["kind"] in ("a", "b")) == ("required", "other", True)
    assert found.finish_reason == "tool_calls"
    assert "dropped" not in hub.dispatches()[-1]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_thinking(hub: RunningHub, lane: tuple[str, str], streamed: bool) -> None:
    """Through Ollama's own API thoughts and answer come apart; its /v1 of this version leaves them in the text."""
    if lane[0] == "ollama":
        body = {"model": "tiny-think", "messages": ASKED, "think": True, "stream": streamed}
        parts = (await hub.post("/api/chat", body)).frames()
        thought = "".join(part["message"].get("thinking", "") for part in parts)
        text = "".join(part["message"]["content"] for part in parts)
    else:
        body = {"model": "tiny-think", "messages": ASKED, "reasoning_effort": "medium", "stream": streamed}
        frames = [frame for frame in (await hub.post("/v1/chat/completions", body)).frames() if frame != "[DONE]"]
        said = [frame["choices"][0]["delta" if streamed else "message"] for frame in frames]
        thought = "".join(one.get("reasoning") or "" for one in said)
        assert thought == "".join(one.get("reasoning_content") or "" for one in said)
        text = "".join(one.get("content") or "" for one in said)
    if lane[1] == "native":
        assert (thought.strip(), text.strip()) == ("Let me ponder", "Forty-two.")
    else:
        assert re.sub(r"\s+", "", thought + text) == "<think>Letmeponder</think>Forty-two."


async def test_a_schema(hub: RunningHub, lane: tuple[str, str]) -> None:
    """With a schema the model answers in its shape, in either dialect's words; with which text, is not known."""
    if lane[0] == "ollama":
        text = (await hub.ollama.chat("tiny", ASKED, format=SCHEMA, options={"temperature": 0})).message.content
    else:
        wanted: Any = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
        completion = await hub.openai.chat.completions.create(
            model="tiny", messages=ASKED, response_format=wanted, temperature=0
        )
        text = completion.choices[0].message.content
    shaped = json.loads(text or "")
    assert (list(shaped), type(shaped["text"])) == (["text"], str)


async def test_several_choices(hub: RunningHub, lane: tuple[str, str]) -> None:
    """Through Ollama's own API two choices are two; its /v1 ignores ``n``, which a lane that changes nothing shows."""
    if lane[0] == "ollama":
        pytest.skip("Ollama's API has one choice")
    completion = await hub.openai.chat.completions.create(model="tiny", messages=ASKED, n=2)
    texts = [choice.message.content for choice in completion.choices]
    assert texts == [SENTENCE] * (2 if lane[1] == "native" else 1)


async def test_load_and_unload(hub: RunningHub, lane: tuple[str, str]) -> None:
    """An empty conversation loads the model, with keep_alive 0 it unloads it: one object each, though none asked so."""
    if lane[0] == "openai":
        pytest.skip("OpenAI's API cannot load")
    for fields, reason in (({}, "load"), ({"keep_alive": 0}, "unload")):
        answer = await hub.post("/api/chat", {"model": "tiny-think", "messages": []} | fields)
        assert answer.headers["Content-Type"].startswith("application/json")
        assert (answer.json()["done_reason"], answer.json()["message"]["role"]) == (reason, "assistant")


async def test_a_model_that_dies(hub: RunningHub, lane: tuple[str, str], real_ollama: str) -> None:
    """Its process is killed in the middle of an answer: the client gets an error in its dialect, no forged end."""
    path = "/api/chat" if lane[0] == "ollama" else "/v1/chat/completions"
    body = {"model": "tiny-loop", "messages": ASKED, "stream": True, "max_tokens": 2000}
    body["options"] = {"num_predict": 2000}
    data, killed = b"", False
    async with hub.http.post(hub.url + path, json=body) as response:
        assert response.status == 200
        async for piece in response.content.iter_any():
            data += piece
            if not killed:
                killed = True
                os.kill(await asyncio.to_thread(runner_of, real_ollama, "tiny-loop"), signal.SIGKILL)
    last = json.loads(data.strip().splitlines()[-1].removeprefix(b"data: "))
    assert "error" in last
    assert isinstance(last["error"], str if lane[0] == "ollama" else dict)
    assert b"[DONE]" not in data
    assert b'"done":true' not in data
    # The next request loads it again.
    limited = body | {"stream": False, "max_tokens": 2, "options": {"num_predict": 2}}
    assert (await hub.post(path, limited)).status == 200


def runner_of(url: str, model: str) -> int:
    """Return the process that runs a model: its command line names the file that the model was made from."""
    request = urllib.request.Request(f"{url}/api/show", json.dumps({"model": model}).encode())
    with urllib.request.urlopen(request, timeout=5) as answer:
        modelfile = json.load(answer)["modelfile"]
    file = Path(re.findall(r"^FROM (\S+)", modelfile, re.MULTILINE)[0]).name
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if b"runner" in words and file.encode() in words and parent_listens(process, url):
            return int(process.name)
    pytest.skip(f"no process here runs {model}: that Ollama is on another machine")


def parent_listens(process: Path, url: str) -> bool:
    """Say whether the process is the child of the server at ``url``, which its environment names."""
    parent = re.findall(r"^PPid:\s*(\d+)", (process / "status").read_text(), re.MULTILINE)[0]
    try:
        environ = (process.parent / parent / "environ").read_bytes()
    except OSError:
        return False
    return url.removeprefix("http://").encode() in environ
