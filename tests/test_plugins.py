"""Plugins: found through entry points only, loaded or refused by name, and unable to silence each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from contextlib import aclosing
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import structlog

from agenthub import AdapterType, MiddlewareType, hookimpl, hookspecs
from agenthub.app import make_app, make_hub
from agenthub.errors import ConfigError, PluginError
from agenthub.plugins import Plugins, make_plugins
from agenthub.settings import BackendSettings, PluginsSettings, Settings
from agenthub.standin import Fault, Standin, running
from tests.hubs import running_hub

BACKENDS = {"ollama": BackendSettings(url="http://127.0.0.1:9")}
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
BODY: dict[str, Any] = {"model": "standin", "messages": MESSAGES, "stream": False}


@pytest.fixture
def plugins() -> Plugins:
    return make_plugins(PluginsSettings())


def make_module(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> EntryPoint:
    """Return an entry point of a module that exists for this test."""
    module = ModuleType(f"module_of_{name}")
    for key, value in members.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return EntryPoint(name=name, value=module.__name__, group="agenthub")


def adapters(*kinds: str) -> Any:
    @hookimpl
    def agenthub_register_adapters() -> list[AdapterType]:
        return [AdapterType(kind, kind, lambda name, settings: None) for kind in kinds]  # type: ignore[arg-type,return-value]

    return agenthub_register_adapters


def test_the_installed_adapters_are_found(plugins: Plugins) -> None:
    """Through their entry points, each with its distribution."""
    assert set(plugins.adapters) == {"native", "openai"}
    found = {info.name: info.distribution for info in plugins.found}
    assert found == {"native": "agenthub-adapter-native", "openai": "agenthub-adapter-openai"}


def test_without_an_adapter_the_other_serves() -> None:
    """A disabled one is not loaded; an api mode that needs it stops the start and says what there is."""
    plugins = make_plugins(PluginsSettings(disabled=("openai",)))
    assert set(plugins.adapters) == {"native"}
    assert [info.problem for info in plugins.found] == ["", "disabled"]
    make_app(Settings(backends=BACKENDS), plugins=plugins)
    with pytest.raises(ConfigError, match=r"api_mode.*'openai'.*native"):
        make_app(Settings(backends=BACKENDS, api_mode="openai"), plugins=plugins)


def test_without_any_adapter_the_start_stops() -> None:
    """With the command that helps."""
    plugins = make_plugins(PluginsSettings(), found=[])
    with pytest.raises(ConfigError, match=r"pip install .*plugins/agenthub-adapter-native"):
        make_app(Settings(backends=BACKENDS), plugins=plugins)


def test_a_plugin_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start stops, or goes on without it where on_error says skip."""
    broken = EntryPoint(name="broken", value="no_such_module_at_all", group="agenthub")
    with pytest.raises(PluginError, match=r"plugin broken \(no_such_module_at_all.*No module named"):
        make_plugins(PluginsSettings(), found=[broken])
    good = make_module(monkeypatch, "good", agenthub_register_adapters=adapters("good"))
    with structlog.testing.capture_logs() as lines:
        plugins = make_plugins(PluginsSettings(on_error="skip"), found=[broken, good])
    assert set(plugins.adapters) == {"good"}
    assert [line["event"] for line in lines] == ["agenthub.plugin_skipped"]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"agenthub_register_adapters": adapters("other")}, "must equal the plugin's name"),
        ({"agenthub_registre_adapters": hookimpl(lambda: [])}, "unknown hook"),
        ({"agenthub_dispatch_started": hookimpl(lambda nonsense: None)}, "nonsense"),
        ({"agenthub_register_adapters": hookimpl(lambda: 1 / 0)}, "failed to register.*division"),
        (
            {"agenthub_register_middleware": hookimpl(lambda: [MiddlewareType("caching", lambda context: None)])},  # type: ignore[arg-type,return-value]
            "'caching' is taken by builtin",
        ),
    ],
    ids=["kind", "unknown-hook", "argument", "raises", "taken"],
)
def test_a_plugin_that_breaks_the_contract_is_named(
    monkeypatch: pytest.MonkeyPatch, members: dict[str, Any], words: str
) -> None:
    """A wrong kind, a misspelt hook, a wrong argument, a hook that raises, a name that is taken."""
    for name, function in members.items():
        function.__name__ = name
    entry = make_module(monkeypatch, "strange", **members)
    with pytest.raises(PluginError, match=f"(?s)strange.*{words}"):
        make_plugins(PluginsSettings(), found=[entry])


def test_two_distributions_may_not_offer_one_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pluggy would keep the first and say nothing; nor may anyone take the name of the built-in plugin."""
    for number in (1, 2):
        info = tmp_path / f"dist_{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dist-{number}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[agenthub]\ntwice = os\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"dist-1.*dist-2.*'twice' is taken"):
        make_plugins(PluginsSettings())
    with pytest.raises(PluginError, match="'builtin' is taken"):
        make_plugins(PluginsSettings(), found=[EntryPoint("builtin", "os", "agenthub")])


def test_unknown_middleware_stops_the_start(plugins: Plugins) -> None:
    """With the names that there are."""
    settings = Settings(backends=BACKENDS, middleware=("logging", "cashing"))
    with pytest.raises(ConfigError, match=r"'cashing'.*logging, limits, caching, failover, circuit_breaker"):
        make_hub(settings, plugins)


async def test_the_order_of_the_middleware_is_the_settings(plugins: Plugins) -> None:
    """The first is the outermost: with the breaker outside, an open breaker hides the cache."""
    standin = Standin()
    async with running(standin) as upstream:
        for order, status in ((("caching", "circuit_breaker"), 200), (("circuit_breaker", "caching"), 503)):
            async with running_hub(upstream, middleware=order) as hub:
                cold = BODY | {"options": {"temperature": 0}}
                assert (await hub.post("/api/chat", cold)).status == 200
                standin.script(*[Fault.answer(500)] * 3)
                for _ in range(3):
                    await hub.post("/api/chat", BODY)
                assert (await hub.post("/api/chat", cold)).status == status


class Observer:
    """Implements every observing hook, and fails in each if told so."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.seen: list[tuple[Any, ...]] = []

    def _see(self, *facts: Any) -> None:
        self.seen.append(facts)
        if self.fails:
            raise RuntimeError("observer is broken")

    @hookimpl
    def agenthub_dispatch_started(self, dispatch: Any) -> None:
        self._see("started", dispatch.request.model)

    @hookimpl
    def agenthub_dispatch_finished(self, dispatch: Any, outcome: Any) -> None:
        self._see("finished", dispatch.request.model, outcome.name)

    @hookimpl
    def agenthub_breaker_changed(self, backend: str, old: str, new: str) -> None:
        self._see("breaker", backend, old, new)


async def test_observers_see_each_dispatch_once_whatever_becomes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answered, cached, rejected, failed and abandoned; one that raises is logged and silences no other."""
    broken, good = Observer(fails=True), Observer()
    found = [EntryPoint(kind, f"agenthub_adapter_{kind}", "agenthub") for kind in ("native", "openai")]
    found += [make_module(monkeypatch, "a", plugin=broken), make_module(monkeypatch, "b", plugin=good)]
    found[2:] = [EntryPoint(entry.name, f"{entry.value}:plugin", "agenthub") for entry in found[2:]]
    plugins = make_plugins(PluginsSettings(), found=found)
    standin = Standin()
    async with running(standin) as upstream, running_hub(upstream, plugins=plugins, middleware=("caching",)) as hub:
        cold = BODY | {"options": {"temperature": 0}}
        for body in (BODY, cold, cold, BODY | {"template": "x", "model": "nope"}):
            await hub.post("/api/chat", body)
        standin.script(Fault.answer(500))
        await hub.post("/api/chat", BODY)
        standin.endless, standin.pace_s = True, 0.01
        async with hub.http.post(hub.url + "/api/chat", json=BODY | {"stream": True}) as response:
            await response.content.readany()
            response.close()
        await standin.abandoned.reach(1)
        outcomes = [facts[2] for facts in good.seen if facts[0] == "finished"]
        assert outcomes == ["ok", "ok", "cached", "rejected", "failed", "abandoned"]
        assert sum(facts[0] == "started" for facts in good.seen) == 6
        assert broken.seen == good.seen
        assert {line["plugin"] for line in hub.lines if line["event"] == "agenthub.hook_failed"} == {"a"}


async def test_a_plugin_may_choose_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """select_backend: the first answer that is not None counts; one that raises makes that dispatch a 500."""

    @hookimpl
    def agenthub_select_backend(request: Any, candidates: Any) -> Any:
        if request.options.get("seed") == 13:
            raise RuntimeError("unlucky")
        return candidates[-1] if request.options.get("seed") == 1 else None

    found = [EntryPoint("native", "agenthub_adapter_native", "agenthub")]
    found.append(make_module(monkeypatch, "chooser", agenthub_select_backend=agenthub_select_backend))
    plugins = make_plugins(PluginsSettings(), found=found)
    async with running(Standin()) as one, running(Standin()) as two:
        backends = {"one": BackendSettings(url=one), "two": BackendSettings(url=two)}
        async with running_hub(backends, plugins=plugins) as hub:
            chosen = [
                (await hub.post("/api/chat", BODY | {"options": {"seed": seed}})).headers["X-AgentHub-Backend"]
                for seed in (0, 1)
            ]
            assert chosen == ["one", "two"]
            failed = await hub.post("/api/chat", BODY | {"options": {"seed": 13}})
            assert (failed.status, failed.json()) == (500, {"error": "internal error"})


def test_every_hook_is_documented() -> None:
    """Each says when it is called and what happens if it raises."""
    hooks = [value for name, value in vars(hookspecs).items() if name.startswith("agenthub_")]
    assert len(hooks) == 7
    for hook in hooks:
        assert "raises" in (hook.__doc__ or ""), hook.__name__


ECHO = """
import agenthub

@agenthub.hookimpl
def agenthub_register_adapters():
    return [agenthub.AdapterType("echo", "echo of the prompt", lambda name, settings: Echo())]

class Echo:
    operations = frozenset({"chat"})
    async def __aenter__(self):
        return self
    async def __aexit__(self, *error):
        pass
    async def ping(self):
        pass
    async def models(self):
        return [agenthub.ModelInfo("parrot", "openai", {})]
    def losses(self, request):
        return ()
    async def chat(self, request):
        yield (agenthub.Started(streamed=True),)
        for word in request.messages[-1].content.split():
            yield (agenthub.TextDelta(word + " "),)
        yield (agenthub.Finished("stop", agenthub.Usage(1, 2)),)
"""
ASK = """
import asyncio, aiohttp, json
from aiohttp import web
from agenthub.app import make_app
from agenthub.log import configure_logging
from agenthub.settings import load
from pathlib import Path

async def main():
    environ = {"AGENTHUB_API_MODE": "echo", "AGENTHUB_BACKENDS__BIRD__URL": "http://127.0.0.1:9"}
    settings = load(None, environ, directory=Path("."))
    configure_logging(settings.log)
    runner = web.AppRunner(make_app(settings))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    message = {"model": "parrot", "messages": [{"role": "user", "content": "polly wants a cracker"}], "stream": False}
    async with aiohttp.ClientSession() as http:
        for path in ("/api/chat", "/v1/chat/completions"):
            async with http.post(url + path, json=message) as response:
                print(json.dumps(await response.json()))
        async with http.post(url + "/api/generate", json={"model": "parrot", "prompt": "hi"}) as response:
            print(response.status, await response.text())
    await runner.cleanup()

asyncio.run(main())
"""


def test_a_third_distribution_is_picked_up(tmp_path: Path) -> None:
    """A package that is really installed brings an adapter, and the hub serves it in both dialects, unchanged."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "agenthub_adapter_echo.py").write_text(ECHO)
    (source / "pyproject.toml").write_text(
        textwrap.dedent(
            """
            [build-system]
            requires = ["setuptools"]
            build-backend = "setuptools.build_meta"
            [project]
            name = "agenthub-adapter-echo"
            version = "1.0"
            [project.entry-points.agenthub]
            echo = "agenthub_adapter_echo"
            [tool.setuptools]
            py-modules = ["agenthub_adapter_echo"]
            """
        )
    )
    target = tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*pip, str(target), str(source)], check=True, timeout=50, capture_output=True)
    asked = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, "PYTHONPATH": str(target)},
        cwd=tmp_path,
        check=True,
        timeout=30,
        capture_output=True,
        text=True,
    )
    native, completion, generated = asked.stdout.splitlines()
    assert json.loads(native)["message"]["content"] == "polly wants a cracker "
    assert json.loads(completion)["choices"][0]["message"]["content"] == "polly wants a cracker "
    assert generated.startswith("501 ")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("after", [0, 1])
async def test_a_middleware_that_crashes(monkeypatch: pytest.MonkeyPatch, streamed: bool, after: int) -> None:
    """Before the first byte it is a 500; after it the stream ends with an error frame, and nothing else follows."""

    async def crashing(dispatch: Any, handler: Any) -> Any:
        async with aclosing(handler(dispatch)) as batches:
            async for batch in batches:
                if after:
                    yield batch[:1]
                raise KeyError("secret")

    @hookimpl
    def agenthub_register_middleware() -> list[MiddlewareType]:
        return [MiddlewareType("crashing", lambda context: crashing)]

    entry = make_module(monkeypatch, "crashing", agenthub_register_middleware=agenthub_register_middleware)
    plugins = make_plugins(PluginsSettings(), found=[*entry_points(group="agenthub"), entry])
    async with (
        running(Standin(text="a b c d e f")) as upstream,
        running_hub(upstream, plugins=plugins, middleware=("logging", "crashing")) as hub,
    ):
        for path in ("/api/chat", "/v1/chat/completions"):
            body = {"model": "standin", "messages": [{"role": "user", "content": "hi"}], "stream": streamed}
            answer = await hub.post(path, body)
            assert "secret" not in answer.text
            if streamed and after:
                assert (answer.status, "internal error" in str(answer.frames()[-1]["error"])) == (200, True)
                assert "HTTP/1.1" not in answer.text
            else:
                assert (answer.status, "internal error" in answer.text) == (500, True)
        assert [line["event"] for line in hub.lines].count("agenthub.request_crashed") == 2
