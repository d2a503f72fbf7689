"""``agenthub serve``, as a process of its own that gets real signals."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys
from typing import Any

import aiohttp
import pytest

from agenthub.cli.ports import CannotListen, open_port
from agenthub.cli.server import Server
from agenthub.cli.serving import run, serve
from agenthub.settings import BackendSettings, Settings
from agenthub.standin import Standin, running
from tests.cli.support import LIMIT_S, clean_environ, finished, started, taken_port

CHAT = {"model": "standin", "messages": [{"role": "user", "content": "Hello"}]}


async def refused(url: str) -> None:
    """Return as soon as new connections to ``url`` are refused."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                async with aiohttp.ClientSession() as session:
                    await session.get(f"{url}/health")
            except aiohttp.ClientConnectorError:
                return
            except aiohttp.ClientError:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_running_request_is_finished(number: int) -> None:
    """At a signal no new request is taken, the one that runs is answered to its end, and the process ends with 0."""
    standin = Standin(pace_s=0.02)
    async with (
        running(standin) as upstream,
        started("serve", "--port", "0", environ=clean_environ(OLLAMA_HOST=upstream)) as hub,
    ):
        url = (await hub.log_line("agenthub.listening"))["url"]
        async with aiohttp.ClientSession() as session, session.post(f"{url}/api/chat", json=CHAT) as response:
            first = await response.content.readline()
            hub.signal(number)
            await hub.log_line("agenthub.stopping")
            lines = [first, *[line async for line in response.content]]
        status, out, err = await hub.end()
    assert json.loads(lines[-1])["done"] is True
    assert "".join(json.loads(line)["message"]["content"] for line in lines).startswith("You said: Hello.")
    assert (status, out) == (0, "")
    assert json.loads(err.splitlines()[-1])["event"] == "agenthub.stopped"
    assert standin.abandoned.count == 0


async def test_a_second_signal_ends_it_at_once() -> None:
    """While an endless answer keeps the hub from ending, new connections are refused; a second signal breaks it off."""
    standin = Standin(endless=True, pace_s=0.01)
    async with (
        running(standin) as upstream,
        started("serve", "--port", "0", environ=clean_environ(OLLAMA_HOST=upstream)) as hub,
    ):
        url = (await hub.log_line("agenthub.listening"))["url"]
        async with aiohttp.ClientSession() as session, session.post(f"{url}/api/chat", json=CHAT) as response:
            await response.content.readline()
            hub.signal(signal.SIGTERM)
            await refused(url)
            assert b'"done":false' in await response.content.readline()
            hub.signal(signal.SIGTERM)
            status, _, err = await hub.end()
        await standin.abandoned.reach(1)
    assert status == 0
    assert "Traceback" not in err


@pytest.mark.parametrize("drain_s", ["0", "0.2"])
async def test_an_answer_that_never_ends_is_cut(drain_s: str) -> None:
    """An answer that runs for longer than drain_s is broken off, here and upstream; 0 does not wait at all."""
    standin = Standin(endless=True, pace_s=0.01)
    arguments = ("serve", "--port", "0", "--set", f"drain_s={drain_s}")
    async with running(standin) as upstream, started(*arguments, environ=clean_environ(OLLAMA_HOST=upstream)) as hub:
        url = (await hub.log_line("agenthub.listening"))["url"]
        async with aiohttp.ClientSession() as session, session.post(f"{url}/api/chat", json=CHAT) as response:
            await response.content.readline()
            hub.signal(signal.SIGTERM)
            status, _, err = await hub.end()
        await standin.abandoned.reach(1)
    assert status == 0
    assert "Traceback" not in err


async def test_a_port_in_use() -> None:
    """A port in use is one line with the remedy and status 1; nothing else is said or asked before."""
    with taken_port(listening=True) as port:
        result = await finished("serve", "--port", str(port))
    line = f"agenthub: port {port} on 127.0.0.1 is in use: stop what listens there, or choose another with --port\n"
    assert result == (1, "", line)


async def test_wrong_settings() -> None:
    """A wrong setting is one line that says where it stands and what is allowed, and status 2."""
    environ = clean_environ(AGENTHUB_DRAIN_S="soon")
    line = (
        'agenthub: environment: AGENTHUB_DRAIN_S: drain_s: "soon" is not allowed: use a number of seconds, 0 or more\n'
    )
    assert await finished("serve", environ=environ) == (2, "", line)


@pytest.mark.parametrize("command", ["serve", "check", "models"])
async def test_a_key_that_is_none(command: str) -> None:
    """It would leave the hub open, or be one in clear, in silence: no command goes on with it, and none shows it."""
    variable = "AGENTHUB_CLIENTS__E__API_KEY"
    lead = f"agenthub: environment: {variable}: clients.e.api_key: the"
    for text, problem in {
        "": "key is empty: use a key, or leave the setting out",
        "sha256:1234": "digest (not shown) is not one: use sha256: and 64 hexadecimal digits",
    }.items():
        assert await finished(command, environ=clean_environ(**{variable: text})) == (2, "", f"{lead} {problem}\n")


async def test_many_files_may_be_open() -> None:
    """A shell's low limit on open files, which is on connections too, is raised as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        async with started("serve", "--port", "0", environ=clean_environ()) as hub:
            await hub.log_line("agenthub.listening")
            raised, _ = resource.prlimit(hub.process.pid, resource.RLIMIT_NOFILE)
            hub.signal(signal.SIGTERM)
            await hub.end()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert raised == (hard if 0 < hard < 2**16 else 2**16)


async def test_the_log_says_what_it_uses() -> None:
    """The start names the adapter and the URL; every line is one JSON object where stderr is no terminal."""
    environ = clean_environ(OLLAMA_API_MODE="openai")
    async with started("serve", "--port", "0", environ=environ) as hub:
        using = await hub.log_line("Using OpenAI-compatible Ollama API")
        listening = await hub.log_line("agenthub.listening")
        hub.signal(signal.SIGTERM)
        status, _, err = await hub.end()
    assert using["url"] == "http://127.0.0.1:11434"
    assert listening["url"].startswith("http://127.0.0.1:")
    assert all(isinstance(json.loads(line), dict) for line in err.splitlines())
    assert status == 0


def test_a_host_that_is_not_ours() -> None:
    """An address of another machine, or a name that is none, is refused with the addresses that would do."""
    for host in ("192.0.2.1", "nowhere.invalid"):
        with pytest.raises(CannotListen, match=rf"^{host} is no address of this machine: use --host 127\.0\.0\.1"):
            open_port(host, 0)


def test_all_addresses_share_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """With port 0 every address of a host name gets the same free port; one that the machine lacks is left out."""
    import socket

    stream = (socket.SOCK_STREAM, 6, "")
    found = [
        (socket.AF_INET, *stream, ("192.0.2.1", 0)),
        (socket.AF_INET, *stream, ("127.0.0.1", 0)),
        (socket.AF_INET, *stream, ("127.0.0.2", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    sockets = open_port("somehost", 0)
    names = [opened.getsockname() for opened in sockets]
    for opened in sockets:
        opened.close()
    assert [host for host, _ in names] == ["127.0.0.1", "127.0.0.2"]
    assert len({port for _, port in names}) == 1


async def test_spare_ports_and_ready() -> None:
    """Where the port is in use a spare one is taken; `serve` tells its URL to `ready` once requests are answered."""
    backends = {"x": BackendSettings("http://127.0.0.1:9")}
    with taken_port(listening=True) as port:
        async with Server(Settings(port=port, backends=backends), spare_ports=(port, 0)) as url:
            assert not url.endswith(f":{port}")
    told: asyncio.Queue[str] = asyncio.Queue()
    serving = asyncio.create_task(serve(Settings(port=0, backends=backends), ready=told.put_nowait))
    url = await asyncio.wait_for(told.get(), LIMIT_S)
    async with aiohttp.ClientSession() as session, session.get(f"{url}/health") as response:
        assert response.status == 200
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


def test_uvloop_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` uses uvloop when it can be imported and asyncio's own loop when not."""

    class Loop(asyncio.SelectorEventLoop):
        """Stands for uvloop's."""

    async def which() -> Any:
        return type(asyncio.get_running_loop())

    monkeypatch.setitem(sys.modules, "uvloop", type(sys)("uvloop"))
    monkeypatch.setattr(sys.modules["uvloop"], "new_event_loop", Loop, raising=False)
    assert run(which()) is Loop
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run(which()).__module__.startswith("asyncio")


async def test_an_open_address_needs_a_key_or_a_word() -> None:
    """Beyond loopback without keys the start stops with one line; --insecure, its variable or a key let it start."""
    line = (
        "agenthub: command line: host: 0.0.0.0 is open to other machines, and no client has a key: "
        "give one a key (clients.NAME.api_key), or use --insecure (insecure = true, AGENTHUB_INSECURE=true)\n"
    )
    arguments = ("serve", "--host", "0.0.0.0", "--port", "0")
    assert await finished(*arguments) == (2, "", line)
    for more, environ in (
        (("--insecure",), clean_environ()),
        ((), clean_environ(AGENTHUB_INSECURE="1")),
        ((), clean_environ(AGENTHUB_CLIENTS__CI__API_KEY="key")),
    ):
        async with started(*arguments, *more, environ=environ) as hub:
            assert (await hub.log_line("agenthub.listening"))["url"].startswith("http://0.0.0.0:")
            hub.signal(signal.SIGTERM)
            assert (await hub.end())[0] == 0
