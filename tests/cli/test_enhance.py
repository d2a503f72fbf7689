"""``agenthub enhance``."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from agenthub.cli import main
from agenthub.settings import ClientSettings
from agenthub.standin import Standin, running
from tests.cli.support import clean_environ, invoke
from tests.enhancement.support import BETTER, Rewriter, by_rules
from tests.hubs import running_hub
from tests.upstreams import serving

RULES = '[default]\nmodel = "standin"\nsystem_prompt = "You rewrite for {client}."\n[clients.off]\nenabled = false\n'


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    (tmp_path / "rules.toml").write_text(RULES)
    return ["--set", f"enhancement.file={tmp_path / 'rules.toml'}"]


async def test_without_a_running_hub(options: list[str]) -> None:
    """By the settings, through either API: in a pipe the new prompt alone, status 0."""
    standin = Standin(text=f"Improved prompt:\n{BETTER}")
    async with running(standin) as url:
        for mode in ("native", "openai"):
            settings = [*options, "--set", f"backends.a.url={url}", "--set", f"api_mode={mode}"]
            result = await invoke("enhance", "make it better", "--client", "ed", *settings)
            assert (result.exit_code, result.stdout, result.stderr) == (0, f"{BETTER}\n", "")
    told = [received.json()["messages"] for received in standin.requests if received.method == "POST"]
    assert told == 2 * [
        [{"role": "system", "content": "You rewrite for ed."}, {"role": "user", "content": "make it better"}]
    ]


async def test_without_a_file_of_rules() -> None:
    """By the built-in rule, with the model of the option or of the setting; without either it is said what to set."""
    async with running(Standin(text=BETTER)) as url:
        for model in (["--model", "standin"], ["--set", "enhancement.model=standin"]):
            result = await invoke("enhance", "make it better", *model, "--set", f"backends.a.url={url}")
            assert (result.exit_code, result.stdout, result.stderr) == (0, f"{BETTER}\n", "")
        bare = await invoke("enhance", "make it better", "--set", f"backends.a.url={url}")
    assert (bare.exit_code, bare.stdout) == (1, "make it better\n")
    assert "names no model: name one in the request (model), or set enhancement.model" in bare.stderr


async def test_a_prompt_that_stays(options: list[str]) -> None:
    """It is printed as it was, with the reason on stderr and status 1."""
    async with running(Standin()) as url:
        backend = [*options, "--set", f"backends.a.url={url}"]
        off = await invoke("enhance", "a prompt", "--client", "off", *backend)
        gone = await invoke("enhance", "a prompt", "--model", "gone", *backend)
    assert (off.exit_code, off.stdout) == (1, "a prompt\n")
    assert off.stderr == "agenthub: not enhanced: the rule off is off\n"
    assert (gone.exit_code, gone.stdout) == (1, "a prompt\n")
    assert "model 'gone' not found" in gone.stderr


async def test_from_stdin(options: list[str]) -> None:
    """Where no prompt is given, or "-"; the line's end is not a part of it."""
    standin = Standin(text=BETTER)
    async with running(standin) as url:
        backend = [*options, "--set", f"backends.a.url={url}"]
        for dash in ([], ["-"]):
            result = await asyncio.to_thread(
                CliRunner().invoke, main, ["enhance", *dash, *backend], input="naïve\nline\n"
            )
            assert (result.exit_code, result.stdout) == (0, f"{BETTER}\n")
    told = [received.json()["messages"][-1]["content"] for received in standin.requests if received.method == "POST"]
    assert told == ["naïve\nline", "naïve\nline"]


async def test_a_running_hub_is_asked(tmp_path: Path) -> None:
    """With its rules, its cache and its keys."""
    clients = {"ed": ClientSettings(api_key="the-key")}
    rewriter = Rewriter()
    async with (
        serving(rewriter) as upstream,
        running_hub(upstream.url, enhancement=by_rules(), clients=clients) as hub,
    ):
        refused = await invoke("enhance", "a prompt", "--url", hub.url)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert refused.stderr.startswith(f"agenthub: {hub.url} answered 401: an API key is needed")
        key = tmp_path / "key"
        key.write_text("the-key\n")
        for anew in ([], [], ["--anew"]):
            found = await invoke("enhance", "a prompt", "--url", f"{hub.url}/", "--key-file", str(key), *anew)
            assert (found.exit_code, found.stdout, found.stderr) == (0, f"{BETTER}\n", "")
    assert len(rewriter.rewrote) == 2


async def test_what_cannot_be_asked(closed_port: int, tmp_path: Path) -> None:
    """One line on stderr, no traceback; 2 for wrong usage."""
    url = f"http://127.0.0.1:{closed_port}"
    unreachable = await invoke("enhance", "a", "--url", url)
    assert (unreachable.exit_code, unreachable.stdout, unreachable.stderr.count("\n")) == (1, "", 1)
    assert unreachable.stderr.startswith(f"agenthub: {url} is no hub that can be asked: ")
    for arguments, words in (
        (["--url", "nonsense"], "command line: --url: "),
        (["--url", url, "--key-file", str(tmp_path / "gone")], "--key-file: the file cannot be read: No such file"),
        (["--key-file", "x"], "--key-file needs --url"),
        (["--set", "enhancement.file=/no/such/file"], "/no/such/file: cannot be read"),
    ):
        result = await invoke("enhance", "a", *arguments)
        assert (result.exit_code, result.stdout) == (2, ""), arguments
        assert words in result.stderr
        assert str(tmp_path) not in result.stderr
    async with running(Standin()) as upstream:
        other = await invoke("enhance", "a", "--url", upstream)
    assert (other.exit_code, other.stdout) == (1, "")
    assert "answered 404" in other.stderr or "is no hub that can be asked" in other.stderr


async def test_on_a_terminal_the_changes_are_shown(options: list[str], tmp_path: Path) -> None:
    """What is gone struck out in red, what is new in green, and by what; the rest stands once."""
    async with running(Standin(text="write a haiku about cats")) as url:
        arguments = ["enhance", "write something about cats", *options, "--set", f"backends.a.url={url}"]
        text = await asyncio.to_thread(on_a_terminal, *arguments)
    assert "write \x1b[9;31msomething\x1b[0m\x1b[32ma haiku\x1b[0m about cats" in text
    assert re.search(r"default@1, standin, \d+\.\d s", text)


def on_a_terminal(*arguments: str) -> str:
    """Run the command with a terminal for stdout; return what it wrote."""
    reader, writer = pty.openpty()
    environ = clean_environ(TERM="xterm-256color")
    with subprocess.Popen(
        [sys.executable, "-m", "agenthub", *arguments], stdout=writer, stdin=subprocess.DEVNULL, env=environ
    ) as process:
        os.close(writer)
        found = b""
        try:
            while data := os.read(reader, 4096):
                found += data
        except OSError:  # Linux: the other end is closed
            pass
        finally:
            os.close(reader)
        process.wait(20)
    return found.decode()
