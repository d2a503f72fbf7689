"""``agenthub explain``."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from agenthub.cli import main
from agenthub.hops import HUB_ID
from agenthub.standin import Standin, running
from tests.cli.support import invoke

BODY = '{"model": "gpt", "user": "me", "messages": [{"role": "user", "content": "hi"}]}'
SENT = '{"model":"standin","stream":false,"messages":[{"role":"user","content":"hi"}]}'


@pytest.fixture
def body(tmp_path: Path) -> str:
    path = tmp_path / "body.json"
    path.write_text(BODY)
    return str(path)


async def test_it_tells_in_words(body: str) -> None:
    """What becomes of the request, each section under its name, the upstream request as it would be sent; status 0."""
    async with running(standin := Standin()) as url:
        settings = ("--set", f"backends.a.url={url}", "--set", "models.gpt.target=standin")
        result = await invoke("explain", *settings, "--dialect", "openai", "--file", body)
    lines = result.stdout.splitlines()
    host = url.removeprefix("http://")
    assert lines == [
        "request      POST /v1/chat/completions (chat, openai dialect, whole)",
        "answer       the backend's",
        "client       not known",
        "model        gpt -> standin: alias gpt stands for standin; listed by a",
        "enhancement  none: neither X-Enhance: true nor auto_enhance of the client asks for it",
        "candidates   1. a (would be asked)",
        "                + lists standin",
        "                  breaker closed, 0 failures; 0 running, 0 waiting",
        "api mode     native; said by default",
        "losses       native: user dropped",
        "             openai: nothing",
        lines[11],
        f"upstream     POST {url}/api/chat  to a",
        f"                Host: {host}",
        "                User-Agent: agenthub",
        "                Accept-Encoding: identity",
        "                Content-Type: application/json",
        f"                Via: 1.1 {HUB_ID.get()}",
        "                Accept: */*",
        f"                Content-Length: {len(SENT)}",
        f"                {SENT}",
    ]
    assert lines[11].startswith("cache        bypass: caching.policy is deterministic")
    assert (result.exit_code, result.stderr) == (0, "")
    assert not [one for one in standin.requests if one.method == "POST"]


async def test_json_from_stdin_with_headers(body: str) -> None:
    """The same as POST /hub/explain answers; of one that would be refused the exit status is 1."""
    async with running(Standin()) as url:
        arguments = ["explain", "--set", f"backends.a.url={url}", "--json", "--path", "/v1/chat/completions"]
        arguments += ["--header", "X-AgentHub-Strict: true", "--header", "X-Client-Name: me"]
        result = await asyncio.to_thread(CliRunner().invoke, main, arguments, BODY.replace("gpt", "standin"))
    told = json.loads(result.stdout)
    assert (told["client"]["name"], told["answer"]["status"]) == ("me", 400)
    assert told["answer"]["body"]["error"]["param"] == "user"
    assert told["losses"]["native"] == [{"field": "user", "fate": "rejected", "reason": ""}]
    assert result.exit_code == 1


async def test_in_the_name_of_a_client(body: str) -> None:
    """Where clients have keys, --client says who asks, without a key on the command line."""
    async with running(Standin()) as url:
        settings = ("--set", f"backends.a.url={url}", "--set", "clients.me.api_key=sk-00000000", "--file", body)
        nobody, me = await invoke("explain", *settings), await invoke("explain", *settings, "--client", "me")
        stranger = await invoke("explain", *settings, "--client", "you")
    assert "answer       401 by the hub itself: an API key is needed" in nobody.stdout
    assert "client       me, known by key of who asks" in me.stdout
    assert (nobody.exit_code, me.exit_code, stranger.exit_code) == (1, 0, 2)


async def test_what_asks_no_model() -> None:
    """A list, a path that is none, and a backend that does not answer."""
    async with running(Standin()) as url:
        settings = ("--set", f"backends.a.url={url}")
        listed = await invoke("explain", *settings, "--method", "GET", "--path", "/api/tags")
        nowhere = await invoke("explain", *settings, "--method", "get", "--path", "/nowhere")
    assert f"upstream     GET {url}/api/tags  to a" in listed.stdout
    assert "answer       404 by the hub itself: 404 page not found" in nowhere.stdout
    assert (listed.exit_code, nowhere.exit_code) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--header", "sk-secret"], "--header: use 'NAME: VALUE'"),
        (["--path", "nowhere"], "path must begin with a slash"),
        (["--file", "/no/such/file"], "No such file"),
    ],
)
async def test_wrong_usage(arguments: list[str], words: str) -> None:
    """One line that says how it is meant, and never a secret; exit status 2."""
    result = await invoke("explain", *arguments)
    assert (result.exit_code, words in result.stderr, "sk-secret" in result.stderr) == (2, True, False)
