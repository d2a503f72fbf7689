"""What ``agenthub doctor`` finds of things that a test cannot break for a process: libraries, clocks, adapters."""

from __future__ import annotations

import json
import os
import time
from importlib.metadata import PackageNotFoundError, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agenthub import AdapterType
from agenthub.cli.doctor import machine, serving
from agenthub.cli.doctor.extensions import Extensions, examine_plugins, load_extensions
from agenthub.cli.doctor.listening import identify
from agenthub.cli.doctor.machine import examine_machine
from agenthub.cli.doctor.origins import Origins
from agenthub.cli.doctor.serving import examine_serving
from agenthub.cli.doctor.upstreams import examine_backends
from agenthub.cli.findings import Finding, Level
from agenthub.middleware import MiddlewareType
from agenthub.plugins import install_command, make_plugins
from agenthub.settings import BackendSettings, ClientSettings, ModelSettings, PluginsSettings, Settings
from agenthub.standin import Standin, running
from tests.cli.support import invoke

LIMIT_S = 5.0
NO_LINES = Origins({}, {})


def named(findings: list[Finding], id: str) -> Finding:
    """Return the only finding of that name."""
    (found,) = (finding for finding in findings if finding.id == id)
    return found


# --- this machine


def test_a_machine_that_lacks_things(monkeypatch: pytest.MonkeyPatch) -> None:
    """No uvloop, an aiohttp that the hub does not know, a library that is not there."""

    def version(name: str) -> str:
        if name != "aiohttp":
            raise PackageNotFoundError
        return "3.99"

    monkeypatch.setattr(machine, "version", version)
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    monkeypatch.setattr(machine, "is_known", lambda: False)
    found = list(examine_machine(None))
    assert named(found, "machine.versions").text.endswith("; aiohttp 3.99")
    assert named(found, "machine.uvloop").level is Level.INFO
    assert named(found, "machine.uvloop").remedies == ["pip install uvloop"]
    assert named(found, "machine.aiohttp").text == "aiohttp 3.99 is not known to the hub: slow clients are not cut off"


def test_a_clock_that_stands_in_the_past(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time before the hub was installed cannot be right."""
    monkeypatch.setattr(machine, "time", SimpleNamespace(time=lambda: 86400.0))
    found = named(list(examine_machine(None)), "machine.clock")
    assert found.level is Level.WARNING
    assert found.text.startswith("the clock of this machine says 1970-01-02, before AgentHub was installed (20")
    monkeypatch.setattr(machine, "time", time)
    assert "machine.clock" not in [finding.id for finding in examine_machine(None)]


@pytest.mark.parametrize(
    ("most", "concurrency", "level", "text"),
    [
        (-1, 0, Level.OK, "open files: no limit"),
        (1024, 0, Level.OK, "open files: at most 1024, enough for some 480 requests at once (two each)"),
        (1024, 100, Level.WARNING,
         "open files: at most 1024, enough for some 480 requests at once (two each); 612 may come"),
        (70, 0, Level.WARNING, "open files: at most 70, enough for some 3 requests at once (two each)"),
    ],
)  # fmt: skip
def test_the_limit_of_files(
    monkeypatch: pytest.MonkeyPatch, most: int, concurrency: int, level: Level, text: str
) -> None:
    """It is held against what the backends' own limits let in, or else against a few."""
    monkeypatch.setattr(machine, "many_files", lambda: most)
    settings = Settings(backends={"a": BackendSettings("http://a", max_concurrency=concurrency)})
    found = named(list(examine_machine(settings)), "machine.files")
    assert (found.level, found.text) == (level, text)


# --- plugins


async def test_adapters_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """The distributions are released together: one that was left behind is named."""
    plugins = make_plugins(PluginsSettings())
    plugins.found = [attrs.evolve(plugin, version="0.0.1") for plugin in plugins.found]
    found = list(examine_plugins(Settings(), Extensions(plugins)))
    assert [(finding.id, finding.subject, finding.remedies) for finding in found] == [
        ("plugin.version", kind, [install_command(kind)]) for kind in ("native", "openai")
    ]


async def test_what_nobody_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A middleware that no plugin has, and one of the two adapters not installed, which is only a note."""
    without = [entry for entry in entry_points(group="agenthub") if entry.name != "openai"]
    monkeypatch.setattr("agenthub.plugins.entry_points", lambda group: without)
    settings = Settings(middleware=("logging", "audit"), plugins=PluginsSettings(disabled=("nativ",)))
    found = list(examine_plugins(settings, load_extensions(settings)))
    expected = ["plugin.loaded", "plugin.unknown", "plugin.middleware", "plugin.missing"]
    assert [finding.id for finding in found] == expected
    assert named(found, "plugin.unknown").remedies == ["Did you mean native?"]
    assert named(found, "plugin.middleware").remedies == ['Take "audit" out of middleware.']


class Rude:
    """An adapter that breaks its promise to raise nothing but AgentHubError."""

    operations: frozenset[str] = frozenset()

    async def __aenter__(self) -> Rude:
        return self

    async def __aexit__(self, *exception: object) -> None:
        pass

    async def ping(self) -> None:
        raise KeyError("nobody caught me")


def with_adapter(make: Any) -> Any:
    plugins = make_plugins(PluginsSettings())
    plugins.adapters["rude"] = AdapterType("rude", "a rude API", make)
    return plugins


async def test_an_adapter_that_raises_anything() -> None:
    """It is the adapter's finding, and no traceback; the others are looked at all the same."""
    async with running(Standin(models=("m",))) as url:
        settings = Settings(backends={"a": BackendSettings(url)}, models={"x": ModelSettings("m", api_mode="rude")})
        plugins = with_adapter(lambda name, settings: Rude())
        found = [finding async for _, finding in examine_backends(settings, plugins, NO_LINES, LIMIT_S)]
    assert [finding.id for finding in found] == [
        "backend.answers", "backend.mode", "backend.adapter_answers", "backend.adapter_answers",
        "backend.adapter_fails", "backend.mode_of", "model.found",
    ]  # fmt: skip
    text = f"backend a: through rude: {url}: the adapter failed: KeyError('nobody caught me')"
    assert named(found, "backend.adapter_fails").text == text
    assert (
        named(found, "backend.mode_of").text
        == "requests for alias x go through rude, whatever the backend and the hub say"
    )


async def test_an_adapter_that_cannot_be_made() -> None:
    """Nothing can be asked then, and the line says why."""

    def make(name: str, settings: BackendSettings) -> Any:
        raise RuntimeError("no licence")

    settings = Settings(backends={"a": BackendSettings("http://a")}, clients={"c": ClientSettings(api_mode="native")})
    found = [finding async for _, finding in examine_backends(settings, with_adapter(make), NO_LINES, LIMIT_S)]
    assert [(finding.id, finding.text) for finding in found] == [
        ("plugin.make", "an adapter cannot be made: RuntimeError('no licence')")
    ]


async def test_a_hub_that_cannot_be_made() -> None:
    """Whatever a plugin's middleware raises when it is made is what keeps the hub from starting."""

    def make(context: object) -> Any:
        raise RuntimeError("no licence")

    plugins = make_plugins(PluginsSettings())
    plugins.middleware["audit"] = MiddlewareType("audit", make)
    settings = Settings(port=0, middleware=("audit",))
    found = [finding async for finding in examine_serving(settings, plugins, LIMIT_S)]
    assert [finding.text for finding in found] == ["the hub will not start: RuntimeError('no licence')"]
    limited = Settings(port=0, middleware=(), clients={"c": ClientSettings(requests_per_minute=1)})
    (found_limited,) = [finding async for finding in examine_serving(limited, plugins, LIMIT_S)]
    assert found_limited.id == "server.start"
    assert "limits" in found_limited.text


# --- what serving needs


async def test_several_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They need gunicorn and a folder for temporary files; without Redis they share nothing."""
    settings, plugins = Settings(port=0, workers=2), make_plugins(PluginsSettings())

    async def ids() -> list[str]:
        return [f"{found.level} {found.id}" async for found in examine_serving(settings, plugins, LIMIT_S)]

    assert find_spec("gunicorn") is not None
    assert await ids() == ["info server.workers_apart"]
    monkeypatch.setattr(serving, "tempfile", SimpleNamespace(gettempdir=lambda: str(tmp_path / "gone")))
    assert await ids() == ["error server.workers", "info server.workers_apart"]
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    assert await ids() == ["error server.workers", "info server.workers_apart"]


async def test_addresses_that_cannot_be_opened() -> None:
    """An address of another machine, and a name that nobody knows."""
    for host in ("192.0.2.1", "hub.invalid"):
        settings = Settings(host=host, insecure=True)
        (found,) = [finding async for finding in examine_serving(settings, None, LIMIT_S)]
        assert (found.id, found.level) == ("server.port", Level.ERROR)
        assert found.text.startswith(f"{host} is no address of this machine")


async def test_who_listens_is_told_by_its_answers() -> None:
    """A server with a /health of its own, or one that says every header back, is no AgentHub."""

    async def health(http_request: web.Request) -> web.Response:
        mark = http_request.headers["X-Request-Id"]
        if http_request.path == "/echo/health":
            return web.Response(text="ok", headers={"X-Request-Id": mark})
        return web.json_response({"status": "ok"}, headers={"Date": "yesterday"})

    app = web.Application()
    app.router.add_get("/{path:.*}", health)
    async with TestServer(app) as server:
        root = str(server.make_url("")).rstrip("/")
        for path in ("", "/echo"):
            found = await identify(root + path, LIMIT_S)
            assert found is not None
            assert found.kind == "http"
        assert (await identify(root, LIMIT_S)).ahead is None  # type: ignore[union-attr]


# --- how it is shown


async def test_nothing_that_a_terminal_obeys(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server says is one line of moderate length, without its control characters, in check and in doctor."""

    async def answer(http_request: web.Request) -> web.Response:
        return web.Response(text="\x1b[2Jfirst\n\n\x07second " + "x" * 5000, status=404)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        monkeypatch.setenv("OLLAMA_HOST", url)
        monkeypatch.setenv("AGENTHUB_PORT", "0")
        shown, told = await invoke("check"), await invoke("doctor")
        report = await invoke("doctor", "--json")
    said = f"{url} answers, but not as a model server: \\x1b[2Jfirst \\x07second {'x' * 280}"
    for result in (shown, told):
        assert f"FAIL  backend ollama: {said}" in result.stdout
        assert not {"\x1b", "\x07"} & set(result.stdout)
    assert json.loads(report.stdout)["status"] == "error"
    assert "\x1b" not in report.stdout


async def test_layers_that_say_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """To have what is hidden, each layer above it that says otherwise must go; what all agree on hides nothing."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config/agenthub.toml").write_text('api_mode = "openai"\nstrict = true\n')
    (tmp_path / ".env").write_text("OLLAMA_API_MODE=native\nAGENTHUB_STRICT=yes\n")
    monkeypatch.setenv("OLLAMA_API_MODE", "native")
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    monkeypatch.setenv("AGENTHUB_PORT", "0")
    lines = (await invoke("doctor")).stdout.splitlines()
    at = lines.index(
        "note  api_mode = native from environment OLLAMA_API_MODE "
        "hides native from .env:1 OLLAMA_API_MODE and openai from config/agenthub.toml:1"
    )
    assert lines[at + 1 : at + 3] == [
        "  ->  To use what is hidden: unset OLLAMA_API_MODE",
        "  ->  To use what is hidden: Take it out of .env:1 OLLAMA_API_MODE.",
    ]
    assert "      strict = true from .env:2 AGENTHUB_STRICT" in lines


async def test_files_in_unusual_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start it elsewhere with --config: the .env of the project is not read, and that of the working directory is."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    (project / "config").mkdir(parents=True)
    elsewhere.mkdir()
    (project / "config/agenthub.toml").write_text("port = 0\n")
    (project / ".env").write_text("AGENTHUB_STRICT=yes\n")
    (elsewhere / ".env").write_text("OLLAMA_HOST=127.0.0.1:1\n")
    monkeypatch.chdir(elsewhere)
    config = f"{project}/config/agenthub.toml"
    lines = (await invoke("doctor", "--config", config)).stdout.splitlines()
    text = f"warn  {project}/.env is not read: .env is looked for in the working directory, which is {elsewhere}"
    at = lines.index(text)
    assert lines[at + 1 : at + 4] == [
        f"  ->  cd {project}",
        f"  ->  Or copy it: cp {project}/.env {elsewhere}/.env",
        f"note  {elsewhere}/.env is read, since that is the working directory, and goes before {config}",
    ]
    assert os.getcwd() == str(elsewhere)
