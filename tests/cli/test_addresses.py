"""A backend that is the hub itself, or leads back to it by others: what the commands say, and that serve refuses."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agenthub.cli.addresses import leads_to
from agenthub.settings import BackendSettings
from agenthub.standin import Standin, running
from tests.cli.support import clean_environ, finished, invoke, started
from tests.hubs import until
from tests.test_loops import hubs, mesh, ring

ITSELF = "is this hub itself, which would ask itself without end"


def write(name: str, text: str) -> None:
    """Write a file in the working directory, which is the test's own."""
    Path(name).write_text(text)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        number: int = found.getsockname()[1]
    return number


@pytest.mark.parametrize(
    ("url", "host", "expected"),
    [
        ("http://127.0.0.1:9090", "127.0.0.1", True),
        ("http://127.0.0.1:9090/v1", "127.0.0.1", True),
        ("http://localhost:9090", "127.0.0.1", True),
        ("http://LOCALHOST:9090", "127.0.0.1", True),
        ("http://0.0.0.0:9090", "127.0.0.1", True),
        ("http://[::ffff:127.0.0.1]:9090", "127.0.0.1", True),
        ("https://127.0.0.1:9090", "127.0.0.1", True),
        ("http://127.0.0.1:9090", "localhost", True),
        ("http://127.0.0.1:9090", "0.0.0.0", True),
        ("http://127.8.8.8:9090", "0.0.0.0", True),
        ("http://[::1]:9090", "::", True),
        ("http://[::]:9090", "::1", True),
        ("http://127.0.0.1:9091", "127.0.0.1", False),
        ("http://127.0.0.2:9090", "127.0.0.1", False),
        ("http://192.0.2.7:9090", "0.0.0.0", False),
        ("http://192.0.2.7:9090", "127.0.0.1", False),
        ("http://[::1]:9090", "127.0.0.1", False),
        ("http://nowhere.invalid:9090", "0.0.0.0", False),
        ("http://127.0.0.1", "127.0.0.1", False),
    ],
)
def test_which_urls_lead_to_the_hub(url: str, host: str, expected: bool) -> None:
    """Names and spellings of the address that the hub listens on do, other addresses of the machine do not."""
    assert leads_to(url, host, 9090) is expected


def test_the_usual_ports() -> None:
    """A URL without a port means its scheme's."""
    assert leads_to("http://127.0.0.1", "127.0.0.1", 80)
    assert leads_to("https://127.0.0.1", "127.0.0.1", 443)
    assert not leads_to("http://127.0.0.1:9090", "127.0.0.1", 0)


def test_the_machines_own_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the hub listens on every address, whatever name leads to one of this machine's is the hub."""
    monkeypatch.setattr("agenthub.cli.addresses._is_local", lambda address: str(address) == "192.0.2.7")
    assert leads_to("http://192.0.2.7:9090", "0.0.0.0", 9090)
    assert not leads_to("http://192.0.2.8:9090", "0.0.0.0", 9090)
    assert not leads_to("http://192.0.2.7:9090", "127.0.0.1", 9090)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_serve_does_not_start(workers: str) -> None:
    """OLLAMA_HOST exported as the ollama command needs it stops the start with one line that says what helps."""
    port = str(free_port())
    environ = clean_environ(OLLAMA_HOST=f"127.0.0.1:{port}")
    status, out, err = await finished("serve", "--port", port, "--workers", workers, environ=environ)
    assert (status, out) == (2, "")
    (line,) = [line for line in err.splitlines() if not line.startswith("{")]
    assert line.startswith("agenthub: environment: OLLAMA_HOST: backends.ollama.url: ")
    assert f"http://127.0.0.1:{port} {ITSELF}" in line
    assert "env -u OLLAMA_HOST agenthub serve" in line
    assert "AGENTHUB_BACKENDS__OLLAMA__URL=" in line


async def test_another_url_for_the_hub_alone() -> None:
    """What the line says helps does: the variable for the ollama command stays as it is."""
    port = str(free_port())
    async with running(Standin()) as url:
        environ = clean_environ(OLLAMA_HOST=f"127.0.0.1:{port}", AGENTHUB_BACKENDS__OLLAMA__URL=url)
        async with started("serve", "--port", port, environ=environ) as hub:
            await hub.log_line("agenthub.listening")
            hub.signal(signal.SIGTERM)
            assert (await hub.end())[0] == 0


async def test_in_dotenv() -> None:
    """The same in .env, where to unset a variable is no help."""
    port = str(free_port())
    write(".env", f"OLLAMA_HOST=localhost:{port}\n")
    status, _, err = await finished("serve", "--port", port, environ=clean_environ())
    assert status == 2
    assert "start the hub without it: take it out of .env" in err


async def test_a_backend_of_several() -> None:
    """A backend in a file is named with its place there."""
    port = str(free_port())
    write("hub.toml", f'[backends.a]\nurl = "http://127.0.0.1:1"\n[backends.b]\nurl = "http://0.0.0.0:{port}"')
    arguments = ("serve", "--config", "hub.toml", "--port", port)
    status, _, err = await finished(*arguments, environ=clean_environ())
    assert status == 2
    assert f"backends.b.url: http://0.0.0.0:{port} {ITSELF}" in err
    assert "Point backends.b.url (hub.toml" in err


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_reload_is_refused(workers: str) -> None:
    """A file that would have the hub ask itself changes nothing: the old settings go on."""
    async with running(Standin()) as url, aiohttp.ClientSession() as session:
        write("hub.toml", f'[backends.a]\nurl = "{url}"\n')
        arguments = ("serve", "--port", "0", "--workers", workers, "--config", "hub.toml")
        async with started(*arguments, environ=clean_environ()) as hub:
            own = (await hub.log_line("agenthub.listening"))["url"]
            for _ in range(int(workers) if workers != "1" else 0):
                await hub.log_line("Using native Ollama API")
            write("hub.toml", f'[backends.a]\nurl = "{own}"\n')
            hub.signal(signal.SIGHUP)
            assert ITSELF in (await hub.log_line("agenthub.reload_failed"))["error"]
            async with session.get(f"{own}/api/tags") as answer:
                assert answer.status == 200
            hub.signal(signal.SIGTERM)
            await hub.end()


async def test_workers_are_one_hub() -> None:
    """All processes of one hub have one name, and the next start has another."""
    seen: set[str] = set()

    async def note(http_request: web.Request) -> web.Response:
        seen.update(http_request.headers.getall("Via"))
        return web.json_response({"models": [], "version": "0.9.3"})

    app = web.Application()
    app.router.add_get("/{path:.*}", note)
    names = []
    async with TestServer(app) as server:
        for _ in range(2):
            seen.clear()
            environ = clean_environ(AGENTHUB_BACKENDS__ONE__URL=str(server.make_url("")))
            async with started("serve", "--workers", "3", "--port", "0", environ=environ) as hub:
                await hub.log_line("agenthub.listening")
                for _ in range(3):
                    await hub.log_line("Using native Ollama API")
                await until(lambda: seen)
                hub.signal(signal.SIGTERM)
                assert (await hub.end())[0] == 0
            names.append(frozenset(seen))
    assert [len(each) for each in names] == [1, 1]
    assert names[0] != names[1]


async def test_the_demo_beside_an_ollama_on_its_port() -> None:
    """An Ollama on the port that the demo would take is not the demo: that takes the next port."""
    async with running(Standin(models=("talker",))) as url:
        environ = clean_environ(OLLAMA_HOST=url)
        status, out, err = await finished("demo", "--exit", "--port", url.rpartition(":")[2], environ=environ)
    assert (status, err) == (0, "")
    assert f"{url}, Ollama {Standin().version}, model talker" in out


Backends = Callable[[int, Sequence[str]], Mapping[str, BackendSettings]]


@pytest.mark.parametrize("command", ["check", "doctor"])
@pytest.mark.parametrize(
    ("count", "backends", "way"),
    [(1, ring, "one > next"), (2, ring, "one > next > next"), (3, ring, "one > next > next")],
)
async def test_a_loop_of_several(command: str, count: int, backends: Backends, way: str) -> None:
    """A hub whose backends lead back to it is named, with the way by the names of the backends."""
    async with hubs(count, backends) as served:
        write("hub.toml", f'[backends.one]\nurl = "{served.members[0].url}"\n')
        result = await invoke(command, "--config", "hub.toml")
    assert result.exit_code == 1
    text = f"backend one: {served.members[0].url} is an AgentHub from which requests come back to it, by the backends "
    assert f"{text}{way}" in result.stdout


async def test_a_loop_beside_model_servers() -> None:
    """It is found too where each hub has an Ollama of its own, so that nothing fails at once."""
    async with running(Standin(models=("m",))) as url:
        own = {"own": BackendSettings(url=url)}
        async with hubs(2, lambda number, urls: {**own, **mesh(number, urls)}) as served:
            write("hub.toml", f'[backends.one]\nurl = "{served.members[0].url}"\n')
            result = await invoke("check", "--config", "hub.toml")
            assert result.exit_code == 1
            assert "by the backends one > hub1" in result.stdout
            # The hubs themselves say so too, once each.
            for _ in range(3):
                for member in served.members:
                    await member.hub.router.refresh()
            told = [line["way"] for line in served.logged("agenthub.backend_loops") if line["backend"] != "one"]
            assert sorted(told) == ["hub0 > hub1", "hub1 > hub0"]


async def test_a_line_of_hubs_is_no_loop() -> None:
    """Hubs behind each other are well."""
    async with (
        running(Standin(models=("m",))) as url,
        hubs(2, lambda number, urls: {"on": BackendSettings(url=urls[1] if number == 0 else url)}) as served,
    ):
        write("hub.toml", f'[backends.one]\nurl = "{served.members[0].url}"\n')
        result = await invoke("check", "--config", "hub.toml")
    assert result.exit_code == 0
    assert "with 1 model: m" in result.stdout


async def test_two_processes_that_name_each_other() -> None:
    """Two hubs as they are started by hand: few lines in the log, and check finds the loop."""
    one, two = (str(free_port()) for _ in range(2))
    fast = {"AGENTHUB_HEALTH__INTERVAL_S": "0.1", "AGENTHUB_HEALTH__MODELS_REFRESH_S": "0.1"}

    def environ(port: str) -> dict[str, str]:
        return clean_environ(AGENTHUB_BACKENDS__OTHER__URL=f"http://127.0.0.1:{port}", **fast)

    async with (
        started("serve", "--port", one, environ=environ(two)) as first,
        started("serve", "--port", two, environ=environ(one)) as second,
    ):
        for hub in (first, second):
            await hub.log_line("agenthub.listening")
        write("hub.toml", f'[backends.other]\nurl = "http://127.0.0.1:{two}"\n')
        result = await invoke("check", "--config", "hub.toml", "--set", f"port={one}")
        assert result.exit_code == 1
        assert "by the backends other > other" in result.stdout
        for hub in (first, second):
            hub.signal(signal.SIGTERM)
            assert (await hub.end())[0] == 0
            assert len(hub.log) < 20
