"""The command line tool ``llm`` with its plugin ``llm-ollama``, OLLAMA_HOST being a hub.

Most tests run its commands in this process, since it takes a second to start.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner
from llm.cli import cli
from llm_ollama import registry

from agenthub.standin import Fault
from tests.clients.serving import AGENT, PNG, SENTENCE, Serving, Upstream

MODEL = f"ollama/{AGENT}"
REPLY = "You said: Hello. ☕ This is the stand-in, not a model."
ADD = "def add_up(a: int, b: int) -> int:\n    'Sum of two numbers.'\n    return a + b\n"


@attrs.frozen
class Done:
    """How a run of ``llm`` ended."""

    code: int
    out: str
    err: str


Llm = Callable[..., Done]


@pytest.fixture(params=["native", "openai"], ids=lambda name: f"{name}-adapter")
def adapter(request: pytest.FixtureRequest) -> str:
    """Through which adapter the hub asks."""
    return str(request.param)


@pytest.fixture
def llm(serving: Serving, adapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Llm:
    """Run ``llm`` with some arguments against the hub of this adapter; its settings and its log are the test's own."""
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    registry.cache.set_dir(tmp_path / "cache")
    (tmp_path / "logs-off").touch()

    def run(*arguments: str, upstream: Upstream = "standin") -> Done:
        monkeypatch.setenv("OLLAMA_HOST", serving.url(upstream, adapter))
        done = CliRunner().invoke(cli, arguments)
        return Done(done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def sent(serving: Serving) -> Callable[[], Any]:
    """Return the body of the last chat that reached the stand-in."""
    requests = serving.standins["standin"].requests
    return lambda: next(one.json() for one in reversed(requests) if "chat" in one.path)


def test_the_command(serving: Serving, adapter: str, tmp_path: Path) -> None:
    """As a process of its own it asks the hub that OLLAMA_HOST names."""
    own = {"LLM_USER_PATH": str(tmp_path), "OLLAMA_HOST": serving.url("standin", adapter)}
    command = [sys.executable, "-m", "llm", "-m", MODEL, "Hello"]
    done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{REPLY}\n", "")


def test_the_models(llm: Llm) -> None:
    """It lists the models with what they can do, which only ``show`` tells, and registers them by that."""
    rows = [line.split(maxsplit=2) for line in llm("ollama", "models").out.splitlines()[1:]]
    told = {row[0].removesuffix(":latest"): row[2].rstrip() for row in rows}
    assert told == {
        AGENT: "completion, thinking, tools, vision",
        "standin": "completion, thinking, tools",
        "standin-embed": "embedding",
    }
    assert f"Ollama: {MODEL}" in llm("models", "list").out
    assert "ollama/standin-embed" in llm("embed-models", "list").out


@pytest.mark.parametrize("how", [[], ["--no-stream"], ["--async"], ["--async", "--no-stream"]])
def test_a_prompt(llm: Llm, how: list[str], sent: Callable[[], Any]) -> None:
    """Streamed or whole, blocking or not, it prints the answer and its counts."""
    done = llm("-m", MODEL, "-u", "Hello", *how)
    assert (done.code, done.out) == (0, f"{REPLY}\n")
    assert done.err == "Token usage: 1 input, 18 output\n"
    assert sent()["stream"] is ("--no-stream" not in how)


def test_options(llm: Llm, adapter: str, sent: Callable[[], Any]) -> None:
    """Its options reach the upstream under the name that they have there, and do what they say."""
    pairs = {"temperature": "0.5", "seed": "7", "top_p": "0.25", "num_predict": "3", "num_ctx": "4096"}
    done = llm("-m", MODEL, "Hello", *(part for pair in pairs.items() for part in ("-o", *pair)))
    assert done.out == "You said:\n"
    common = {"temperature": 0.5, "seed": 7, "top_p": 0.25}
    if adapter == "native":
        assert sent()["options"] == common | {"num_predict": 3, "num_ctx": 4096}
    else:
        assert {key: sent()[key] for key in (*common, "max_tokens")} == common | {"max_tokens": 3}


def test_a_system_prompt_and_a_conversation(llm: Llm, sent: Callable[[], Any]) -> None:
    """Continued, the conversation is sent again with what was answered."""
    llm("-m", MODEL, "Hello", "-s", "Be brief.", "--log")
    done = llm("-c", "And now?", "--log")
    assert done.code == 0
    told = [(message["role"], message["content"]) for message in sent()["messages"]]
    system = ("system", "Be brief.")
    first = [("user", "Hello"), ("assistant", f"[system: Be brief.] {REPLY}")]
    assert [turn for turn in told if turn != system] == [*first, ("user", "And now?")]
    assert system in told


def test_json_by_a_schema(llm: Llm) -> None:
    """A schema comes back filled, and ``json_object`` gives an object."""
    done = llm("-m", MODEL, "What is 'two' and 3?", "--schema", "name, sum int")
    assert json.loads(done.out) == {"name": "two", "sum": 3}
    loose = llm("-m", MODEL, "JSON with 'a' and 'b'", "-o", "json_object", "true")
    assert json.loads(loose.out) == {"a": "text", "b": "text"}


@pytest.mark.parametrize("how", [[], ["--no-stream"]], ids=["streamed", "whole"])
def test_tools(llm: Llm, how: list[str], sent: Callable[[], Any]) -> None:
    """It runs the function that was called, twice, and the results come back with the calls that they answer."""
    done = llm("-m", MODEL, "add_up(1, 2) and add_up(30, 40)", "--functions", ADD, *how)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("The tool said: 70.")
    assert [message["role"] for message in sent()["messages"]] == ["user", "assistant", "tool", "tool"]
    assert [message["content"] for message in sent()["messages"][2:]] == ["3", "70"]


def test_a_picture(llm: Llm, adapter: str, tmp_path: Path, sent: Callable[[], Any]) -> None:
    """An attached picture reaches the upstream as it has pictures there."""
    (tmp_path / "dot.png").write_bytes(PNG)
    assert llm("-m", MODEL, "What is it?", "-a", str(tmp_path / "dot.png")).code == 0
    data = base64.b64encode(PNG).decode()
    message = sent()["messages"][-1]
    if adapter == "native":
        assert message["images"] == [data]
    else:
        url = {"url": f"data:image/png;base64,{data}"}
        assert message["content"] == [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": url}]


def test_thinking(llm: Llm) -> None:
    """Thoughts and answer are told apart."""
    done = llm("-m", MODEL, "Hello", "-o", "think", "true")
    assert (done.out, done.err.strip()) == (f"{REPLY}\n", "Let me think about that.")


def test_embeddings(llm: Llm, tmp_path: Path) -> None:
    """One text or many, the vectors are the upstream's and in order."""
    one = json.loads(llm("embed", "-m", "ollama/standin-embed", "-c", "hello").out)
    assert len(one) == 8
    assert sum(number**2 for number in one) == pytest.approx(1)
    table = tmp_path / "texts.json"
    table.write_text(json.dumps([{"id": str(n), "text": text} for n, text in enumerate(["bye", "hello", "hi"])]))
    assert llm("embed-multi", "texts", str(table), "-m", "ollama/standin-embed", "--store").code == 0
    nearest = [json.loads(line) for line in llm("similar", "texts", "-c", "hello").out.splitlines()]
    assert (nearest[0]["id"], nearest[0]["score"]) == ("1", pytest.approx(1))
    assert len(nearest) == 3


@pytest.mark.parametrize("how", [[], ["--no-stream"]], ids=["streamed", "whole"])
def test_an_upstream_that_breaks(llm: Llm, serving: Serving, how: list[str]) -> None:
    """A refusal before the answer, and a break in its middle, are errors with the reason and never an answer."""
    serving.standins["standin"].script(Fault.answer(429, "too many"))
    refused = llm("-m", MODEL, "Hello", *how)
    assert (refused.code, refused.err) == (1, "Error: too many (status code: 429)\n")
    serving.standins["standin"].script(Fault.error("the model broke", after=2))
    broken = llm("-m", MODEL, "Hello", *how)
    assert broken.code == 1
    assert broken.err.startswith("Error: ")


def test_the_real_ollama(llm: Llm) -> None:
    """A real model's known sentence."""
    assert llm("-m", "ollama/tiny", "hi", upstream="real").out.strip() == SENTENCE
    assert llm("-m", "ollama/tiny", "hi", "--no-stream", upstream="real").out.strip() == SENTENCE


def test_vectors_of_the_real_ollama(llm: Llm) -> None:
    """A real model's vector."""
    assert len(json.loads(llm("embed", "-m", "ollama/tiny-embed", "-c", "hello", upstream="real").out)) == 256
