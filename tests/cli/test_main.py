"""``agenthub`` itself: help, version, and how failures are said."""

from __future__ import annotations

import asyncio
import os
import sys

import click
import pytest

from agenthub import __version__
from agenthub.cli import COMMANDS, main
from agenthub.errors import AgentHubError, ConfigError
from tests.cli.support import clean_environ, finished, invoke
from tests.ports import free_port


async def test_help_names_every_command() -> None:
    """`agenthub` and `agenthub --help` print the same: each command with one line about it."""
    shown, alone = await invoke("--help"), await invoke()
    assert shown.exit_code == alone.exit_code == 0
    assert shown.stdout == alone.stdout
    for name, line in COMMANDS.items():
        assert f"  {name:7}  {line}\n" in shown.stdout


@pytest.mark.parametrize("name", COMMANDS)
async def test_each_command_has_help(name: str) -> None:
    """`agenthub COMMAND --help` begins with the very line that `agenthub --help` has for it and fits 80 columns."""
    shown = await invoke(name, "--help")
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert lines[2].strip() == COMMANDS[name]
    assert max(map(len, lines)) <= 80


async def test_help_loads_no_command() -> None:
    """`agenthub --help` is quick: neither the application nor rich is imported for it."""
    code = "import sys\nfrom agenthub.cli import main\nmain(['--help'], standalone_mode=False)\nprint(*sys.modules)"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env=clean_environ(), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    loaded = out.decode().splitlines()[-1].split()
    assert "agenthub.cli" in loaded
    assert not {"agenthub.app", "agenthub.cli.serving", "agenthub.standin", "rich"} & set(loaded)


async def test_python_dash_m_is_the_same() -> None:
    """`python -m agenthub` is the same command; --version says which one this is."""
    assert await finished("--version") == (0, f"agenthub {__version__}\n", "")


async def test_a_wrong_command_is_wrong_usage() -> None:
    """A command that does not exist ends with 2 and a pointer to the help."""
    result = await invoke("serv")
    assert result.exit_code == 2
    assert "No such command 'serv'" in result.stderr
    assert "--help" in result.stderr


@pytest.mark.parametrize(
    ("failure", "status", "line"),
    [
        (ConfigError("port: 0.5 is not allowed"), 2, "agenthub: port: 0.5 is not allowed\n"),
        (AgentHubError("port 1 is in use"), 1, "agenthub: port 1 is in use\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=["settings", "other", "ctrl-c"],
)
async def test_a_failure_is_one_line(
    failure: BaseException, status: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong settings end with 2, other failures with 1, each with one line on stderr; Ctrl-C with 130 and no word."""

    def fail() -> None:
        raise failure

    monkeypatch.setattr(main, "get_command", lambda ctx, name: click.Command(name, callback=fail))
    result = await invoke("check")
    assert (result.exit_code, result.stdout, result.stderr) == (status, "", line)


@pytest.mark.parametrize(
    "arguments",
    [
        ("check",),
        ("doctor",),
        ("doctor", "--json"),
        ("plugins",),
        ("models",),
        ("explain", "--method", "GET", "--path", "/api/tags"),
        ("demo", "--stand-in", "--exit", "--port", "{port}"),
        ("--help",),
        ("doctor", "--help"),
    ],
    ids=" ".join,
)
async def test_output_that_nobody_reads(arguments: tuple[str, ...], closed_port: int) -> None:
    """A command whose pipe is closed, as by ``| head``, ends with 1 and without a complaint of Python's."""
    environ = clean_environ(OLLAMA_HOST=f"127.0.0.1:{closed_port}")
    given = [argument.format(port=free_port()) for argument in arguments]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = (sys.executable, "-m", "agenthub", *given)
        process = await asyncio.create_subprocess_exec(
            *command, stdout=writer, stderr=asyncio.subprocess.PIPE, env=environ
        )
    finally:
        os.close(writer)
    err = (await process.communicate())[1].decode()
    # What the command itself has to say on stderr it may say: one line.
    assert (process.returncode, [line for line in err.splitlines() if not line.startswith("agenthub: ")]) == (1, [])
