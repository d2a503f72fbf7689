"""npm's packages ``ollama`` and ``openai``, each run once a lane by a script of node/ that tells what it saw.

Their folder is CLIENTS_NODE, where node/install.py installed them.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agenthub.standin import Standin
from tests.clients.serving import AGENT, PNG, SENTENCE, Serving
from tests.hubs import LANES

REPLY = "You said: Hello. ☕ This is the stand-in, not a model."
PICTURE = base64.b64encode(PNG).decode()
COUNTS = {"prompt_tokens": 1, "completion_tokens": 18, "total_tokens": 19}
TURNS = {
    "calls": [
        {"name": "add_up", "arguments": {"a": 1, "b": 2}},
        {"name": "add_up", "arguments": {"a": 30, "b": 40}},
    ],
    "told": "The tool said: 70. ☕ This is the stand-in, not a model.",
}
MODELS = ["standin", AGENT, "standin-embed"]

Saw = dict[str, Any]


def installed() -> Path:
    """Return the folder that holds the packages, or skip."""
    if shutil.which("node") is None:
        pytest.skip("node is not here")
    folder = Path(os.environ.get("CLIENTS_NODE", ""))
    if not (folder / "node_modules" / "openai").is_dir():
        pytest.skip("npm's packages are not installed: CLIENTS_NODE names no folder of node/install.py's")
    return folder


@pytest.fixture(scope="module", params=LANES, ids=lambda lane: f"{lane[0]}-client-{lane[1]}-adapter")
def asked(request: pytest.FixtureRequest, serving: Serving) -> tuple[tuple[str, str], Saw]:
    """Run the script of this lane; give the lane, and what the script saw in each case."""
    folder, (dialect, adapter) = installed(), request.param
    standins = serving.standins
    before = standins["endless"].abandoned.count
    # A script finds packages only in folders above its own.
    script = folder / f"{os.getpid()}-{dialect}-{adapter}" / f"{dialect}.mjs"
    script.parent.mkdir()
    try:
        shutil.copy(Path(__file__).parent / "node" / script.name, script)
        hubs = [serving.hubs.get((upstream, adapter)) for upstream in ("standin", "endless", "real")]
        urls = [hub.url if hub else "" for hub in hubs]
        command = ["node", str(script), *urls, AGENT, PICTURE]
        done = subprocess.run(command, capture_output=True, timeout=50, check=True)
    finally:
        shutil.rmtree(script.parent)
    saw = json.loads(done.stdout)
    serving.wait(standins["endless"].abandoned.reach(before + 1))
    saw["pictures"] = list(pictures(standins["standin"]))
    return request.param, saw


@pytest.fixture
def saw(asked: tuple[tuple[str, str], Saw]) -> Saw:
    return asked[1]


@pytest.fixture
def by(asked: tuple[tuple[str, str], Saw]) -> str:
    """The dialect of this lane."""
    return asked[0][0]


def pictures(standin: Standin) -> Iterator[str]:
    """Yield each picture that a chat brought."""
    for body in (one.json() for one in standin.requests if "chat" in one.path):
        for message in body["messages"]:
            yield from message.get("images", ())
            parts = message.get("content")
            for part in parts if isinstance(parts, list) else ():
                if part["type"] == "image_url":
                    yield part["image_url"]["url"].partition(",")[2]


def parsed(turns: Saw) -> Saw:
    """Return the turns with OpenAI's arguments, which are text, parsed."""
    for call in turns["calls"]:
        if isinstance(call["arguments"], str):
            call["arguments"] = json.loads(call["arguments"])
    return {"calls": turns["calls"], "told": turns["told"]}


def test_nothing_failed(saw: Saw) -> None:
    """No case ended in an error that it did not ask for."""
    assert {name: seen["failed"] for name, seen in saw.items() if isinstance(seen, dict) and "failed" in seen} == {}


def test_chat(saw: Saw, by: str) -> None:
    """Whole and streamed, the same text, reason and counts."""
    if by == "ollama":
        end = {"done_reason": "stop", "prompt_eval_count": 1, "eval_count": 18, "timed": True}
        assert saw["whole"] == {"text": REPLY} | end
        assert saw["streamed"] == {"text": REPLY, "many": True, "ends": 1} | end
        thought = "Let me think about that."
        assert saw["thinking"] == [thought, REPLY]
    else:
        end = {"text": REPLY, "finish_reason": "stop", "usage": COUNTS}
        assert saw["whole"] == end | {"refusal": None, "named": True}
        assert saw["streamed"] == end | {"roles": 1, "ids": 1}
        assert saw["helper"] == {"role": "assistant", "text": REPLY, "usage": COUNTS}


def test_prompts_without_a_conversation(saw: Saw, by: str) -> None:
    """``generate`` with its system text, streamed too, and the old completions."""
    if by == "ollama":
        assert (saw["generate"], saw["generate_streamed"]) == (f"[system: Brief.] {REPLY}", REPLY)
    else:
        assert saw["completion"] == REPLY


def test_limits(saw: Saw, by: str) -> None:
    """A limit in tokens cuts the answer and says so; a stop word ends it."""
    assert saw["cut"] == ["You said:", "length"]
    if by == "openai":
        assert saw["stop"] == "You said: Hello. "


def test_a_format(saw: Saw) -> None:
    """A schema comes back filled."""
    assert saw["format"] == {"sum": 7}


@pytest.mark.parametrize("how", ["tools", "tools_streamed"])
def test_tools(saw: Saw, by: str, how: str) -> None:
    """Two calls, whole or streamed, each with its own id, and an answer out of their results."""
    assert parsed(saw[how]) == TURNS
    assert saw[how]["reason"] == ("stop" if by == "ollama" else "tool_calls")
    if by == "openai":
        assert saw[how]["ids"] == 2
        assert [json.loads(call["arguments"]) for call in saw["named_tool"]] == [{"a": 3, "b": 4}]


def test_a_picture(saw: Saw) -> None:
    """It reaches the upstream byte for byte."""
    assert PICTURE in saw["pictures"]


def test_embeddings(saw: Saw, by: str) -> None:
    """Vectors in order; openai asks for base64 by itself and gets the numbers that floats are."""
    if by == "ollama":
        assert saw["embed"] == {"lengths": [8, 8], "differ": True, "old": 8}
    else:
        assert saw["embed"] == {"lengths": [8, 8], "order": [0, 1], "near": True}


def test_models(saw: Saw, by: str) -> None:
    """The list, and one model of it."""
    assert saw["list"] == MODELS
    if by == "ollama":
        assert (saw["show"], saw["version"]) == ({"info": "object", "able": True}, True)
    else:
        assert saw["retrieve"] == AGENT


@pytest.mark.parametrize("how", ["missing", "missing_streamed"])
def test_a_missing_model(saw: Saw, by: str, how: str) -> None:
    """A 404 in the client's own kind of error, streamed or not."""
    error = saw[how]
    name = "ResponseError" if by == "ollama" else "NotFoundError"
    assert (error["name"], error["status"]) == (name, 404)
    assert "not found" in error["message"]


def test_a_request_that_is_refused(saw: Saw, by: str) -> None:
    """A 400 has the type that openai's users look at."""
    if by == "ollama":
        pytest.skip("to Ollama a chat without messages loads the model")
    error = saw["no_messages"]
    assert (error["name"], error["status"], error["type"]) == ("BadRequestError", 400, "invalid_request_error")


def test_the_real_ollama(saw: Saw, serving: Serving) -> None:
    """A real model's known sentence, call and vectors."""
    if serving.missing:
        pytest.skip(serving.missing)
    told = {"text": f" {SENTENCE}", "reason": "stop", "calls": [{"city": "Oslo"}], "lengths": [256, 256]}
    assert saw["real"] == told


def test_an_abort(saw: Saw, by: str) -> None:
    """A client that aborts in the middle is through at once, and the upstream's stream was closed: ``asked`` waits."""
    assert saw["abort"] == ([3, "AbortError"] if by == "ollama" else [3, "ended"])
