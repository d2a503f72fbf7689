"""The opening of ``agenthub serve`` on a terminal: real processes, their log as a person sees it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agenthub.cli.banner import callers
from agenthub.settings import ClientSettings, Settings
from agenthub.standin import Standin, running
from tests.cli.support import LIMIT_S, Started, clean_environ, started
from tests.cli.test_workers import workers_of
from tests.ports import free_port

PATIENCE = aiohttp.ClientTimeout(total=LIMIT_S)
COLUMNS = 100


@attrs.define
class Terminal:
    """A hub that writes its log for a person; ``lines`` are those read so far, without the time of the day.

    Those that name the API of a backend, before it is known whether it answers, are in ``apis``.
    """

    hub: Started
    url: str
    lines: list[str] = attrs.field(factory=list)
    apis: list[str] = attrs.field(factory=list)

    async def read_until(self, mark: str) -> list[str]:
        """Return all lines up to the one with ``mark`` in it."""
        assert self.hub.process.stderr is not None
        async with asyncio.timeout(LIMIT_S):
            while line := (await self.hub.process.stderr.readline()).decode().rstrip("\n"):
                assert len(line) <= COLUMNS or "gunicorn" in line, line
                (self.apis if line[10:].startswith("Using ") else self.lines).append(line[10:])
                if mark in line:
                    return self.lines
        raise AssertionError(f"no {mark!r} in {self.lines}")

    async def read_boots(self, count: int) -> None:
        """Read until so many workers have begun, those of the lines read before among them."""
        while sum("Booting worker" in line for line in self.lines) < count:
            await self.read_until("Booting worker")

    async def end(self) -> list[str]:
        """Stop the hub and return all lines."""
        self.hub.signal(signal.SIGTERM)
        await self.read_until("stopped")
        assert (await self.hub.end())[0] == 0
        return self.lines


@asynccontextmanager
async def shown(*arguments: str, **variables: str) -> AsyncIterator[Terminal]:
    """Serve with the log of a terminal."""
    port = free_port()
    parts = ("serve", "--log-format", "console", "--port", str(port), *arguments)
    async with started(*parts, environ=clean_environ(**variables)) as hub:
        yield Terminal(hub, f"http://127.0.0.1:{port}")


def opening(url: str, who: str = "anyone on this machine, without a key", key: str = "any") -> list[str]:
    host = url.removeprefix("http://")
    return [
        f"listening on {url}  Ctrl-C stops it",
        f"Ollama clients  OLLAMA_HOST={host}",
        f"OpenAI clients  OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY={key}",
        f"who may call    {who}",
    ]


def openai_server(owner: str = "llamacpp") -> TestServer:
    """Return a server that has nothing but a list of models."""

    async def models(http_request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m", "owned_by": owner}]})

    app = web.Application()
    app.router.add_get("/v1/models", models)
    return TestServer(app)


@pytest.mark.parametrize(
    ("mode", "apis"),
    [("native", "its native API"), ("openai", "the OpenAI API"), ("auto", "its native and the OpenAI API (auto)")],
)
async def test_the_address_then_what_is_behind_it(mode: str, apis: str) -> None:
    """And who may call; a few lines, in which nothing is told twice."""
    standin = Standin(models=("a", "b"))
    async with running(standin) as upstream, shown(OLLAMA_HOST=upstream, OLLAMA_API_MODE=mode) as terminal:
        await terminal.read_until("2 models")
        lines = await terminal.end()
    # Told by the hub's own probe, before it or after, or not any more where the stop came first.
    detected = "backend ollama answers the native and openai API"
    assert lines.count(detected) <= int(mode == "auto")
    assert len(terminal.apis) == 1
    assert lines[:4] == opening(terminal.url)
    state = " ".join(" ".join(line for line in lines[4:-2] if line != detected).split())
    assert state == f"backend ollama {upstream} Ollama {standin.version} through {apis} 2 models"
    assert lines[-2:] == ["stopping: requests have 30.0 s to finish", "stopped"]


async def test_what_is_wrong(closed_port: int) -> None:
    """In the words of ``agenthub check``, with what helps; once, and again when it is there."""
    async with shown(OLLAMA_HOST=f"127.0.0.1:{closed_port}") as terminal:
        await terminal.read_until("->")
        lines = await terminal.end()
    assert lines == [
        *opening(terminal.url),
        f"warning  backend ollama  nothing listens at http://127.0.0.1:{closed_port} (connection refused)",
        f"->  Start Ollama: OLLAMA_HOST=127.0.0.1:{closed_port} ollama serve",
        "stopping: requests have 30.0 s to finish",
        "stopped",
    ]


async def test_a_backend_in_the_wrong_mode() -> None:
    """The API that it does speak is named, and the setting."""
    async with openai_server() as server:
        url = str(server.make_url("")).rstrip("/")
        async with shown(OLLAMA_HOST=url) as terminal:
            lines = await terminal.read_until("->")
    assert lines[4:] == [
        "warning  backend ollama",
        f"{url} does not speak the native API, but it does speak openai",
        "->  Set OLLAMA_API_MODE=openai.",
    ]


@pytest.mark.parametrize(
    ("owner", "flavour", "name"),
    [
        ("llamacpp", "auto", "llama.cpp"),
        ("vllm", "auto", "vLLM"),
        ("acme", "vllm", "vLLM"),
        ("acme", "auto", "answers"),
    ],
)
async def test_the_software_of_others(owner: str, flavour: str, name: str) -> None:
    """By the owner that the models are listed with, or by the setting; nothing is made up."""
    async with openai_server(owner) as server:
        url = str(server.make_url("")).rstrip("/")
        variables = {"OLLAMA_HOST": url, "OLLAMA_API_MODE": "openai", "AGENTHUB_BACKENDS__OLLAMA__FLAVOUR": flavour}
        async with shown(**variables) as terminal:
            lines = await terminal.read_until("1 model")
    assert lines[-1] == f"backend ollama  {url}  {name} through the OpenAI API  1 model"


async def test_a_silent_backend_holds_up_nothing() -> None:
    """The hub answers, and the others are told, while one is still waited for; it is told when it answers."""
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def silent(http_request: web.Request) -> web.Response:
        asked.set()
        await may_answer.wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/{path:.*}", silent)
    async with TestServer(app) as server, running(Standin()) as upstream:
        variables = {
            "AGENTHUB_BACKENDS__SLOW__URL": str(server.make_url("")),
            "AGENTHUB_BACKENDS__FAST__URL": upstream,
            "AGENTHUB_HEALTH__PING_TIMEOUT_S": "0",
        }
        async with shown(**variables) as terminal, aiohttp.ClientSession(timeout=PATIENCE) as session:
            await terminal.read_until("backend fast")
            await asked.wait()
            assert not any("backend slow" in line for line in terminal.lines)
            async with session.get(f"{terminal.url}/health") as answer:
                assert answer.status == 200
            may_answer.set()
            await terminal.read_until("backend slow")
            assert any("answers, but not as a model server" in line for line in await terminal.end())


async def test_a_stop_waits_for_no_state() -> None:
    """A backend that is still waited for does not hold up the end."""
    never = asyncio.Event()

    async def silent(http_request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/{path:.*}", silent)
    async with TestServer(app) as server:
        variables = {"OLLAMA_HOST": str(server.make_url("")), "AGENTHUB_HEALTH__PING_TIMEOUT_S": "0"}
        async with shown(**variables) as terminal:
            await terminal.read_until("who may call")
            lines = await terminal.end()
        assert lines[4:] == ["stopping: requests have 30.0 s to finish", "stopped"]
        never.set()


async def test_who_may_call(closed_port: int) -> None:
    """Everyone on the network is worth a warning; with keys the clients are named, not their keys."""
    silent = f"127.0.0.1:{closed_port}"
    async with shown("--host", "0.0.0.0", "--insecure", OLLAMA_HOST=silent) as terminal:
        lines = await terminal.read_until("->")
    port = terminal.url.rpartition(":")[2]
    assert lines[0] == f"listening on http://0.0.0.0:{port}  Ctrl-C stops it"
    assert lines[1:4] == opening(terminal.url, "anyone on the network, without a key")[1:]
    assert lines[4] == "warning  0.0.0.0 is open to other machines, and no client has a key"
    async with shown(OLLAMA_HOST=silent, AGENTHUB_CLIENTS__VSCODE__API_KEY="s3cret") as terminal:
        lines = await terminal.read_until("who may call")
        await terminal.end()
    assert lines[:4] == opening(terminal.url, "clients with a key: vscode", "KEY")
    assert not any("s3cret" in line for line in lines)


def test_a_client_without_a_key_does_not_call() -> None:
    """Only those that have one are named, where any has."""
    clients = {"a": ClientSettings(api_key="k"), "b": ClientSettings()}  # type: ignore[arg-type]
    assert callers(Settings(clients=clients)) == {"callers": ["a"], "needs_key": True}


async def test_several_workers_tell_it_once() -> None:
    """Also when one of them dies and is replaced, and after a reload."""
    pytest.importorskip("gunicorn")
    async with running(Standin(models=("a",))) as upstream, shown("--workers", "3", OLLAMA_HOST=upstream) as terminal:
        lines = await terminal.read_until("1 model")
        assert [line for line in lines if line.startswith(("listening", "who"))] == [
            f"listening on {terminal.url}  3 workers  Ctrl-C stops it",
            "who may call    anyone on this machine, without a key",
        ]
        await terminal.read_boots(3)
        # All at once: one that is still at its start would take over from the first that is killed.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in workers_of(terminal.hub):
                os.kill(pid, number)
        await terminal.read_boots(6)
        for _ in range(2):
            terminal.hub.signal(signal.SIGHUP)
            await terminal.read_until("1 model")
        lines = await terminal.end()
    assert len([line for line in lines if line.startswith("listening")]) == 1
    states = [line for line in lines if line.startswith("backend ollama  ")]
    assert len(states) == 3


async def test_a_reload_tells_what_is_behind_then(tmp_path: Path) -> None:
    """The new backend, and no other; what happened at the start is not told again."""
    async with running(Standin(models=("a",))) as one, running(Standin(models=("a", "b"))) as two:
        file = tmp_path / "hub.toml"
        file.write_text(f'[backends.one]\nurl = "{one}"\n')
        async with shown("--config", str(file)) as terminal:
            await terminal.read_until("1 model")
            file.write_text(f'[backends.two]\nurl = "{two}"\n')
            terminal.hub.signal(signal.SIGHUP)
            lines = await terminal.read_until("2 models")
            assert lines[-1].startswith(f"backend two  {two}  Ollama ")
            assert len([line for line in lines if line.startswith("backend one")]) == 1
            assert len([line for line in await terminal.end() if line.startswith("listening")]) == 1


async def test_in_json_it_is_facts() -> None:
    """One object a line: the old events with who may call, and one for the state of each backend."""
    standin = Standin(models=("a",))
    async with (
        running(standin) as upstream,
        started("serve", "--port", "0", environ=clean_environ(OLLAMA_HOST=upstream)) as hub,
    ):
        await hub.log_line("agenthub.backend_checked")
        hub.signal(signal.SIGTERM)
        _, _, err = await hub.end()
    assert all(line.startswith("{") for line in err.splitlines())
    events = [line["event"] for line in hub.log]
    assert events[:3] == ["Using native Ollama API", "agenthub.listening", "agenthub.backend_checked"]
    assert hub.log[1] | {"callers": "this machine", "needs_key": False} == hub.log[1]
    told: dict[str, Any] = {"backend": "ollama", "url": upstream, "api_mode": "native", "answers": ["native"]}
    assert hub.log[2] | told | {"server": f"Ollama {standin.version}", "models": 1} == hub.log[2]
